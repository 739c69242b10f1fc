"""What `make` says while it installs; pip is a script here."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "install"


def installed(venv: Path, pip: str) -> "subprocess.CompletedProcess[str]":
    python = venv / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{pip}\n")
    python.chmod(0o755)
    return subprocess.run(["sh", str(SCRIPT), str(venv), "none.txt"], capture_output=True, text=True)


@pytest.mark.integration
def test_it_says_what_is_installed_and_that_it_is(tmp_path: Path) -> None:
    done = installed(tmp_path / "venv", "echo Collecting torch; sleep 1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Installing mnist_mlp and about 160 packages")
    assert re.fullmatch(r"Installed in 0:0\d\.", lines[-1])
    assert "\x1b" not in done.stdout
    assert "Collecting torch" in (tmp_path / "venv" / "install.log").read_text()


@pytest.mark.integration
def test_where_pip_fails_its_last_words_are_shown(tmp_path: Path) -> None:
    done = installed(tmp_path / "venv", "echo ERROR: no such version; exit 3")
    assert done.returncode == 1
    assert "pip failed" in done.stderr
    assert done.stderr.splitlines()[-1] == "ERROR: no such version"
    assert "Installed" not in done.stdout
