"""Atomic writing, and JSON and CSV text."""

import csv
import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_mlp.errors import UserError

JSON = dict[str, Any]


def read_json(path: Path) -> JSON | None:
    """The object in a JSON file; None where there is no such file or it holds no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Atomic. Numbers that are not finite become null, since JSON has none. durable: see `write_bytes`."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Atomic: the file has its old content or the new, never half of it. UTF-8. durable: see `write_bytes`."""
    write_bytes(path, text.encode(), durable=durable)


def write_bytes(path: Path, content: bytes | memoryview, *, durable: bool = False) -> None:
    """Atomic. durable: the file and its name survive a power cut from the moment this returns (fsync)."""
    scratch = scratch_file(path)
    try:
        write_new(scratch, content, durable=durable)
        os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def scratch_file(path: Path) -> Path:
    """A hidden name beside `path` that no other thread, process or machine will choose."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def is_scratch_file(path: Path) -> bool:
    """Whether `scratch_file` could have made this name: what a killed process leaves behind."""
    return re.fullmatch(r"\..+\.[0-9a-f]{16}\.tmp", path.name) is not None


def remove_scratch_files(*folders: Path) -> None:
    """Remove what killed processes have left of files that they were writing into these folders."""
    for folder in folders:
        for litter in filter(is_scratch_file, list(folder.iterdir()) if folder.is_dir() else ()):
            litter.unlink(missing_ok=True)


def write_new(path: Path, content: bytes | memoryview, *, durable: bool) -> None:
    """Write a file that must not exist yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Bring what was written to a file onto the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder onto the disk; does nothing on Windows, where a folder cannot be opened."""
    if os.name == "posix":
        sync_file(path)


def refuse_unwritable(path: Path | None) -> None:
    """UserError where no file could be written to `path`: better told before the work than after it."""
    if path is not None and path.is_dir():
        raise UserError(f"{path} cannot be written: it is a folder")
    if path is not None and not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV text with Unix line ends; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def finite(value: Any) -> Any:
    """The same nested value with None for every float that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
