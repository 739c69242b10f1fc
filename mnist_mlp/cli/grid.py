"""The Hydra sweeper of grids, which replaces Hydra's `basic`: combinations of values, some of which may vary together.

`NAME=zip(KEY=VALUES,KEY=VALUES)` is Hydra's planned syntax for values that vary together (hydra#1258).
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli.compose import as_text, register_schema
from mnist_mlp.cli.launcher import PACKAGE, SideBySideLauncher, register_launcher
from mnist_mlp.config import groups
from mnist_mlp.errors import UserError
from mnist_mlp.sweeps.parallel import Limits


@dataclass
class GridConf:
    """The sweeper's options, `hydra.sweeper.KEY`; see `Limits`."""

    _target_: str = f"{PACKAGE}.GridSweeper"
    order: str = Limits.order
    max_seconds: float = Limits.max_seconds
    params: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Register the schema, resolvers and launcher that conf/config.yaml names, and the sweeper."""
    register_schema()
    register_launcher()
    setattr(import_module(PACKAGE), GridSweeper.__name__, GridSweeper)
    Plugins.instance().register(GridSweeper)
    # replaces Hydra's default: an override in config.yaml would precede those of conf/search
    ConfigStore.instance().store("basic", GridConf, group="hydra/sweeper", provider="mnist_mlp")


@dataclass(frozen=True)
class Dimension:
    """A dimension of a grid: an override, or several whose values vary together."""

    text: str
    members: Sequence[Override]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the overrides of each of its values."""
        return zip(*map(_texts, self.members), strict=True)

    def __len__(self) -> int:
        return count_values(self.members[0])


def combinations(dimensions: Sequence[Dimension]) -> list[list[str]]:
    """Return the overrides of each combination of values, in the order in which they are written."""
    rows = itertools.product(*(dimension.rows() for dimension in dimensions))
    return [list(itertools.chain(*row)) for row in rows]


def count_values(override: Override) -> int:
    """Count the values of an override. An interval, which only a search uses, counts as one."""
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1


def _texts(override: Override) -> Iterator[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return iter([f"{key}={override.get_value_element_as_str()}"])
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line} is for a search: list values, or use search=optuna")
    return (f"{key}={value}" for value in override.sweep_string_iterator())


def sweep_dimensions(config: DictConfig) -> list[Dimension]:
    """Return the overrides of the command line, preceded by the sweeper's `params` in a preset.

    Raises:
        UserError: A `zip` is not of the required form.
        HydraException: An override cannot be parsed.
    """
    application = GlobalHydra.instance().hydra  # knows the presets, including the user's own
    parser = OverridesParser.create(application.config_loader if application else None)
    typed = [_dimension(text, parser) for text in config.hydra.overrides.task]
    if OmegaConf.select(config, "hydra.sweeper.n_trials") is not None:  # a search reads its params itself
        return typed
    params = [f"{key}={value}" for key, value in (OmegaConf.select(config, "hydra.sweeper.params") or {}).items()]
    keys = {key for one in typed for key in (one.text.partition("=")[0], *(each.key_or_group for each in one.members))}
    presets = [_dimension(as_text(text), parser) for text in params if text.partition("=")[0] not in keys]
    return [*(one for one in presets if keys.isdisjoint(each.key_or_group for each in one.members)), *typed]


def _dimension(text: str, parser: OverridesParser) -> Dimension:
    (override,) = parser.parse_overrides([text])
    choices = value.list if isinstance(value := override.value(), ChoiceSweep) else []
    zipped = str(choices[0]) if len(choices) == 1 else ""
    if not zipped.startswith("zip("):
        return Dimension(text, [override])
    name = override.get_key_element()
    written, parts = f"{name}={zipped}", list[str]()
    for part in re.split(r",(?=\s*[\w./@]+=)", zipped.removeprefix("zip(").removesuffix(")")):
        if parts and parts[-1].count("(") != parts[-1].count(")"):  # an argument, as in range(start=1,stop=4)
            parts[-1] += f",{part}"
        else:
            parts.append(part.strip())
    if len(parts) < 2 or not all(re.match(r"[\w./@]+=.", part) for part in parts) or not zipped.endswith(")"):
        example = f"{name}=zip(model.hidden_units=64,256,optim.lr=0.1,0.03)"
        raise UserError(f"{written} does not have several keys with values: write it as {example}")
    if name in {"name", "resume", "seed", *groups()} or "." in name:
        raise UserError(f"{written}: the name before zip is that of an option: use a new one, such as size=")
    members = [_member(part, parser) for part in parts]
    lengths = {member.get_key_element(): count_values(member) for member in members}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count} of {key}" for key, count in lengths.items())
        raise UserError(f"{written} has unequal numbers of values ({counts}): use as many for each key")
    if any(getattr(member.value(), "shuffle", False) for member in members):
        raise UserError(f"{written}: a shuffled key does not keep its values together with those of others: list them")
    return Dimension(written, members)


def _member(text: str, parser: OverridesParser) -> Override:
    """Parse a key of a zip. As in Hydra's plan, the items of a single list are the values."""
    (override,) = parser.parse_overrides([as_text(text)])
    if isinstance(override.value(), list):
        key, _, items = text.partition("=")
        (override,) = parser.parse_overrides([as_text(f"{key}=choice({items.strip()[1:-1]})")])
    return override


class GridSweeper(Sweeper):
    """Hydra's sweeper for grids: numbers all combinations in the order in which they are written, and runs them.

    Args:
        options: those of `GridConf`, which are read from the configuration.
    """

    __module__ = PACKAGE

    def __init__(self, **options: Any) -> None:
        pass

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher."""
        self._config = config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run all jobs."""
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, folder / "multirun.yaml")
        if self._config.hydra.sweeper.max_seconds and not isinstance(self._launcher, SideBySideLauncher):
            raise UserError("hydra.sweeper.max_seconds needs hydra/launcher=side_by_side, the default")
        self._launcher.launch(combinations(sweep_dimensions(self._config)), initial_job_idx=0)
