"""The install script of `make`, with a fake pip."""

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
