"""The installation of `make`, with a fake pip or a fake Python."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "install"


@pytest.mark.parametrize("exit_code", [0, 3])
def test_pip_is_logged_and_its_last_lines_are_printed_if_it_fails(tmp_path: Path, exit_code: int) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho Collecting torch; exit {exit_code}\n")
    python.chmod(0o755)
    process = subprocess.run(["sh", str(SCRIPT), str(tmp_path), "none.txt"], capture_output=True, text=True)
    assert process.returncode == (1 if exit_code else 0)
    assert (process.stderr.splitlines() or [""])[-1] == ("Collecting torch" if exit_code else "")
    assert (tmp_path / "install.log").read_text() == "Collecting torch\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_another_python_replaces_the_environment_of_one_that_was_refused(tmp_path: Path) -> None:
    shutil.copy(SCRIPT.parents[1] / "Makefile", tmp_path)
    (tmp_path / ".ci").mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".ci/install").write_text('$1/bin/python -V | grep "Python 3.12"\n')
    codes = []
    for version in ("3.9", "3.12"):
        python = tmp_path / f"python{version}"
        link = 'mkdir -p "$3/bin"; [ -e "$3/bin/python" ] || ln -s "$0" "$3/bin/python"'  # like venv
        python.write_text(f'#!/bin/sh\nif [ "$1" = -V ]; then echo Python {version}; else {link}; fi\n')
        python.chmod(0o755)
        make = subprocess.run(["make", f"PYTHON={python}", ".venv/.ready"], cwd=tmp_path, capture_output=True)
        codes.append(make.returncode)
    assert codes == [2, 0]
