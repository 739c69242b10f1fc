"""Hydra's launcher `side_by_side`: the default of every sweep."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.core.utils import run_job as run_by_hydra
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mnist_mlp.cli.compose import VERSION_BASE, records, register_schema, to_config
from mnist_mlp.cli.composed_jobs import composed_job
from mnist_mlp.cli.folders import job_folder
from mnist_mlp.cli.grid import PACKAGE, GridComposer, GridSweeper, GridSweeperConf, nested_settings
from mnist_mlp.config import config_from_dict
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.jobs import JobEnd, SweepJob, run_job
from mnist_mlp.sweeps.live import sweep_progress
from mnist_mlp.sweeps.pool import WorkerPool
from mnist_mlp.sweeps.shares import Limits
from mnist_mlp.sweeps.side_by_side import Planned, run_side_by_side, shared_faults


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
                config = config_from_dict(settings)
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
