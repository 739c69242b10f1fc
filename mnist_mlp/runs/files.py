"""Atomic writing, and JSON and CSV text."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Atomic. Numbers that are not finite become null, since JSON has none."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomic: the file has its old content or the new, never half of it. UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Atomic."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    os.replace(scratch, path)


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
