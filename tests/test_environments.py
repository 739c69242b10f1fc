"""Places where a run is not at home: what cannot be written is not needed, or is said in one line."""

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
    """Runs `train` in tmp_path/here after a line of bash, with mounts of its own."""
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
    """Lines that make folders read-only, but for what is mounted in them."""
    quoted = [shlex.quote(str(folder)) for folder in folders]
    return "\n".join(f"mount --rbind {one} {one}; mount -o remount,ro,bind {one}" for one in quoted)


def assert_finished(done: "subprocess.CompletedProcess[str]", folder: Path) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"


def test_a_package_that_cannot_be_written(train: Train, tmp_path: Path) -> None:
    done = train(read_only(PACKAGE, INSTALLED), "name=x", "trainer.figures=true")
    assert_finished(done, tmp_path / "here/outputs/train/x")


@pytest.mark.parametrize("home", ["read-only", "missing", ""])
def test_a_home_that_is_of_no_use(train: Train, tmp_path: Path, home: str) -> None:
    (tmp_path / "read-only").mkdir()
    before = "unset XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR\n" + read_only(tmp_path / "read-only")
    where = str(tmp_path / "read-only" / ("below" if home == "missing" else "")) if home else ""
    done = train(before, "name=x", "trainer.figures=true", "data.source=sample", HOME=where)
    assert_finished(done, tmp_path / "here/outputs/train/x")


def test_a_current_folder_that_cannot_be_written(train: Train, tmp_path: Path) -> None:
    here = tmp_path / "here"
    before = f"{read_only(here)}\ncd {shlex.quote(str(here))}"
    assert_finished(train(before, f"hydra.run.dir={tmp_path / 'elsewhere'}"), tmp_path / "elsewhere")
    refused = train(before, "name=x")
    assert (refused.returncode, refused.stderr) == (1, "error: outputs: Read-only file system\n")


def test_no_folder_for_temporary_files(train: Train, tmp_path: Path) -> None:
    place, here = tmp_path / "elsewhere", tmp_path / "here"
    place.mkdir()
    there = shlex.quote(str(place))
    temporary = [Path(name) for name in ("/tmp", "/var/tmp", "/usr/tmp", "/dev/shm") if Path(name).is_dir()]
    before = f"mount --bind {there} {there}\n{read_only(here, *temporary)}\ncd {shlex.quote(str(here))}"
    done = train(before, f"hydra.run.dir={place / 'x'}", TMPDIR="/nowhere")  # torch itself asks for one
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: No usable temporary directory found in ['/nowhere', '/tmp', ")


def test_a_user_who_is_not_root_and_has_no_home(train: Train, tmp_path: Path) -> None:
    other = "exec unshare --user --"  # without a map this is the user 65534, to whom permissions apply
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --user: this system lets nobody have user namespaces")
    done = train(f'unset HOME\nexec() {{ command {other} "$@"; }}', "name=x", "trainer.figures=true")
    assert_finished(done, tmp_path / "here/outputs/train/x")
    (tmp_path / "here/outputs/train").chmod(0o555)
    refused = train(f'exec() {{ command {other} "$@"; }}', "name=y")
    assert refused.returncode == 1
    assert refused.stderr == "error: outputs/train/y: Permission denied\n"


def test_a_locale_without_letters(train: Train, tmp_path: Path) -> None:
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = train("unset PYTHONIOENCODING", "-m", "seed=0,1", "name=x", **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert " ± " in (tmp_path / "here/outputs/sweeps/x/summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", [("name=x",), ("-m", "seed=range(6)", "name=x")])
def test_few_files_may_be_open(train: Train, what: tuple[str, ...]) -> None:
    done = train("ulimit -n 64", *what)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_disk_that_fills_up_while_a_run_writes(train: Train, tmp_path: Path) -> None:
    """It has room for three checkpoints; then there is more room, and the same command goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    more_room = f"mount -o remount,size=8m {shlex.quote(str(disk))}"
    before = f"""
mount -t tmpfs -o size=250k tmpfs {shlex.quote(str(disk))}; cd {shlex.quote(str(disk))}
exec() {{ "$@" >/dev/null && return 9; ls outputs/train/x/result.json && return 9; {more_room}; "$@"; }}"""
    done = train(before, "trainer.max_epochs=5", "name=x")
    error, missing = done.stderr.splitlines()
    assert done.returncode == 0
    assert error.startswith("error: ")
    assert error.endswith("No space left on device; go on with resume=" + str(disk / "outputs/train/x"))
    assert missing.startswith("ls: cannot access")
    assert "Resuming from" in done.stdout
