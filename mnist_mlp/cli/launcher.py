"""Hydra's launcher `side_by_side`: the default of every sweep."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from hydra import version
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.core.utils import run_job as run_by_hydra
from hydra.errors import ConfigCompositionException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.cli.compose import VERSION_BASE, Schema, job_folder, records, register_schema, to_config
from mnist_mlp.cli.jobs import composed_job
from mnist_mlp.config import Config
from mnist_mlp.errors import UserError
from mnist_mlp.options import from_dict, options
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import flatten
from mnist_mlp.sweeps.jobs import JobEnd, SweepJob, run_job
from mnist_mlp.sweeps.live import sweep_progress
from mnist_mlp.sweeps.parallel import Limits, Planned, run_side_by_side, shared_faults
from mnist_mlp.sweeps.processes import WorkerPool

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
        self._scratch = OmegaConf.structured(Schema)

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


class SideBySideLauncher(Launcher):
    """Runs the jobs of a sweep in worker processes.

    n_jobs: how many at once, 0 for as many as there are cores and memory for; n_per_gpu: of these on one GPU.
    """

    __module__ = PACKAGE

    pool: ClassVar[WorkerPool | None] = None
    """It outlives a call of `launch`, since a search calls it for each of its trials."""

    def __init__(self, n_jobs: int, n_per_gpu: int) -> None:
        self._limits = Limits(n_jobs, n_per_gpu)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._config = hydra_context, config
        self.composer = GridComposer(hydra_context.config_loader, config)
        self._sweep = Path(str(config.hydra.sweep.dir))
        if SideBySideLauncher.pool is None:
            SideBySideLauncher.pool = WorkerPool(preloaded="mnist_mlp.cli.preload")
        SideBySideLauncher.pool.start()  # it imports all while the jobs are composed and planned

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        self._sweep.mkdir(parents=True, exist_ok=True)
        assert SideBySideLauncher.pool is not None
        plans = [self._plan(overrides, initial_job_idx + place) for place, overrides in enumerate(job_overrides)]
        if faults := shared_faults(plans):
            raise UserError("; ".join(faults))
        began = float(os.environ["MNIST_MLP_SWEEP_START"])
        progress = sweep_progress(self._sweep, [plan.job.folder.path.name for plan in plans], began)
        ends = run_side_by_side(plans, SideBySideLauncher.pool, progress, self._limits)
        return [_returned(plan, end) for plan, end in zip(plans, ends, strict=True)]

    def _plan(self, overrides: Sequence[str], number: int) -> Planned:
        settings = self.composer.settings(overrides)
        task_overrides = self.composer.of_task(overrides)
        config, subdir, faults = None, job_folder(task_overrides), ""
        if settings is None or not self._usual_folders:
            composed = self._compose(overrides, number)
            settings, subdir = nested_settings(composed), str(composed.hydra.sweep.subdir)
        else:
            try:
                config = from_dict(Config, settings)
            except UserError as error:  # the job itself will say so
                faults = str(error)
        job = SweepJob(
            folder=RunFolder(self._sweep / subdir),
            sweep=self._sweep,
            number=number + 1,
            total=os.environ.get("MNIST_MLP_JOBS", "?"),
            overrides=task_overrides,
            settings=settings,
        )
        return Planned(
            job, config, lambda: HydraTask(self._compose(overrides, number), self._context.callbacks), faults
        )

    @property
    def _usual_folders(self) -> bool:
        """Whether a job's folder follows from its overrides alone."""
        sweep: Any = OmegaConf.to_container(self._config.hydra.sweep, resolve=False)
        return bool(sweep["subdir"] == "${job_folder:${hydra.overrides.task}}")

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.composer.compose(overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


@dataclass
class SideBySideConf:
    """The launcher's options, as `hydra.launcher.KEY`."""

    _target_: str = f"{PACKAGE}.SideBySideLauncher"
    n_jobs: int = 0
    n_per_gpu: int = 1


@dataclass(frozen=True)
class HydraTask:
    """A job as Hydra has composed it, run as Hydra's own launchers run theirs."""

    config: DictConfig
    callbacks: Any

    def __call__(self) -> JobEnd:
        version.setbase(VERSION_BASE)
        setup_globals()
        register_schema()
        context = HydraContext(config_loader=None, callbacks=self.callbacks)  # type: ignore[arg-type]  # not asked for
        done = run_by_hydra(_run, self.config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
        end = done.return_value
        assert isinstance(end, JobEnd)
        return end


def register_plugins() -> None:
    """Make launcher and sweeper known to Hydra, which finds plugins in the package hydra_plugins alone."""
    try:
        plugins = import_module("hydra_plugins")
    except ModuleNotFoundError:  # there is no other plugin
        plugins = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        plugins.__path__ = []
    setattr(plugins, PACKAGE.rpartition(".")[2], sys.modules[__name__])
    sys.modules[PACKAGE] = sys.modules[__name__]
    known = Plugins.instance()  # first: it stores what Hydra itself offers under these names
    store = partial(ConfigStore.instance().store, provider="mnist_mlp")
    store(group="hydra/launcher", name="side_by_side", node=SideBySideConf)
    store(group="hydra/sweeper", name="basic", node=GridSweeperConf)
    for plugin in (SideBySideLauncher, GridSweeper):
        known.register(plugin)


def close_pool() -> None:
    """End the workers."""
    if SideBySideLauncher.pool is not None:
        SideBySideLauncher.pool.stop()
        SideBySideLauncher.pool = None


def _run(cfg: DictConfig) -> JobEnd:
    return run_job(composed_job(cfg), partial(to_config, cfg), partial(records, cfg))


def _returned(plan: Planned, end: JobEnd) -> JobReturn:
    returned = JobReturn(overrides=list(plan.job.overrides), status=JobStatus.COMPLETED)
    returned.return_value = end.objective
    return returned
