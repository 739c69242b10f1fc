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
from omegaconf import DictConfig, OmegaConf, SCMode, open_dict

from mnist_mlp.cli.compose import VERSION_BASE, records, register_schema, to_config
from mnist_mlp.cli.jobs import JobEnd, SweepJob, composed_job, run_job
from mnist_mlp.cli.live import sweep_progress
from mnist_mlp.cli.pool import WorkerPool
from mnist_mlp.cli.shares import environments_of_workers
from mnist_mlp.cli.side_by_side import Planned, run_side_by_side
from mnist_mlp.runs.folder import RunFolder

PACKAGE = "hydra_plugins.mnist_mlp"
"""The name under which Hydra finds this module."""


class SideBySideLauncher(Launcher):
    """Runs the jobs of a sweep in worker processes.

    n_jobs: how many at once, 0 for as many as there are cores and memory for; n_per_gpu: of these on one GPU.
    """

    __module__ = PACKAGE

    pool: ClassVar[WorkerPool | None] = None
    """It outlives a call of `launch`, since a search calls it for each of its trials."""

    def __init__(self, n_jobs: int, n_per_gpu: int) -> None:
        self._n_jobs, self._n_per_gpu = n_jobs, n_per_gpu

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        sweep = Path(str(self._config.hydra.sweep.dir))
        sweep.mkdir(parents=True, exist_ok=True)
        if SideBySideLauncher.pool is None:
            SideBySideLauncher.pool = WorkerPool()
        SideBySideLauncher.pool.start()
        composed = [self._compose(list(one), initial_job_idx + place) for place, one in enumerate(job_overrides)]
        plans = [Planned(_job(config), partial(HydraTask, config, self._context.callbacks)) for config in composed]
        began = float(os.environ["MNIST_MLP_SWEEP_START"])
        progress = sweep_progress(sweep, [plan.job.folder.path.name for plan in plans], began)
        environments = environments_of_workers(len(plans), self._n_jobs, self._n_per_gpu)
        ends = run_side_by_side(plans, SideBySideLauncher.pool, progress, environments)
        return [_returned(config, end) for config, end in zip(composed, ends, strict=True)]

    def _compose(self, overrides: list[str], number: int) -> DictConfig:
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
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


def register_launcher() -> None:
    """Make the launcher known to Hydra, which finds launchers in the package hydra_plugins alone."""
    try:
        plugins = import_module("hydra_plugins")
    except ModuleNotFoundError:  # there is no other plugin
        plugins = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        plugins.__path__ = []
    setattr(plugins, PACKAGE.rpartition(".")[2], sys.modules[__name__])
    sys.modules[PACKAGE] = sys.modules[__name__]
    ConfigStore.instance().store(group="hydra/launcher", name="side_by_side", node=SideBySideConf, provider="mnist_mlp")
    Plugins.instance().register(SideBySideLauncher)


def close_pool() -> None:
    """End the workers."""
    if SideBySideLauncher.pool is not None:
        SideBySideLauncher.pool.stop()
        SideBySideLauncher.pool = None


def _run(cfg: DictConfig) -> JobEnd:
    return run_job(composed_job(cfg), partial(to_config, cfg), partial(records, cfg))


def _job(config: DictConfig) -> SweepJob:
    """The job of which this is the configuration, before it is run."""
    sweep = Path(str(config.hydra.sweep.dir))
    settings: Any = OmegaConf.to_container(config, enum_to_str=True, structured_config_mode=SCMode.DICT)
    del settings["hydra"]
    return SweepJob(
        folder=RunFolder(sweep / str(config.hydra.sweep.subdir)),
        sweep=sweep,
        number=int(config.hydra.job.num) + 1,
        total=os.environ.get("MNIST_MLP_JOBS", "?"),
        overrides=list(config.hydra.overrides.task),
        settings=settings,
    )


def _returned(config: DictConfig, end: JobEnd) -> JobReturn:
    returned = JobReturn(overrides=list(config.hydra.overrides.task), status=JobStatus.COMPLETED)
    returned.return_value = end.objective
    return returned
