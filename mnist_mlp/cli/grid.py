"""Many jobs composed at the price of a few: Hydra composes one of each kind, and the rest follows from its values."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.config import Config, options
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import flatten

PACKAGE = "hydra_plugins.mnist_mlp"
"""The package in which Hydra looks for plugins of ours; see `launcher.register_plugins`."""


@dataclass(frozen=True)
class _Plain:
    """An override that gives an option of ours a value of its own. value: as the configuration then holds it."""

    key: str
    value: Any


class GridComposer:
    """Composes the jobs of a sweep. loader: Hydra's; master: the configuration of the sweep itself.

    Jobs are of one kind where they differ only in values of our options; groups, presets, Hydra's own options and
    anything with an interpolation make a kind of their own.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._known = {key for key, _, _ in options(Config())}
        self._overrides: dict[str, Override] = {}
        self._plain: dict[str, _Plain | None] = {}
        self._kinds: dict[tuple[str, ...], JSON | None] = {}
        self._scratch: DictConfig | None = None

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """What Hydra composes for this job."""
        return self._loader.load_sweep_config(self._master, list(overrides))

    def settings(self, overrides: Sequence[str]) -> JSON | None:
        """The nested settings of a job before any check, as `to_config` finds them in what `compose` gives.

        None where they cannot be told without it. Raises what Hydra would for an override that it refuses.
        """
        plain = [self._plain_of(override) for override in overrides]
        kind = tuple(
            override if found is None else f"{found.key}=" for override, found in zip(overrides, plain, strict=True)
        )
        if kind not in self._kinds:
            self._kinds[kind] = self._common(overrides)
        common = self._kinds[kind]
        if common is None:
            return None
        settings = {key: dict(value) if isinstance(value, dict) else value for key, value in common.items()}
        for found in filter(None, plain):
            group, _, name = found.key.rpartition(".")
            (settings[group] if group else settings)[name] = found.value
        return settings

    def of_task(self, overrides: Sequence[str]) -> list[str]:
        """The overrides that are not Hydra's own."""
        return [override for override in overrides if not self._parsed(override).is_hydra_override()]

    def _parsed(self, override: str) -> Override:
        if override not in self._overrides:
            self._overrides[override] = self._parser.parse_override(override)
        return self._overrides[override]

    def _common(self, overrides: Sequence[str]) -> JSON | None:
        """The settings of the first job of a kind; None where they hold interpolations or keys that we do not know."""
        settings = nested_settings(self.compose(overrides))
        flat = flatten(settings)
        return None if "${" in repr(flat) or not flat.keys() <= self._known else settings

    def _plain_of(self, override: str) -> _Plain | None:
        if override not in self._plain:
            self._plain[override] = self._convert(self._parsed(override))
        return self._plain[override]

    def _convert(self, override: Override) -> _Plain | None:
        key, value = override.key_or_group, override.value()
        simple = override.type == OverrideType.CHANGE and override.package is None and not isinstance(value, dict)
        if not simple or key not in self._known or "${" in (override.input_line or ""):
            return None
        if self._scratch is None:
            self._scratch = self.compose([])
        try:
            OmegaConf.update(self._scratch, key, value, merge=True)
        except OmegaConfBaseException as error:
            raise ConfigCompositionException(f"Error merging override {override.input_line}") from error
        found = OmegaConf.select(self._scratch, key)
        if isinstance(found, (ListConfig, DictConfig)):
            found = OmegaConf.to_container(found)
        return _Plain(key, found.name if isinstance(found, Enum) else found)


def nested_settings(composed: DictConfig) -> JSON:
    """The settings of a composed configuration, before any check."""
    settings: Any = OmegaConf.to_container(
        composed, resolve=False, enum_to_str=True, structured_config_mode=SCMode.DICT
    )
    del settings["hydra"]
    return dict(settings)


class GridSweeper(Sweeper):
    """Hydra's own sweeper, which checks the jobs of a large grid quickly."""

    __module__ = PACKAGE

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None) -> None:
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # deferred: Hydra makes the class anew

        self._basic: Any = BasicSweeper(max_batch_size, params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._basic.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        known = getattr(self._basic.launcher, "composer", None)
        self._composer = known or GridComposer(hydra_context.config_loader, config)
        self._basic.validate_batch_is_legal = self._validate

    def sweep(self, arguments: list[str]) -> Any:
        return self._basic.sweep(arguments)

    def _validate(self, batch: Sequence[Sequence[str]]) -> None:
        for overrides in batch:
            self._composer.settings(overrides)


@dataclass
class GridSweeperConf:
    """The options of Hydra's own sweeper."""

    _target_: str = f"{PACKAGE}.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None
