"""The run folder: its file names, the lock of its writer, and resuming with more epochs."""

import itertools
import json
import math
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from mnist_mlp.config import FIXED_LENGTH_SCHEDULES
from mnist_mlp.console import naming_file, shell_quoted, shown_path
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import (
    JSON,
    UnreadableFileError,
    read_object,
    read_text,
    remove_scratch_files,
    sync_file,
    sync_folder,
    write_json,
    write_text,
)
from mnist_mlp.runs.result import FAILURE, RUN, RunResult, StoredRun, check
from mnist_mlp.runs.settings import identity

FIGURES = ("learning_curves", "confusion_matrix", "f1_per_class", "calibration", "digits")
EARLIER_FIGURES = ("confusion_matrix_normalized", "first_layer", "mistakes", "right")
"""Figures that earlier versions drew."""
RECORDS = ("config.yaml", "hydra.yaml", "overrides.yaml")
NOTE_FILE = "note.txt"
OTHER_FILES = (NOTE_FILE, "train.log", "desktop.ini", "Thumbs.db", "lost+found", "@eaDir")
"""Files that the user, Hydra or the system creates, besides hidden ones such as .hydra and .DS_Store."""
LOCK_FILE = ".lock"
ARCHIVE = ".set_aside"
"""Folder next to run folders for archived ones."""
POLL_SECONDS = 0.2
RENEWAL_SECONDS, LEASE_SECONDS = 10.0, 60.0
"""A holder touches its lock file every RENEWAL_SECONDS; where only that counts, it expires after LEASE_SECONDS."""
Parsed = TypeVar("Parsed")


def previous(path: Path) -> Path:
    """Return the path to which a checkpoint is renamed when a newer one replaces it."""
    return path.with_name(f"{path.name}.previous")


class _File(str):
    """A descriptor that resolves a relative path against the run folder."""

    def __get__(self, folder: "RunFolder", owner: type) -> Path:
        return folder.path / self


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run's files, and access to their contents."""

    MARKER_FILES: ClassVar = ("result.json", "run.json", "failure.json")
    """A folder with one of these is a run folder."""

    path: Path
    run_file = _File("run.json")
    """Overrides, config and fingerprint of the run; written first."""
    result_file = _File("result.json")
    """Written last and atomically."""
    failure_file = _File("failure.json")
    """Why a job of a sweep failed: one-line reason, overrides, config."""
    error_log = _File("error.log")
    """The traceback that belongs to failure.json."""
    checkpoints = _File("checkpoints")
    best_checkpoint = _File("checkpoints/best.ckpt")
    last_checkpoint = _File("checkpoints/last.ckpt")
    tensorboard = _File("tensorboard")
    figures = _File("figures")
    metrics_file = _File("metrics.csv")
    """One row per epoch."""
    predictions_file = _File("predictions.npz")
    """Index, truth, prediction and probabilities of every test image."""
    report_file = _File("classification_report.txt")
    page_file = _File("report.html")
    draw_file = _File("draw.html")
    note_file = _File(NOTE_FILE)
    """The user's note on a run or a sweep, which may be edited at any time."""

    def run(self) -> JSON | None:
        """Read run.json; None if it does not exist. Raises UnreadableFileError if it is invalid."""
        return _read(self.run_file, partial(check, schema=RUN))

    def failure(self) -> JSON | None:
        """Read failure.json; None if it does not exist. Raises UnreadableFileError if it is invalid."""
        return _read(self.failure_file, partial(check, schema=FAILURE))

    def result(self) -> RunResult | None:
        """Read result.json; None if it does not exist. Raises UnreadableFileError if it is invalid."""
        return _read(self.result_file, RunResult.from_json)

    def stored(self) -> StoredRun:
        """Read run.json and result.json. Raises UnreadableFileError if one is invalid."""
        return StoredRun(self.run(), self.result())

    def evaluating(self) -> "FolderLock":
        """Return an acquired lock for changing the number of evaluations in result.json."""
        return FolderLock(self.path / "evaluation").acquire(lambda holder: None)

    def count_evaluation(self, test_set: str) -> None:
        """Count an evaluation of a finished run in result.json. Raises OSError or UnreadableFileError."""
        with self.evaluating():
            if (result := self.result()) is not None:
                counts = Counter(result.evaluations or [result.source]) + Counter([test_set])
                content = {**(read_object(self.result_file) or {}), "evaluations": counts}
                write_json(self.result_file, content, durable=True)

    def note(self) -> str:
        """Read the note, of the run or else of its sweep; empty if there is none or it cannot be read."""
        sweep = self.path.parent
        for folder in (self.path, *([sweep] if (sweep / "summary.csv").is_file() else [])):
            with suppress(UnreadableFileError):
                if text := (read_text(RunFolder(folder).note_file) or "").strip():
                    return text
        return ""

    def write_note(self, note: str | None) -> None:
        """Replace the note, unless `note` is None."""
        for name, text in note_record(note).items():
            write_text(self.path / name, text)

    def finished(self, run: JSON, on_any_device: bool = False) -> RunResult | None:
        """Return the stored result if it belongs to `run`; see `StoredRun.result_of`."""
        try:
            return self.stored().result_of(run, on_any_device)
        except UnreadableFileError:
            return None

    def refuse_other_settings(self, run: JSON) -> None:
        """Raise a UserError with the keys that differ if the folder contains a run with other settings."""
        try:
            differences = self.stored().changes(run)
        except UnreadableFileError as error:
            differences = [error.reason]
        if differences:
            raise UserError(
                f"{self.path} contains a run with other settings ({'; '.join(differences)}): "
                "choose another folder, or restart with resume=never"
            )

    def holds_run(self) -> bool:
        """Whether a valid run.json, result.json or failure.json exists."""
        for read in (self.run, self.result, self.failure):
            with suppress(UnreadableFileError):
                if read() is not None:
                    return True
        return False

    def refuse_foreign(self) -> None:
        """Raise a UserError if the folder contains files that are neither hidden nor of Hydra or the system."""
        if names := sorted({path.name for path in self.path.glob("[!.]*")}.difference(OTHER_FILES)):
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(f"{self.path} is not empty and not a run folder ({shown}): choose another folder")

    def start(self, run: JSON, records: Mapping[str, str]) -> JSON:
        """Write run.json and `records`, text by relative path, unless they exist.

        Returns:
            `run`, updated with the existing run.json if there is one.
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
        """Remove failure.json and error.log."""
        for path in (self.failure_file, self.error_log):
            path.unlink(missing_ok=True)

    def archive(self, lock: "FolderLock") -> Path:
        """Move the folder to ../.set_aside/<name>-<n>, which comparisons ignore; release its lock. Return its path."""
        names = (self.path.parent / ARCHIVE / f"{self.path.name}-{n}" for n in itertools.count(1))
        target = next(name for name in names if not name.exists())
        with naming_file(self.path, "archived"):
            target.parent.mkdir(exist_ok=True)
            if os.name != "posix":  # Windows cannot rename a folder that contains an open file
                lock.release()
            lock.folder = self.path.rename(target)
            lock.release()
        return target

    def clear(self) -> None:
        """Remove only the files that a run writes. Raises UserError if one cannot be removed."""
        try:
            for path in self.files():
                path.unlink(missing_ok=True)
            for folder in (self.checkpoints, self.tensorboard, self.figures, self.path / ".hydra"):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            raise UserError(f"{error.filename} cannot be removed ({error.strerror}): the run is not started") from error
        if self.path.is_dir():
            sync_folder(self.path)

    def clear_training(self) -> None:
        """Remove the checkpoints; training restarts from the beginning."""
        for path in self._checkpoint_files():
            path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Flush all files of the run to disk (fsync)."""
        for path in filter(Path.is_file, self._written()):
            sync_file(path)
        for folder in filter(Path.is_dir, (self.tensorboard, self.figures, self.path)):
            sync_folder(folder)

    def event_files(self) -> list[Path]:
        """Return TensorBoard's event files, oldest first."""
        return sorted(self.tensorboard.glob("events.out.tfevents.*"))

    def next_steps(self, python: str) -> str:
        """Format the commands that follow a finished run: report page (or its file), TensorBoard, drawing page."""
        run = shell_quoted(shown_path(self.path))
        page = shown_path(self.page_file) if self.page_file.is_file() else f"{python} -m mnist_mlp.report {run}"
        return (
            f"  page           {page}\n"
            f"  TensorBoard    {python} -m mnist_mlp.tensorboard {run}\n"
            f"  draw page      {python} -m mnist_mlp.export {run} --format html"
        )

    def files(self) -> list[Path]:
        """Return the paths that a run may write, in the order of removal.

        An interrupted removal leaves an unfinished run: result.json goes first, the marker run.json last.
        """
        return [self.result_file, *self._written(), self.run_file]

    def _written(self) -> Iterator[Path]:
        """Yield the paths that a run may write, except run.json and result.json."""
        yield from self._checkpoint_files()
        yield from self.event_files()
        yield from (self.figures / f"{name}.png" for name in (*FIGURES, *EARLIER_FIGURES))
        yield from (self.metrics_file, self.predictions_file, self.report_file, self.page_file, self.draw_file)
        yield from (self.failure_file, self.error_log)
        yield from (path for stage in ("fit", "test") for path in self.path.glob(f"{stage}-profile*.txt"))
        yield from (self.path / ".hydra" / name for name in RECORDS)

    def _checkpoint_files(self) -> list[Path]:
        return [file for path in (self.last_checkpoint, self.best_checkpoint) for file in (path, previous(path))]


def note_record(note: str | None) -> dict[str, str]:
    """Return a note as a record for `RunFolder.start`; empty for None. Raises UserError if it is not UTF-8 text."""
    if note is not None and (not isinstance(note, str) or note != note.encode(errors="replace").decode()):
        raise UserError(f"note={note!r} is not a note: expected text in UTF-8")
    return {} if note is None else {NOTE_FILE: f"{note.strip()}\n"}


def _read(path: Path, parse: Callable[[JSON], Parsed]) -> Parsed | None:
    content = read_object(path)
    try:
        return None if content is None else parse(content)
    except ValueError as error:
        raise UnreadableFileError(path, error) from error


@dataclass
class FolderLock(AbstractContextManager["FolderLock"]):
    """An exclusive lock between processes on writing to a folder: `<folder>/.lock`.

    Uses a lock of the operating system, which ends with the process. Not every file system has them, or passes them to
    other machines; therefore the holder also renews the file, and another machine waits until the renewals have ended.
    A release removes the file.
    """

    folder: Path
    """Must be updated if the folder is renamed while the lock is held."""
    _descriptor: int | None = field(default=None, init=False)
    _has_created_folder: bool = field(default=False, init=False)
    _released: threading.Event = field(default_factory=threading.Event, init=False)
    _renewals: dict[int, float] = field(default_factory=dict, init=False)
    """When another holder's renewals were first seen, by modification time, where only they count."""

    @property
    def path(self) -> Path:
        """The lock file."""
        return self.folder / LOCK_FILE

    def acquire(self, on_wait: Callable[[str], None] | None = None) -> "FolderLock":
        """Acquire the lock, creating the folder if it does not exist.

        Args:
            on_wait: Called once, with a description of the holder, before waiting for another process.

        Raises:
            UserError: Another process holds the lock and `on_wait` is None.
        """
        notify = on_wait or (lambda holder: print(f"Waiting up to {LEASE_SECONDS:.0f} s for {holder}", flush=True))
        is_waiting = False
        while (holder := self._try_acquire()) is not None:
            if on_wait is None and len(self._renewals) != 1:  # it is running
                remedy = "wait until it ends, or choose another name="
                raise UserError(f"{self.folder} is being written by {holder}: {remedy}")
            if not is_waiting:
                notify(holder)
            is_waiting = True
            time.sleep(POLL_SECONDS)
        return self

    def release(self) -> None:
        """Release the lock if it is held; remove its file, and the folder if the lock created it and it is empty."""
        if self._descriptor is None:
            return
        self._released.set()
        with suppress(OSError):
            if os.name == "posix" and _is_same_file(self._descriptor, self.path):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        with suppress(OSError):
            if os.name != "posix":  # Windows removes only files that no process has opened
                self.path.unlink()
        with suppress(OSError):  # not empty
            if self._has_created_folder:
                self.folder.rmdir()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try_acquire(self) -> str | None:
        """Acquire the lock without waiting, or return a description of its holder."""
        self._has_created_folder |= not self.folder.exists()
        with naming_file(self.path, "locked"), ExitStack() as on_exit:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor, is_new = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
            except FileExistsError:
                descriptor, is_new = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), False
            on_exit.callback(os.close, descriptor)
            holder, status = _read_holder(descriptor), os.fstat(descriptor)
            who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"
            who = f"{who if holder else 'another process'} (if that has ended, delete {shown_path(self.path)})"
            if not self._lock(descriptor, is_new, holder):
                return who
            if self._renewals and not is_new:
                if os.name != "posix":  # Windows cannot remove open files
                    on_exit.close()
                if not _remove_expired(self.path, status):
                    return who
            elif _is_same_file(descriptor, self.path):
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                content = json.dumps({"host": platform.node(), "pid": os.getpid(), "since": since})
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, content.encode())
                on_exit.pop_all()
                self._descriptor = descriptor
                self._released.clear()
                self._renewals.clear()
                threading.Thread(target=self._renew, daemon=True).start()
                return None
        return self._try_acquire()  # the previous holder has removed the file or moved the folder in the meantime

    def _lock(self, descriptor: int, is_new: bool, holder: JSON) -> bool:
        """Lock the open file; where that does not bind its holder, return whether it is new or has expired."""
        from filelock import lock_descriptor  # deferred: what only reads runs does not lock

        with suppress(OSError):  # the file system has no locks
            is_free = lock_descriptor(descriptor, blocking=False)
            if not is_free or is_new or holder.get("host") in (None, platform.node()):  # a lock may not reach others
                return is_free
        seen = self._renewals.setdefault(os.fstat(descriptor).st_mtime_ns, time.monotonic())
        return is_new or _has_ended(holder) or time.monotonic() - seen >= LEASE_SECONDS

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS):
            with suppress(OSError):  # the next attempt may succeed
                os.utime(self.path)


def is_held(folder: Path) -> bool:
    """Whether a running process holds the folder's lock, judging by the lock file. Does not lock."""
    with suppress(OSError), open(folder / LOCK_FILE, "rb", buffering=0) as file:
        age = time.time() - os.fstat(file.fileno()).st_mtime
        return age < LEASE_SECONDS and not _has_ended(_read_holder(file.fileno()))
    return False


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_expired(path: Path, status: os.stat_result) -> bool:
    """Remove this lock file, unless it has been replaced; return False if another process is about to remove it."""
    mutex = path.with_name(f"{path.name}.expired")
    try:
        os.close(os.open(mutex, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        with suppress(FileNotFoundError):
            if time.time() - mutex.stat().st_mtime > LEASE_SECONDS:  # it was killed
                mutex.unlink()
        return False
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), status):
            path.unlink()
    mutex.unlink()
    return True


def _read_holder(descriptor: int) -> JSON:
    """Read host, pid and since; empty if they cannot be read. Windows locks the first byte, which is always {."""
    os.lseek(descriptor, 1, os.SEEK_SET)
    with suppress(ValueError):
        if isinstance(holder := json.loads(b"{" + os.read(descriptor, 4096)), dict):
            return holder
    return {}


def _has_ended(holder: JSON) -> bool:
    """Whether the process that wrote the lock file has ended; False on another machine and on Windows."""
    if holder.get("host") != platform.node() or os.name != "posix":
        return False
    try:
        os.kill(holder.get("pid"), 0)  # type: ignore[arg-type]
    except PermissionError:  # another user's process
        return False
    except (OSError, OverflowError, TypeError):
        return True
    return False


EPOCHS, SECONDS = "trainer.max_epochs", "trainer.max_seconds"


def is_continuation(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether `now` is the run `before` with more epochs or seconds; both are contents of a run.json."""
    return _extension_fault(identity(before), identity(now)) == ""


def _extension_fault(old: JSON, new: JSON) -> str | None:
    """Return why a run cannot be extended, empty if it can; None if not only its length differs."""
    if old == new or {**old, EPOCHS: new[EPOCHS], SECONDS: new[SECONDS]} != new:
        return None
    schedule, (before, now) = new["optim.schedule"], [run[SECONDS] or math.inf for run in (old, new)]
    if new[EPOCHS] < old[EPOCHS] or now < before:
        return "a run cannot be shortened"
    is_fixed = new[EPOCHS] != old[EPOCHS] and schedule in FIXED_LENGTH_SCHEDULES
    return f"optim.schedule={schedule} depends on the total number of epochs" if is_fixed else ""


def reopen_if_extended(folder: RunFolder, run: JSON) -> bool:
    """Mark the stored run as unfinished if `run` differs only in epochs or seconds, and return whether it does.

    Raises:
        UserError: Fewer epochs or seconds, a learning rate that depends on the number of epochs, or no last checkpoint.
    """
    if (before := folder.run()) is None:
        return False
    old, new = identity(before), identity(run)
    if (reason := _extension_fault(old, new)) is None:
        return False
    if not (reason or old[SECONDS] or folder.last_checkpoint.is_file()):  # the time may end within the first epoch
        reason = f"{folder.last_checkpoint} does not exist"
    if not reason:
        with folder.evaluating(), suppress(UnreadableFileError):
            changed = {key: run[key] for key in ("overrides", "config", "fingerprint")}
            if result := folder.result():
                changed["evaluations"] = result.evaluations or {result.source: 1}  # the extended run tests again
            folder.result_file.unlink(missing_ok=True)
            write_json(folder.run_file, {**before, **changed})
        return True
    key = EPOCHS if old[EPOCHS] != new[EPOCHS] else SECONDS
    raise UserError(
        f"{folder.path} contains this run with {key}={old[key]}, which cannot be resumed with {new[key]}: "
        f"{reason}; choose another folder, or restart with resume=never"
    )
