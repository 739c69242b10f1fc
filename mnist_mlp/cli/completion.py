"""The values that bash offers after `KEY=`; the keys and the groups are Hydra's own affair."""

from enum import Enum
from typing import Any

from mnist_mlp.config import Config, options


def value_offers(line: str) -> list[str] | None:
    """What the last word of a command line may become; None where it is not an option followed by "="."""
    word = line.rpartition(" ")[2]
    key, equals, begun = word.partition("=")
    known = {name: (value, metadata) for name, value, metadata in options(Config())}
    if not equals or key not in known:
        return None
    done, comma, part = begun.rpartition(",")
    return [f"{key}={done}{comma}{value}" for value in _values(*known[key]) if value.startswith(part)]


def _values(default: Any, metadata: dict[str, Any]) -> list[str]:
    if isinstance(default, Enum):
        return [choice.name for choice in type(default)]
    if isinstance(default, bool):
        return ["true", "false"]
    return list(metadata["choices"]) or ([] if isinstance(default, list) or default is None else [str(default)])
