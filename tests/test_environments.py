"""Restricted environments: a run needs no unwritable folder, or fails with one line."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps_in_process import TINY

import mnist_mlp

PACKAGE = Path(mnist_mlp.__file__).parents[1]
INSTALLED = Path(pytest.__file__).parents[1]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, of util-linux"),
]
Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def train(idx_root: Path, tmp_path: Path) -> Train:
    """Run `train` in tmp_path/here after a line of bash, in its own mount namespace."""
    (tmp_path / "here").mkdir()

    def run(before: str, *overrides: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mnist_mlp.train", *overrides, *TINY, f"data.root={idx_root}"]
        return subprocess.run(
            ["unshare", "--mount", "bash", "-c", f"set -e\n{before}\nexec {shlex.join(command)}"],
            cwd=tmp_path / "here", env={**os.environ, "PYTHONPATH": str(PACKAGE), **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount: needs root, or user namespaces")
    return run


def read_only(*folders: Path) -> str:
    """Shell commands that make folders read-only, except for mounts inside."""
    quoted = [shlex.quote(str(folder)) for folder in folders]
    return "\n".join(f"mount --rbind {path} {path}; mount -o remount,ro,bind {path}" for path in quoted)


def assert_finished(process: "subprocess.CompletedProcess[str]", folder: Path) -> None:
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"


def test_a_run_with_a_read_only_package(train: Train, tmp_path: Path) -> None:
    process = train(read_only(PACKAGE, INSTALLED), "name=x", "trainer.figures=true")
    assert_finished(process, tmp_path / "here/outputs/train/x")


@pytest.mark.parametrize("home", ["read-only", "missing", ""])
def test_a_run_with_an_unusable_home(train: Train, tmp_path: Path, home: str) -> None:
    (tmp_path / "read-only").mkdir()
    before = "unset XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR\n" + read_only(tmp_path / "read-only")
    home_path = str(tmp_path / "read-only" / ("below" if home == "missing" else "")) if home else ""
    process = train(before, "name=x", "trainer.figures=true", "data.source=sample", HOME=home_path)
    assert_finished(process, tmp_path / "here/outputs/train/x")


def test_a_run_in_a_read_only_working_directory(train: Train, tmp_path: Path) -> None:
    here = tmp_path / "here"
    before = f"{read_only(here)}\ncd {shlex.quote(str(here))}"
    assert_finished(train(before, f"hydra.run.dir={tmp_path / 'elsewhere'}"), tmp_path / "elsewhere")
    rejected = train(before, "name=x")
    assert (rejected.returncode, rejected.stderr) == (1, "error: outputs: Read-only file system\n")


def test_a_run_without_a_temporary_folder(train: Train, tmp_path: Path) -> None:
    output, here = tmp_path / "elsewhere", tmp_path / "here"
    output.mkdir()
    quoted = shlex.quote(str(output))
    temporary = [Path(name) for name in ("/tmp", "/var/tmp", "/usr/tmp", "/dev/shm") if Path(name).is_dir()]
    before = f"mount --bind {quoted} {quoted}\n{read_only(here, *temporary)}\ncd {shlex.quote(str(here))}"
    process = train(before, f"hydra.run.dir={output / 'x'}", TMPDIR="/nowhere")  # torch requires one
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
    assert process.stderr.startswith("error: No usable temporary directory found in ['/nowhere', '/tmp', ")


def test_a_run_by_an_unprivileged_user_without_a_home(train: Train, tmp_path: Path) -> None:
    unprivileged = "exec unshare --user --"  # user 65534, to whom permissions apply
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --user: needs user namespaces")
    process = train(f'unset HOME\nexec() {{ command {unprivileged} "$@"; }}', "name=x", "trainer.figures=true")
    assert_finished(process, tmp_path / "here/outputs/train/x")
    (tmp_path / "here/outputs/train").chmod(0o555)
    rejected = train(f'exec() {{ command {unprivileged} "$@"; }}', "name=y")
    assert rejected.returncode == 1
    assert rejected.stderr == "error: outputs/train/y: Permission denied\n"


def test_a_sweep_in_an_ascii_locale(train: Train, tmp_path: Path) -> None:
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = train("unset PYTHONIOENCODING", "-m", "seed=0,1", "name=x", **ascii_only)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.isascii()
    assert " ± " in (tmp_path / "here/outputs/sweeps/x/summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("overrides", [("name=x",), ("-m", "seed=range(6)", "name=x")])
def test_a_low_limit_of_open_files(train: Train, overrides: tuple[str, ...]) -> None:
    process = train("ulimit -n 64", *overrides)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_run_resumes_after_its_disk_was_full(train: Train, tmp_path: Path) -> None:
    """The disk first has space for three checkpoints; then it is enlarged and the command repeated."""
    disk = tmp_path / "disk"
    disk.mkdir()
    more_room = f"mount -o remount,size=8m {shlex.quote(str(disk))}"
    before = f"""
mount -t tmpfs -o size=250k tmpfs {shlex.quote(str(disk))}; cd {shlex.quote(str(disk))}
exec() {{ "$@" >/dev/null && return 9; ls outputs/train/x/result.json && return 9; {more_room}; "$@"; }}"""
    process = train(before, "trainer.max_epochs=5", "name=x")
    error, missing = process.stderr.splitlines()
    assert process.returncode == 0
    assert error.startswith("error: ")
    assert error.endswith("No space left on device; go on with resume=" + str(disk / "outputs/train/x"))
    assert missing.startswith("ls: cannot access")
    assert "Resuming from" in process.stdout
