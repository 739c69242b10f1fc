"""Restricted environments: a run either works without what it cannot write, or reports it in one line."""

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
    """Runs `train` in tmp_path/here after a line of bash, in a mount namespace."""
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
    """Lines of bash that make folders read-only, except for mounts inside them."""
    quoted = [shlex.quote(str(folder)) for folder in folders]
    return "\n".join(f"mount --rbind {path} {path}; mount -o remount,ro,bind {path}" for path in quoted)


def assert_finished(done: "subprocess.CompletedProcess[str]", folder: Path) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"


def test_a_run_succeeds_with_a_read_only_package(train: Train, tmp_path: Path) -> None:
    done = train(read_only(PACKAGE, INSTALLED), "name=x", "trainer.figures=true")
    assert_finished(done, tmp_path / "here/outputs/train/x")


@pytest.mark.parametrize("home", ["read-only", "missing", ""])
def test_a_run_succeeds_with_an_unusable_home(train: Train, tmp_path: Path, home: str) -> None:
    (tmp_path / "read-only").mkdir()
    before = "unset XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR\n" + read_only(tmp_path / "read-only")
    path = str(tmp_path / "read-only" / ("missing" if home == "missing" else "")) if home else ""
    done = train(before, "name=x", "trainer.figures=true", "data.source=sample", HOME=path)
    assert_finished(done, tmp_path / "here/outputs/train/x")


def test_a_read_only_current_folder_is_reported_in_one_line(train: Train, tmp_path: Path) -> None:
    here = tmp_path / "here"
    before = f"{read_only(here)}\ncd {shlex.quote(str(here))}"
    assert_finished(train(before, f"hydra.run.dir={tmp_path / 'elsewhere'}"), tmp_path / "elsewhere")
    refused = train(before, "name=x")
    assert (refused.returncode, refused.stderr) == (1, "error: outputs: Read-only file system\n")


def test_a_missing_temporary_folder_is_reported_in_one_line(train: Train, tmp_path: Path) -> None:
    output, here = tmp_path / "elsewhere", tmp_path / "here"
    output.mkdir()
    quoted = shlex.quote(str(output))
    temporary = [Path(name) for name in ("/tmp", "/var/tmp", "/usr/tmp", "/dev/shm") if Path(name).is_dir()]
    before = f"mount --bind {quoted} {quoted}\n{read_only(here, *temporary)}\ncd {shlex.quote(str(here))}"
    done = train(before, f"hydra.run.dir={output / 'x'}", TMPDIR="/nowhere")  # torch requires a temporary folder
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: No usable temporary directory found in ['/nowhere', '/tmp', ")


def test_an_unprivileged_user_without_a_home_can_train(train: Train, tmp_path: Path) -> None:
    other = "exec unshare --user --"  # without a mapping this is user 65534, to whom permissions apply
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --user: user namespaces are not allowed on this system")
    done = train(f'unset HOME\nexec() {{ command {other} "$@"; }}', "name=x", "trainer.figures=true")
    assert_finished(done, tmp_path / "here/outputs/train/x")
    (tmp_path / "here/outputs/train").chmod(0o555)
    refused = train(f'exec() {{ command {other} "$@"; }}', "name=y")
    assert refused.returncode == 1
    assert refused.stderr == "error: outputs/train/y: Permission denied\n"


def test_a_sweep_runs_in_an_ascii_locale(train: Train, tmp_path: Path) -> None:
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = train("unset PYTHONIOENCODING", "-m", "seed=0,1", "name=x", **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert " ± " in (tmp_path / "here/outputs/sweeps/x/summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [("name=x",), ("-m", "seed=range(6)", "name=x")])
def test_runs_and_sweeps_need_few_open_files(train: Train, arguments: tuple[str, ...]) -> None:
    done = train("ulimit -n 64", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_resumes_after_the_disk_was_full(train: Train, tmp_path: Path) -> None:
    """It has space for three checkpoints; with more space, the same command resumes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    enlarge = f"mount -o remount,size=8m {shlex.quote(str(disk))}"
    before = f"""
mount -t tmpfs -o size=250k tmpfs {shlex.quote(str(disk))}; cd {shlex.quote(str(disk))}
exec() {{ "$@" >/dev/null && return 9; ls outputs/train/x/result.json && return 9; {enlarge}; "$@"; }}"""
    done = train(before, "trainer.max_epochs=5", "name=x")
    error, missing = done.stderr.splitlines()
    assert done.returncode == 0
    assert error.startswith(f"error: {disk / 'outputs/train/x'}{os.sep}")  # the file
    assert "No space left on device" in error
    assert error.endswith(f"; resume with resume={disk / 'outputs/train/x'}")
    assert missing.startswith("ls: cannot access")
    assert "resuming" in done.stdout.lower()
