"""Options as dataclass fields: declared once with default, bounds and meaning, and validated on construction."""

import difflib
import operator
import os
import re
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
"""Symbol and comparison of each kind of bound."""


if sys.version_info >= (3, 11):
    from enum import StrEnum as StrEnum
else:
    from enum import Enum

    class StrEnum(str, Enum):
        """Backport from Python 3.11."""

        __str__ = str.__str__

        @staticmethod
        def _generate_next_value_(name: str, *_: Any) -> str:
            return name


if TYPE_CHECKING:

    class Converted(Generic[Value, Accepted]):
        """Type of an option that reads as `Value` and accepts any `Accepted`, which `as_type` converts."""

        def __get__(self, instance: object, owner: type | None = None) -> Value: ...
        def __set__(self, instance: object, value: Accepted) -> None: ...

else:

    class Converted:
        """At run time, evaluates to the first of the two types, the only one that OmegaConf sees."""

        def __class_getitem__(cls, pair: tuple[Any, Any]) -> Any:
            return pair[0]


def option(
    default: Any,
    meaning: str,
    *,
    choices: tuple[str, ...] = (),
    values: str = "",
    affects_result: bool = True,
    aliases: Mapping[str, str] | None = None,
    **bounds: float,
) -> Any:
    """Declare a dataclass field with its help text and bounds.

    Args:
        default: the value, or a function without arguments that returns it; lists are copied.
        meaning: description for `--help` and docs/configuration.md.
        choices: all allowed values of a string.
        values: description of the allowed values, if bounds cannot express them.
        affects_result: False excludes the option from the fingerprint.
        aliases: values by the names that other libraries have for them, for messages.
        **bounds: gt, ge, lt or le, as in annotated-types.
    """
    metadata = {
        "meaning": meaning, "bounds": bounds, "choices": choices, "values": values, "affects_result": affects_result,
        "aliases": aliases or {},
    }  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class OptionGroup:
    """A dataclass of options. Values are converted to their option's type; UserError names those that cannot be."""

    def __post_init__(self) -> None:
        faults = []
        for item in fields(self):
            value = getattr(self, item.name)
            try:
                setattr(self, item.name, as_type(value, item.type))
            except TypeError:
                key = f"{type(self).__name__.removesuffix('Config').lower()}.{item.name}".lstrip(".")
                if is_dataclass(item.type):
                    expected = f"{getattr(item.type, '__name__', '')}(...)"
                    faults.append(f"{key}={value!r} has the wrong type: expected {expected}")
                else:
                    default = item.default if item.default_factory is MISSING else item.default_factory()
                    faults.append(wrong_value_message(key, repr(value), default, dict(item.metadata)))
        if faults:
            raise UserError("; ".join(faults))


def options(config: OptionGroup, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield every option of a config as (dotted key, value, metadata), in order of declaration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, OptionGroup):
            yield from options(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value, dict(item.metadata)


def to_dict(value: Any) -> Any:
    """Convert a config or one of its groups to nested dicts, lists and primitives."""
    if isinstance(value, OptionGroup):
        return {item.name: to_dict(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, list):
        return [dict(item) if isinstance(item, dict) else item for item in value]
    return value.value if isinstance(value, StrEnum) else value


def from_dict(group: type[Group], values: Mapping[str, Any]) -> Group:
    """Inverse of `to_dict`. Unknown keys are ignored, missing keys take their defaults."""
    annotations = {item.name: item.type for item in fields(group) if item.name in values}  # type: ignore[arg-type]
    return group(
        **{
            name: from_dict(annotation, values[name] or {}) if is_dataclass(annotation) else values[name]  # type: ignore[arg-type]
            for name, annotation in annotations.items()
        }
    )


def as_type(value: Any, annotation: Any) -> Any:
    """Convert a value to the annotated type of an option.

    Accepts the name of a choice, a number for a string (`subset=0.5`), an integer for a list of one element, a tuple,
    array or 256-128 for a list, numpy and torch scalars, and ~ for the home folder. No other string becomes a number.

    Raises:
        TypeError: the value cannot be converted.
    """
    origin, (inner, *_) = get_origin(annotation), get_args(annotation) or (None,)
    if origin is types.UnionType:
        return None if value is None else as_type(value, inner)
    if origin is list:
        items = value.tolist() if hasattr(value, "tolist") else value
        if inner is int and isinstance(items, str) and re.fullmatch(r"\d+(-\d+)+", items):  # as tables show a list
            items = list(map(int, items.split("-")))
        items = [items] if inner is int and isinstance(items, int) else items
        if isinstance(items, str) or not isinstance(items, Sequence):
            raise TypeError
        return [as_type(item, inner) for item in items]
    if origin is dict:
        return dict(value)
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is str and (is_number or isinstance(value, (str, os.PathLike))):
        return str(value) if is_number else str(os.path.expanduser(value))
    if annotation is float and is_number:
        return float(value)
    if issubclass(annotation, StrEnum) and value in annotation.__members__:
        return annotation[value]
    if not isinstance(value, annotation) or (annotation is int and not is_number):
        raise TypeError
    return value


def allowed_values(value: Any, metadata: dict[str, Any]) -> str:
    """Describe the values that an option accepts. value: any legal value of it."""
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


def wrong_value_message(key: str, text: str | None, default: Any, metadata: dict[str, Any]) -> str:
    """Explain that an option does not accept a value. text: the value, None if unknown."""
    setting, allowed = key if text is None else f"{key}={text}", allowed_values(default, metadata)
    if not isinstance(default, StrEnum):
        return f"{setting} has the wrong type: expected {allowed}"
    word, names = (text or "").strip("'").lower(), list(type(default))
    word = metadata["aliases"].get(word, word)
    close = [name for name in names if word and name.startswith(word)] or difflib.get_close_matches(word, names, n=1)
    return f"{setting} is not a valid choice: {f'did you mean {close[0]}? ' if close else ''}use one of {allowed}"


def range_faults(config: OptionGroup) -> Iterator[str]:
    """Yield a message for each option outside its bounds or choices."""
    for key, value, metadata in options(config):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_within = all(BOUNDS[name][1](value, limit) for name, limit in metadata["bounds"].items())
            is_legal = is_within and abs(value) != float("inf")
        else:
            is_legal = not metadata["choices"] or value in metadata["choices"]
        if not is_legal:
            yield f"{key}={value} is out of range: expected {allowed_values(value, metadata)}"
