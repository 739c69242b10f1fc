"""The run folder: the names of its files, the lock of its one writer, and runs that resume with more epochs."""

import itertools
import json
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from mnist_mlp.console import shown_path
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import (
    JSON,
    UnreadableFileError,
    is_scratch_file,
    read_object,
    remove_scratch_files,
    sync_file,
    sync_folder,
    write_json,
    write_text,
)
from mnist_mlp.runs.result import FAILURE, RUN, RunResult, StoredRun, check
from mnist_mlp.runs.settings import identity

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FIGURES = ("learning_curves", "confusion_matrix", "f1_per_class", "calibration", "digits")
"""Names of the figures of a run."""
EARLIER_FIGURES = ("confusion_matrix_normalized", "first_layer", "mistakes", "right")
"""Names of figures that earlier versions drew."""
HYDRA_FILES = (".hydra", "train.log")
"""What Hydra itself writes into a run's folder if the user asks for it."""
RECORDS = ("config.yaml", "hydra.yaml", "overrides.yaml")
LOCK_FILE = ".lock"
POLL_SECONDS = 0.2
Parsed = TypeVar("Parsed")


def previous(path: Path) -> Path:
    """Return where a checkpoint is kept that a newer one has replaced."""
    return path.with_name(f"{path.name}.previous")


class _File(str):
    """A file or folder of a run folder, by its relative path."""

    def __get__(self, folder: "RunFolder", owner: type) -> Path:
        return folder.path / self


@dataclass(frozen=True)
class RunFolder:
    """The files of one run: their names, and what they hold."""

    MARKER_FILES: ClassVar = ("result.json", "run.json", "failure.json")
    """A folder with one of these holds a run."""

    path: Path
    run_file = _File("run.json")
    """What runs here: overrides, config and fingerprint; written first."""
    result_file = _File("result.json")
    """The result; written last and atomically."""
    failure_file = _File("failure.json")
    """Why a job of a sweep failed: one-line reason, overrides, config."""
    error_log = _File("error.log")
    """The traceback behind failure.json."""
    checkpoints = _File("checkpoints")
    best_checkpoint = _File("checkpoints/best.ckpt")
    last_checkpoint = _File("checkpoints/last.ckpt")
    tensorboard = _File("tensorboard")
    figures = _File("figures")
    metrics_file = _File("metrics.csv")
    """One row per epoch."""
    predictions_file = _File("predictions.npz")
    """Every test image: index, truth, prediction, probabilities."""
    report_file = _File("classification_report.txt")
    page_file = _File("report.html")
    """The page of this run alone."""

    def run(self) -> JSON | None:
        """Read run.json; None if no run has started here. Raises UnreadableFileError if it is not a run's."""
        return _read(self.run_file, partial(check, schema=RUN))

    def failure(self) -> JSON | None:
        """Read failure.json; None if nothing failed. Raises UnreadableFileError if it is something else."""
        return _read(self.failure_file, partial(check, schema=FAILURE))

    def result(self) -> RunResult | None:
        """Read result.json; None if the run did not finish. Raises UnreadableFileError if it is not a result."""
        return _read(self.result_file, RunResult.from_json)

    def stored(self) -> StoredRun:
        """Read run.json and result.json. Raises UnreadableFileError if a file is not a run's."""
        return StoredRun(self.run(), self.result())

    def finished(self, run: JSON) -> RunResult | None:
        """Return the stored result if it is of the same run as `run`, the content of a run.json."""
        try:
            return self.stored().result_of(run)
        except UnreadableFileError:
            return None

    def refuse_other_settings(self, run: JSON) -> None:
        """Raise a UserError that names the keys that differ, if a run of other settings has started here."""
        try:
            different = self.stored().changes(run)
        except UnreadableFileError as error:
            different = [error.reason]
        if different:
            raise UserError(
                f"{self.path} holds a run with other settings ({'; '.join(different)}): "
                "choose another folder, or start over with resume=never"
            )

    def holds_run(self) -> bool:
        """Whether a file says that a run of this package has started here; a checkpoint may say so too."""
        for read in (self.run, self.result, self.failure):
            with suppress(UnreadableFileError):
                if read() is not None:
                    return True
        return False

    def refuse_foreign(self) -> None:
        """Raise a UserError if the folder, which does not hold a run, is not empty."""
        expected = (LOCK_FILE, *HYDRA_FILES)
        others = (path for path in self.path.glob("*") if path.name not in expected and not is_scratch_file(path))
        if names := sorted(path.name for path in others):
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(f"{self.path} is not empty and holds no run ({shown}): choose another folder")

    def start(self, run: JSON, records: Mapping[str, str]) -> JSON:
        """Write run.json and the records, unless they exist; return `run` with what an existing run.json says instead.

        records: further files, text by relative path.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        remove_scratch_files(self.path, self.checkpoints, self.figures, self.path / ".hydra")
        before = self.run()
        if before is None:
            write_json(self.run_file, run, durable=True)
        for name, text in records.items():
            target = self.path / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                write_text(target, text)
        self.forget_failure()
        return {**run, **before} if before else run

    def forget_failure(self) -> None:
        """Remove the record of a failed attempt."""
        for path in (self.failure_file, self.error_log):
            path.unlink(missing_ok=True)

    def archive(self) -> Path:
        """Move the whole folder to .set_aside/<name>-<n> next to it, which no comparison reads; return the new path."""
        names = (self.path.parent / ".set_aside" / f"{self.path.name}-{n}" for n in itertools.count(1))
        target = next(name for name in names if not name.exists())
        target.parent.mkdir(exist_ok=True)
        return self.path.rename(target)

    def clear(self) -> None:
        """Remove what an earlier run wrote here, and nothing else. Raises UserError if something cannot be removed."""
        try:
            # first: without it the rest is an unfinished run. run.json last: it says that the rest is ours
            for path in (self.result_file, *list(self._written()), self.run_file):
                path.unlink(missing_ok=True)
            for folder in (self.checkpoints, self.tensorboard, self.figures, self.path / ".hydra"):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            if self.path.is_dir():
                sync_folder(self.path)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be removed ({error.strerror}): the run is not started") from error

    def clear_training(self) -> None:
        """Remove the checkpoints, so that training starts over."""
        for path in self._checkpoint_files():
            path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Bring all that the run wrote onto the disk."""
        for path in filter(Path.is_file, self._written()):
            sync_file(path)
        for folder in filter(Path.is_dir, (self.tensorboard, self.figures, self.path)):
            sync_folder(folder)

    def event_files(self) -> list[Path]:
        return sorted(self.tensorboard.glob("events.out.tfevents.*"))

    def next_steps(self, python: str) -> str:
        """The commands for a finished run: its page (the file itself if it exists), its curves, a page to draw on."""
        run = shlex.quote(shown_path(self.path))
        page = shown_path(self.page_file) if self.page_file.is_file() else f"{python} -m mnist_mlp.report {run}"
        return (
            f"  page           {page}\n"
            f"  TensorBoard    {python} -m mnist_mlp.tensorboard {run}\n"
            f"  draw digits    {python} -m mnist_mlp.export {run} --format html"
        )

    def _written(self) -> Iterator[Path]:
        """The files of a run, but for run.json and result.json, whether they exist or not."""
        yield from self._checkpoint_files()
        yield from self.event_files()
        yield from (self.figures / f"{name}.png" for name in (*FIGURES, *EARLIER_FIGURES))
        yield from (self.metrics_file, self.predictions_file, self.report_file, self.page_file)
        yield from (self.failure_file, self.error_log)
        yield from (path for kind in ("fit", "test") for path in self.path.glob(f"{kind}-profile*.txt"))
        yield from (self.path / ".hydra" / name for name in RECORDS)

    def _checkpoint_files(self) -> list[Path]:
        return [file for path in (self.last_checkpoint, self.best_checkpoint) for file in (path, previous(path))]


def _read(path: Path, parse: Callable[[JSON], Parsed]) -> Parsed | None:
    content = read_object(path)
    try:
        return None if content is None else parse(content)
    except ValueError as error:
        raise UnreadableFileError(path, error) from error


@dataclass
class FolderLock(AbstractContextManager["FolderLock"]):
    """The right to write into a folder, held by one process at a time: `<folder>/.lock`.

    The lock is flock(2), which the system releases when the process ends, however it ends. On NFS Linux makes it a
    lock of the server, which other machines respect. On a file system without flock the host and process written in the
    file decide. The file is removed when the lock is released.
    """

    folder: Path
    """To be set anew if the folder is renamed while the lock is held."""
    _descriptor: int | None = field(default=None, init=False)
    _made_folder: bool = field(default=False, init=False)

    @property
    def path(self) -> Path:
        return self.folder / LOCK_FILE

    def acquire(self, on_wait: Callable[[str], None] | None = None) -> "FolderLock":
        """Take the lock, and create the folder if it is missing.

        Args:
            on_wait: called once with the holder in words if another process has the lock, which is then waited for.

        Raises:
            UserError: another process has the lock, and there is no `on_wait`.
        """
        if (holder := self._try()) is None:
            return self
        if on_wait is None:
            raise UserError(
                f"{self.folder} is being written by {holder}: wait until that has ended, or choose another name="
            )
        on_wait(holder)
        while self._try() is not None:
            time.sleep(POLL_SECONDS)
        return self

    def release(self) -> None:
        """Release the lock, if it is held, and remove its file, and the folder if the lock created it and is alone."""
        if self._descriptor is None:
            return
        with suppress(OSError):  # the file alone does not lock
            if _is_same_file(self._descriptor, self.path):
                self.path.unlink()
        with suppress(OSError):  # not empty
            if self._made_folder:
                self.folder.rmdir()
        os.close(self._descriptor)
        self._descriptor = None

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try(self) -> str | None:
        """Take the lock, or return its holder in words."""
        self._made_folder |= not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        with ExitStack() as on_exit:
            on_exit.callback(os.close, descriptor)
            holder = _parse_holder(os.read(descriptor, 4096))
            if not _flock(descriptor, holder):
                known = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"
                return known if holder else "another process"
            if _is_same_file(descriptor, self.path):
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                content = json.dumps({"host": platform.node(), "pid": os.getpid(), "since": since})
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, content.encode())
                on_exit.pop_all()
                self._descriptor = descriptor
                return None
        return self._try()  # its holder has removed the file or moved the folder meanwhile


def is_held(folder: Path) -> bool:
    """Whether a living process has the lock of this folder, by what it wrote there. Leaves the lock alone."""
    with suppress(OSError):
        return _is_alive(_parse_holder((folder / LOCK_FILE).read_bytes()[:4096]))
    return False


def _flock(descriptor: int, holder: JSON) -> bool:
    """Take the lock if it is free; return whether it was. holder: decides if the file system has no such locks."""
    try:
        if fcntl is None:
            return not _is_alive(holder)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not (isinstance(error, BlockingIOError) or _is_alive(holder))
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _parse_holder(content: bytes) -> JSON:
    with suppress(ValueError):
        if isinstance(holder := json.loads(content), dict):
            return holder
    return {}


def _is_alive(holder: JSON) -> bool:
    """Whether the process that wrote the lock file runs; one on another machine, or on Windows, is taken to run."""
    pid = holder.get("pid")
    if holder.get("host") != platform.node() or os.name != "posix":
        return bool(holder)
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


EPOCHS = "trainer.max_epochs"


def is_continuation(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the second run (the content of a run.json) is the first one with more epochs, at a constant rate."""
    old, new = identity(before), identity(now)
    return {**old, EPOCHS: new[EPOCHS]} == new and old[EPOCHS] < new[EPOCHS] and new["optim.schedule"] == "constant"


def reopen_for_more_epochs(folder: RunFolder, run: JSON) -> bool:
    """Make the stored run unfinished again if `run` is the same one with more epochs; return whether it was.

    Raises:
        UserError: resuming would not give what the longer run gives, since the learning rate depends on the number of
            epochs, fewer epochs are asked for, or the last checkpoint is gone.
    """
    if (before := folder.run()) is None:
        return False
    old, new = identity(before), identity(run)
    if old == new or {**old, EPOCHS: new[EPOCHS]} != new:
        return False
    schedule, asked = new["optim.schedule"], f"{folder.path} holds this run with {EPOCHS}={old[EPOCHS]}"
    if new[EPOCHS] < old[EPOCHS]:
        reason = "a run can be continued, not shortened"
    elif schedule != "constant":
        reason = (
            f"optim.schedule={schedule} spreads the learning rates over all epochs, so that the first {old[EPOCHS]} "
            "would have gone differently"
        )
    elif not folder.last_checkpoint.is_file():
        reason = f"{folder.last_checkpoint} is gone, from which it would go on"
    else:
        folder.result_file.unlink(missing_ok=True)
        write_json(folder.run_file, {**before, **{key: run[key] for key in ("overrides", "config", "fingerprint")}})
        return True
    raise UserError(
        f"{asked}, and {new[EPOCHS]} are asked for: {reason}; choose another folder, or start over with resume=never"
    )
