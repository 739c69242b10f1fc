"""Atomic writes, and reads that accept only regular files of limited size with valid content."""

import csv
import errno
import io
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from mnist_mlp.console import naming_file
from mnist_mlp.errors import UserError


def cache_folder() -> Path | None:
    """Return $XDG_CACHE_HOME/mnist_mlp or ~/.cache/mnist_mlp; None without a home directory."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist_mlp"
    except RuntimeError:
        return None


JSON = dict[str, Any]
NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write JSON atomically; non-finite numbers become null. See `write_bytes` for `durable`."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8 text atomically. See `write_bytes` for `durable`."""
    write_bytes(path, text.encode(), durable=durable)


def write_bytes(
    path: Path,
    content: bytes | memoryview,
    *,
    durable: bool = False,
    before_replace: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write a file atomically: it has either the old or the new content.

    With `durable`, the file and its folder entry are flushed to disk (fsync). `before_replace` is called with `path`
    when the new content is complete.
    """
    scratch = scratch_file(path)
    with naming_file(path, "written"):
        try:
            with open(scratch, "xb") as file:
                file.write(content)
                file.flush()
                if durable:
                    _fsync(file.fileno())
            before_replace(path)
            replace_file(scratch, path)
        except BaseException:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
    if durable:
        sync_folder(path.parent)


def replace_file(source: Path, target: Path) -> None:
    """Move a file to `target`; on Windows, wait for programs that have either open, such as virus scanners."""
    for seconds in () if os.name == "posix" else (0.1, 0.3, 1.0):
        with suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(seconds)
    os.replace(source, target)


def scratch_file(path: Path) -> Path:
    """Return a hidden, unique path next to `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def is_scratch_file(path: Path) -> bool:
    """Whether the name has the form that `scratch_file` returns."""
    return re.fullmatch(r"\..+\.[0-9a-f]{16}\.tmp", path.name) is not None


def remove_scratch_files(*folders: Path) -> None:
    """Remove scratch files of killed processes from the folders."""
    for folder in folders:
        for path in filter(is_scratch_file, list(folder.glob("*"))):
            path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Flush a file to disk (fsync)."""
    with naming_file(path, "flushed to disk"), open(path, "r+b", buffering=0) as file:  # Windows must be able to write
        _fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk (fsync), unless the system cannot: Windows cannot even open folders."""
    with naming_file(path, "flushed to disk"), suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _fsync(descriptor)
        finally:
            os.close(descriptor)


def _fsync(descriptor: int) -> None:
    """Flush to disk if the file system supports it: network disks, FUSE and 9p may not, mostly for folders."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise


def refuse_unwritable(path: Path | None) -> None:
    """Raise a UserError if `path` is a folder or in a missing folder: called before long computations."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UserError(f"{path} cannot be written: {reason}")


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format CSV with Unix line endings; None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def finite(value: Any) -> Any:
    """Replace every non-finite float in a nested value by None."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


MAX_BYTES = 256 * 2**20
MAX_NESTING = 20  # levels of a JSON file; the files of a run have five


class UnreadableFileError(UserError):
    """A file of a run folder is unreadable or invalid; the message has its path and the reason."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path} cannot be read ({reason})")
        self.reason = f"{path.name} cannot be read ({reason})"


def read_content(path: Path) -> bytes | None:
    """Read a regular file; None if it does not exist. Raises UnreadableFileError if it cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would block
            raise ValueError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"{status.st_size:,} bytes exceed the limit of {MAX_BYTES:,}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnreadableFileError(path, getattr(error, "strerror", None) or error) from error


def read_text(path: Path) -> str | None:
    """Read a UTF-8 file; None if it does not exist. Raises UnreadableFileError if it cannot be read."""
    content = read_content(path)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise UnreadableFileError(path, f"byte {error.start} is not UTF-8") from error


def read_object(path: Path) -> JSON | None:
    """Read a JSON object; None if the file does not exist. Raises UnreadableFileError if it cannot be read."""

    def reject_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not valid JSON")

    if (text := read_text(path)) is None:
        return None
    try:
        content = _encodable(json.loads(text, parse_constant=reject_constant), MAX_NESTING)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UnreadableFileError(path, reason if text.strip() else "empty") from error
    if not isinstance(content, dict):
        raise UnreadableFileError(path, "not a JSON object")
    return content


def _encodable(value: Any, levels: int) -> Any:
    """Replace lone surrogates, which UTF-8 cannot encode, by "?"; ValueError beyond `levels` of nesting."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (dict, list)):
        if not levels:
            raise ValueError("nested too deeply")
        if isinstance(value, list):
            return [_encodable(item, levels - 1) for item in value]
        return {_encodable(key, levels - 1): _encodable(item, levels - 1) for key, item in value.items()}
    return value
