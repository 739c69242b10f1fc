"""Configurations from dotted keys, as Python writes them."""

import itertools
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from mnist_mlp.cli.suggestions import suggest
from mnist_mlp.config import Config, config_from_dict, options, to_dict
from mnist_mlp.errors import UserError
from mnist_mlp.presets import groups
from mnist_mlp.runs.settings import flatten


def configuration(base: Config | None, overrides: Mapping[str, Any]) -> Config:
    """A checked configuration: base (or the defaults) with these settings, by dotted key.

    Without a base, a preset may be named too: {"experiment": "better"}, {"optim": "adam"}.
    """
    known = {key for key, _, _ in options(Config())}
    for key in overrides:
        if key not in known and key not in groups():
            raise UserError(suggest(key))
    presets = {key: value for key, value in overrides.items() if key in groups() and key not in known}
    if presets and base is not None:
        raise UserError(
            f"{', '.join(presets)}: a preset changes the defaults: give settings by key instead of a Config"
        )
    if presets:
        from mnist_mlp.cli.application import compose_presets  # deferred: imports Hydra

        base = compose_presets(presets)
    nested = to_dict(base or Config())
    if "model.hidden_units" in overrides and "model.hidden_layers" not in overrides and base is None:
        nested["model"].pop("hidden_layers")  # it follows from the widths
    for key in known & overrides.keys():
        group, _, name = key.rpartition(".")
        (nested[group] if group else nested)[name] = overrides[key]
    return config_from_dict(nested)


def changed(config: Config) -> dict[str, Any]:
    """What differs from the defaults, by dotted key."""
    defaults = flatten(to_dict(Config()))
    return {key: value for key, value in flatten(to_dict(config)).items() if value != defaults[key]}


def override_text(key: str, value: Any) -> str:
    """A setting as the command line writes it."""
    return f"{key}={_text(value)}"


def grid_points(grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values, the last key varying fastest, as Hydra's sweeper orders its jobs.

    A list, tuple, range or array gives several values; anything else is the one value of all jobs.
    """
    values = [_several(key, value) for key, value in grid.items()]
    for combination in itertools.product(*values):
        yield dict(zip(grid, combination, strict=True))


def _several(key: str, value: Any) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Iterator):
        value = list(value)
    if not isinstance(value, (list, tuple, range)):
        return [value]
    lists = {name for name, default, _ in options(Config()) if isinstance(default, list)}
    if key in lists and not all(isinstance(item, (list, tuple)) for item in value):
        raise UserError(
            f"{key}={list(value)} may be one value or several: give [{list(value)}] for one, "
            f"or {[[item] if not isinstance(item, (list, tuple)) else list(item) for item in value]} for several"
        )
    if not value:
        raise UserError(f"{key}={value!r} gives no value")
    return list(value)


def _text(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
