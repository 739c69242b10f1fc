"""Network disks, FUSE and Windows: what they refuse, pretended on this file system."""

import errno
import fcntl
import json
import os
import platform
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_up_runs import write_run

from mnist_mlp.cli.compose import job_name
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.config import Config
from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import replace_file, sync_file, write_json
from mnist_mlp.runs.folder import FolderLock, RunFolder
from mnist_mlp.serve.nets import locate
from mnist_mlp.sweeps.jobs import Job
from mnist_mlp.sweeps.live import SweepProgress
from mnist_mlp.sweeps.parallel import Limits, run_jobs

ELSEWHERE = json.dumps({"host": "node017", "pid": 1, "since": "2026-11-27 10:00:00"})


class PretendedWindows(ModuleType):
    """The module os with the name "nt", in which open files cannot be removed, renamed or replaced."""

    def __init__(self) -> None:
        super().__init__("os")
        self.name = "nt"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def refuse_if_open(path: Any) -> None:
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    if any(name == str(path) or name.startswith(f"{path}{os.sep}") for name in opened):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs.folder", "runs.files", "config", "cli.compose"):
        monkeypatch.setattr(f"mnist_mlp.{name}.os", PretendedWindows())
    for name in ("unlink", "rename", "replace"):
        call: Callable[..., Any] = getattr(os, name)

        def refusing(path: Any, *others: Any, _call: Callable[..., Any] = call, **options: Any) -> Any:
            refuse_if_open(path)
            return _call(path, *others, **options)

        monkeypatch.setattr(os, name, refusing)


def no_flock(*_: Any) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.fixture(params=["no locks", "local locks"])
def other_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk whose locks do not reach other machines."""
    monkeypatch.setattr(fcntl, "flock", no_flock if request.param == "no locks" else fcntl.flock)
    shorten(monkeypatch)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", no_flock)
    shorten(monkeypatch)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEWAL", 0.02), ("LEASE", 0.5), ("POLL", 0.01)):
        monkeypatch.setattr(f"mnist_mlp.runs.folder.{name}_SECONDS", seconds)


def fsync_that_refuses(refused: Callable[[int], bool], code: int) -> Callable[[int], None]:
    fsync = os.fsync

    def call(descriptor: int) -> None:
        if refused(descriptor):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    return call


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def is_read_only(descriptor: int) -> bool:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


@pytest.mark.parametrize(
    ("refused", "code"),
    [(is_folder, errno.EINVAL), (is_folder, errno.EBADF), (is_read_only, errno.EBADF), (bool, errno.ENOTSUP)],
)
def test_a_run_is_written_where_fsync_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], bool], code: int
) -> None:
    monkeypatch.setattr(os, "fsync", fsync_that_refuses(refused, code))
    folder = RunFolder(write_run(tmp_path / "run"))
    write_json(folder.run_file, {"config": {}}, durable=True)
    folder.sync()
    folder.clear()


@pytest.mark.parametrize(
    "write", [lambda path: write_json(path, {}, durable=True), sync_file, lambda path: FolderLock(path).acquire()]
)
def test_an_error_of_the_disk_names_the_file_and_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Any]
) -> None:
    (path := tmp_path / "x.json").touch()
    monkeypatch.setattr(os, "fsync", fsync_that_refuses(bool, errno.EIO))
    with pytest.raises(OSError, match="cannot be") as caught:
        write(path)
    assert error_line(caught.value).startswith(str(path))


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_folder_has_one_writer_until_that_ends(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path).acquire()
    with pytest.raises(UserError, match=rf"process {os.getpid()} on .*\.lock"):
        FolderLock(tmp_path).acquire()
    lock.release()
    with FolderLock(tmp_path).acquire() as next_lock:
        killed = {"host": platform.node(), "pid": 2**30, "since": "-"}
        next_lock.path.write_text(json.dumps(killed))
        start = time.monotonic()
        FolderLock(tmp_path).acquire().release()
    assert time.monotonic() - start < 0.5  # without waiting for the renewals to end
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("other_machine")
def test_one_of_many_takes_over_from_a_killed_process_on_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".lock").write_text(ELSEWHERE)
    inside, most, turns = 0, 0, 0

    def write() -> None:
        nonlocal inside, most, turns
        with FolderLock(tmp_path).acquire(lambda holder: None):
            inside += 1
            most, turns = max(most, inside), turns + 1
            time.sleep(0.03)
            inside -= 1

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 6)
    (tmp_path / ".lock").write_text(ELSEWHERE)
    FolderLock(tmp_path).acquire().release()
    assert f"node017 since 2026-11-27 10:00:00 (if that has ended, delete {tmp_path}/.lock)" in capsys.readouterr().out


def test_a_process_that_runs_on_another_machine_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    with FolderLock(tmp_path).acquire() as lock:
        lock.path.write_text(ELSEWHERE)
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # as a lock that does not reach this machine
        with pytest.raises(UserError, match="process 1 on node017"):
            FolderLock(tmp_path).acquire()


def test_a_process_that_is_killed_on_windows_leaves_a_folder_that_others_can_write(
    tmp_path: Path, windows: None
) -> None:
    code = "import os, sys; from pathlib import Path; from mnist_mlp.runs.folder import FolderLock;"
    code += "lock = FolderLock(Path(sys.argv[1])).acquire(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    with FolderLock(tmp_path / "run").acquire(), pytest.raises(UserError, match="is being written by process"):
        FolderLock(tmp_path / "run").acquire()
    assert [*(tmp_path / "run").iterdir()] == []


def test_a_locked_folder_is_archived_on_windows(tmp_path: Path, windows: None) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    archived = folder.archive(FolderLock(folder.path).acquire())
    assert not folder.path.exists()
    assert (archived / "result.json").is_file()
    assert not (archived / ".lock").exists()


def test_a_file_that_another_program_has_open_on_windows_is_replaced_when_it_is_closed(
    tmp_path: Path, windows: None
) -> None:
    scan = (tmp_path / "new").open("w")
    threading.Timer(0.05, scan.close).start()
    replace_file(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_files_of_the_system_do_not_make_a_folder_foreign(tmp_path: Path) -> None:
    for name in (".DS_Store", ".gitkeep", ".nfs000000000123", "desktop.ini", "Thumbs.db"):
        (tmp_path / name).touch()
    for name in (".ipynb_checkpoints", "lost+found"):
        (tmp_path / name).mkdir()
    RunFolder(tmp_path).refuse_foreign()


def test_runs_are_found_once_through_links_to_folders(tmp_path: Path) -> None:
    run = write_run(tmp_path / "scratch/sweep/seed-0")
    (run / "checkpoints").mkdir(exist_ok=True)
    RunFolder(run).best_checkpoint.touch()
    outputs = tmp_path / "outputs"
    (outputs / "train").mkdir(parents=True)
    (outputs / "sweeps").symlink_to(tmp_path / "scratch")
    (outputs / "again").symlink_to(tmp_path / "scratch/sweep/seed-0")
    (tmp_path / "scratch/up").symlink_to(outputs)
    assert len(find_jobs([outputs])) == 1
    net = locate("latest", outputs).folder
    assert net is not None
    assert net.path.samefile(run)


@pytest.mark.parametrize("text", ["数" * 100, "a" * 300, "ä" * 150, "\udcff" * 5])
def test_a_job_of_any_path_has_a_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / job_name([f"optim.teacher={text}", "seed=1"])).mkdir()


def test_names_that_windows_refuses_or_changes(windows: None) -> None:
    for name in ("con", "NUL", "aux.1", "a."):
        with pytest.raises(UserError, match="choose another name"):
            Config(name=name)
    assert Config(name="console").name == "console"
    assert not job_name(["optim.teacher=runs/a."]).endswith(".")
    settings = [f"augment.{key}=0.1" for key in ("rotation", "scale", "shear", "translate", "elastic", "elastic_sigma")]
    jobs = {job_name([*settings, "optim.label_smoothing=0.1", "model.dropout=0.1", f"seed={seed}"]) for seed in (0, 1)}
    assert len(jobs) == 2
    assert max(map(len, jobs)) < 80


def test_jobs_whose_names_differ_only_in_case_are_refused_where_they_share_a_folder(tmp_path: Path) -> None:
    jobs = [Job(RunFolder(tmp_path / name), tmp_path, 1, 2, [], {}, None) for name in ("teacher-A", "teacher-a")]
    (tmp_path / ".LOCK").touch()  # the sweep's lock file, on a disk that ignores case
    with pytest.raises(UserError, match=r"teacher-A and .*teacher-a "):
        run_jobs(jobs, lambda job: {}, SweepProgress([], 0.0), Limits())
