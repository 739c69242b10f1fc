"""One writer per folder: a lock that dies with its process."""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
LOOK_SECONDS = 0.2


@dataclass
class FolderLock:
    """The right to write into a folder, held by one process at a time: `<folder>/.lock`.

    The lock is flock(2), which the system lets go of when the process ends, however it ends. On NFS Linux makes it a
    lock of the server, which other machines respect; where a file system has no flock at all, the holder written in the
    file decides: its host, process and start time. The file is removed when the lock is released.
    """

    folder: Path
    _descriptor: int | None = field(default=None, init=False)
    _made: bool = field(default=False, init=False)

    @property
    def path(self) -> Path:
        return self.folder / LOCK_FILE

    def acquire(self, on_wait: Callable[[str], None] | None = None) -> "FolderLock":
        """Take the lock; the folder is made where it is missing.

        UserError where another process has it. With on_wait that is called instead, once, with the holder in words, and
        the lock is waited for.
        """
        told = False
        while (holder := self._try()) is not None:
            if on_wait is None:
                raise UserError(
                    f"{self.folder} is being written by {holder}: wait until that has ended, or choose another name="
                )
            if not told:
                on_wait(holder)
                told = True
            time.sleep(LOOK_SECONDS)
        return self

    def moved(self, folder: Path) -> None:
        """Say that the folder was renamed while it was locked."""
        self.folder = folder

    def release(self) -> None:
        """Let go of the lock, if it is held, and remove its file; a folder that was made for the lock goes with it."""
        if self._descriptor is None:
            return
        with suppress(OSError):  # the file alone does not lock
            if _same_file(self._descriptor, self.path):
                self.path.unlink()
        with suppress(OSError):  # not empty
            if self._made:
                self.folder.rmdir()
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()

    def _try(self) -> str | None:
        """Take the lock, or say in words who has it."""
        while True:
            self._made |= not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                free = _flock(descriptor)
                holder = _read(descriptor)
                if free is False or (free is None and _lives(holder)):
                    os.close(descriptor)
                    return _in_words(holder)
                if _same_file(descriptor, self.path):  # else its holder has removed it meanwhile, or moved the folder
                    _write(descriptor)
                    self._descriptor = descriptor
                    return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process that lives has the lock of this folder, by what it wrote there; the lock is not touched."""
    try:
        content = json.loads((folder / LOCK_FILE).read_bytes()[:4096])
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and _lives(content)


def _flock(descriptor: int) -> bool | None:
    """Whether the lock was free, and now is ours; None where the file system has no such locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> JSON:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        content = json.loads(os.read(descriptor, 4096))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _write(descriptor: int) -> None:
    pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"host": platform.node(), "pid": pid, "started": _start_time(pid), "since": since}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(holder).encode())


def _lives(holder: JSON) -> bool:
    """Whether the process that was written down still runs; a process of another machine is taken to run."""
    if not holder:
        return False
    return bool(holder.get("host") != platform.node() or _start_time(holder.get("pid")) == holder.get("started"))


def _start_time(pid: object) -> str | None:
    """When a process of this machine started, in the system's own ticks; None where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _in_words(holder: JSON) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"
