"""Configurations from dotted keys."""

from enum import Enum
from typing import Any

from mnist_mlp.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig

SECTIONS: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
    "augment": AugmentConfig,
    "trainer": TrainerConfig,
}


def config_with(settings: dict[str, Any]) -> Config:
    """The default configuration with these dotted keys changed; choices may be strings."""
    nested: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        default = getattr(SECTIONS[section](), name) if section else None
        converted = type(default)(value) if isinstance(default, Enum) and isinstance(value, str) else value
        nested.setdefault(section, {})[name] = converted
    top = nested.pop("", {})
    return Config(**top, **{section: SECTIONS[section](**values) for section, values in nested.items()})
