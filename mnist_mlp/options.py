"""The values that an option takes: of its type, or of one that means the same."""

import os
import types
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, NoReturn, get_args, get_origin


def as_type(value: Any, kind: Any) -> Any:
    """The value as the annotated type of an option; TypeError where it is none.

    The name of a choice stands for the choice, a number for text (`subset=0.5`), an integer for a list of one, a tuple
    or an array for a list, and a scalar of numpy or torch for the number in it. Text never stands for a number.
    """
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if get_origin(kind) is types.UnionType:
        return (
            None if value is None else as_type(value, next(part for part in get_args(kind) if part is not type(None)))
        )
    if get_origin(kind) is list:
        return _as_list(value, get_args(kind)[0])
    if get_origin(kind) is dict:
        return dict(value) if isinstance(value, Mapping) else _refuse(value, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind[value] if isinstance(value, str) and value in kind.__members__ else _same(value, kind)
    if kind is str:
        return _as_text(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, bool):
        _refuse(value, kind)
    return _same(value, kind)


def type_name(kind: Any) -> str:
    """An annotated type in words: of an option group, how to write one."""
    name = getattr(kind, "__name__", str(kind))
    return f"{name}(...)" if is_dataclass(kind) else name


def _as_list(value: Any, kind: Any) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if kind is int and isinstance(value, int):
        value = [value]
    if isinstance(value, str) or not isinstance(value, Sequence):
        _refuse(value, list)
    return [as_type(item, kind) for item in value]


def _as_text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else _same(value, str)


def _same(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        _refuse(value, kind)
    return value


def _refuse(value: Any, kind: Any) -> NoReturn:
    raise TypeError(f"{value!r} is no {type_name(kind)}")
