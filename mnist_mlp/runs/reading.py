"""Reading the files of a run folder: what is no regular file, too large or no plain JSON object is refused by name."""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON

MOST_BYTES = 256 * 2**20
MOST_NESTED = 20
"""Levels of a JSON file; ours have five."""


class UnreadableFileError(UserError):
    """A file of a run folder that cannot be read. Says which, and why."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path} cannot be read ({reason})")
        self.reason = f"{path.name} cannot be read ({reason})"


def read_content(path: Path) -> bytes | None:
    """The content of a regular file; None where there is no such file. UnreadableFileError for anything else.

    It never waits, as opening a named pipe would.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise UnreadableFileError(path, "no regular file")
        with open(descriptor, "rb") as file:
            if status.st_size > MOST_BYTES:
                raise UnreadableFileError(path, f"{status.st_size:,} bytes are more than any run writes")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, UnreadableFileError):
            raise
        raise UnreadableFileError(path, getattr(error, "strerror", None) or error) from error


def read_text(path: Path) -> str | None:
    """The content of a UTF-8 text file; None where there is no such file. UnreadableFileError for anything else."""
    content = read_content(path)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise UnreadableFileError(path, f"byte {error.start} is no UTF-8") from error


def read_object(path: Path) -> JSON | None:
    """The object in a JSON file; None where there is no such file. UnreadableFileError where it holds anything else."""
    text = read_text(path)
    if text is None:
        return None
    try:
        content = _plain(json.loads(text, parse_constant=_refuse_constant), MOST_NESTED)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UnreadableFileError(path, reason if text.strip() else "empty") from error
    if not isinstance(content, dict):
        raise UnreadableFileError(path, "no JSON object")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _plain(value: Any, levels: int) -> Any:
    """The same value with every half of a surrogate pair, which no file could take, as "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (dict, list)):
        if not levels:
            raise ValueError("nested too deeply")
        if isinstance(value, list):
            return [_plain(item, levels - 1) for item in value]
        return {_plain(key, levels - 1): _plain(item, levels - 1) for key, item in value.items()}
    return value
