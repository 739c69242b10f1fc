"""Options as dataclass fields: declared once with default, bounds and meaning, and checked as they enter."""

import difflib
import operator
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin

from mnist_mlp.errors import UserError

Group = TypeVar("Group")
Value = TypeVar("Value")
Accepted = TypeVar("Accepted")


BOUNDS = {"gt": (">", operator.gt), "ge": (">=", operator.ge), "lt": ("<", operator.lt), "le": ("<=", operator.le)}
"""Signs and comparisons of the bounds of a number."""


if sys.version_info >= (3, 11):
    from enum import StrEnum as StrEnum
else:
    from enum import Enum

    class StrEnum(str, Enum):
        """As in Python 3.11."""

        __str__ = str.__str__

        @staticmethod
        def _generate_next_value_(name: str, *_: Any) -> str:
            return name


if TYPE_CHECKING:

    class Converted(Generic[Value, Accepted]):
        """The type of an option that reads as `Value` and is set to any `Accepted`, which `as_type` converts."""

        def __get__(self, instance: object, owner: type | None = None) -> Value: ...
        def __set__(self, instance: object, value: Accepted) -> None: ...

else:

    class Converted:
        """At run time, and for OmegaConf, the first of the two types."""

        def __class_getitem__(cls, kinds: tuple[Any, Any]) -> Any:
            return kinds[0]


def option(
    default: Any,
    meaning: str,
    *,
    choices: tuple[str, ...] = (),
    values: str = "",
    affects_result: bool = True,
    **bounds: float,
) -> Any:
    """A dataclass field that carries its own help text and bounds.

    Args:
        default: the value, or a function without arguments that returns it; a list is copied.
        meaning: one line for `--help` and docs/configuration.md.
        choices: all allowed values of a text.
        values: the allowed values in words, if bounds cannot describe them.
        affects_result: False leaves the option out of the fingerprint.
        bounds: gt, ge, lt or le, as in annotated-types.
    """
    metadata = {
        "meaning": meaning, "bounds": bounds, "choices": choices, "values": values, "affects_result": affects_result,
    }  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class OptionGroup:
    """A dataclass of options. Each value is converted to the type of its option; UserError names those that fail."""

    def __post_init__(self) -> None:
        faults = []
        for item in fields(self):
            value = getattr(self, item.name)
            try:
                setattr(self, item.name, as_type(value, item.type))
            except TypeError:
                key = f"{type(self).__name__.removesuffix('Config').lower()}.{item.name}".lstrip(".")
                if is_dataclass(item.type):
                    allowed = f"{getattr(item.type, '__name__', '')}(...)"
                    faults.append(f"{key}={value!r} has the wrong type: allowed is {allowed}")
                else:
                    default = item.default if item.default_factory is MISSING else item.default_factory()
                    faults.append(wrong_value(key, repr(value), default, dict(item.metadata)))
        if faults:
            raise UserError("; ".join(faults))


def options(config: OptionGroup, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every option of a config as (dotted key, value, metadata), in order of declaration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, OptionGroup):
            yield from options(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value, dict(item.metadata)


def to_dict(value: Any) -> Any:
    """A config, or a group of one, as nested dicts, lists and primitives."""
    if isinstance(value, OptionGroup):
        return {item.name: to_dict(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, list):
        return [dict(item) if isinstance(item, dict) else item for item in value]
    return value.value if isinstance(value, StrEnum) else value


def from_dict(group: type[Group], values: Mapping[str, Any]) -> Group:
    """Inverse of `to_dict`. Unknown keys are ignored, missing ones take their defaults."""
    kinds = {item.name: item.type for item in fields(group) if item.name in values}  # type: ignore[arg-type]
    return group(
        **{
            name: from_dict(kind, values[name] or {}) if is_dataclass(kind) else values[name]  # type: ignore[arg-type]
            for name, kind in kinds.items()
        }
    )


def as_type(value: Any, kind: Any) -> Any:
    """A value as the annotated type of an option.

    The name of a choice stands for the choice, a number for text (`subset=0.5`), an integer for a list of one, a tuple
    or an array for a list, and a scalar of numpy or torch for the number in it. Text never stands for a number.

    Raises:
        TypeError: the value cannot be converted.
    """
    origin, (inner, *_) = get_origin(kind), get_args(kind) or (None,)
    if origin is types.UnionType:
        return None if value is None else as_type(value, inner)
    if origin is list:
        items = value.tolist() if hasattr(value, "tolist") else value
        items = [items] if inner is int and isinstance(items, int) else items
        if isinstance(items, str) or not isinstance(items, Sequence):
            raise TypeError
        return [as_type(item, inner) for item in items]
    if origin is dict:
        return dict(value)
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is str and (is_number or isinstance(value, (str, os.PathLike))):
        return str(value) if is_number else str(os.fspath(value))
    if kind is float and is_number:
        return float(value)
    if issubclass(kind, StrEnum) and value in kind.__members__:
        return kind[value]
    if not isinstance(value, kind) or (kind is int and not is_number):
        raise TypeError
    return value


def allowed_values(value: Any, metadata: dict[str, Any]) -> str:
    """The values that an option accepts, in words. value: any legal one."""
    if metadata["values"]:
        return str(metadata["values"])
    if isinstance(value, StrEnum):
        return ", ".join(type(value))
    if metadata["choices"]:
        return ", ".join(metadata["choices"])
    if isinstance(value, bool):
        return "true, false"
    limits = [f"{BOUNDS[name][0]} {limit}" for name, limit in metadata["bounds"].items()]
    return f"{type(value).__name__} {' and '.join(limits)}".strip()


def wrong_value(key: str, text: str | None, default: Any, metadata: dict[str, Any]) -> str:
    """The message on a value that an option does not accept. text: the value, None if it is not known."""
    shown, allowed = key if text is None else f"{key}={text}", allowed_values(default, metadata)
    if not isinstance(default, StrEnum):
        return f"{shown} has the wrong type: allowed is {allowed}"
    word, names = (text or "").strip("'").lower(), list(type(default))
    near = [name for name in names if word and name.startswith(word)] or difflib.get_close_matches(word, names, n=1)
    return f"{shown} is not a valid choice: {f'did you mean {near[0]}? ' if near else ''}allowed is {allowed}"


def range_faults(config: OptionGroup) -> Iterator[str]:
    """A message for each option outside its bounds or its choices."""
    for key, value, metadata in options(config):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_within = all(BOUNDS[name][1](value, limit) for name, limit in metadata["bounds"].items())
            is_legal = is_within and abs(value) != float("inf")
        else:
            is_legal = not metadata["choices"] or value in metadata["choices"]
        if not is_legal:
            yield f"{key}={value} is out of range: allowed is {allowed_values(value, metadata)}"
