"""The Hydra launcher `side_by_side`, the default for sweeps: it composes the jobs and passes them to `run_jobs`."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mnist_mlp.cli.compose import hydra_records, job_name, nested_settings, option_value, preset_flags
from mnist_mlp.options import StrEnum
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.jobs import Job, JobEnd
from mnist_mlp.sweeps.live import SweepProgress, sweep_progress
from mnist_mlp.sweeps.parallel import Limits, run_jobs
from mnist_mlp.sweeps.processes import WorkerPool

PACKAGE = "hydra_plugins.mnist_mlp"
"""The package in which Hydra looks for this plugin; see `register`."""


class GridComposer:
    """Composes the jobs of a sweep, using Hydra (0.1 s) only once per combination of overridden keys.

    Args:
        loader: Hydra's configuration loader.
        master: configuration of the sweep itself.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._common: dict[tuple[str, ...], JSON] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a job with Hydra."""
        return self._loader.load_sweep_config(self._master, list(overrides))

    def compose_job(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose a job with Hydra, and make it Hydra's current one."""
        config = self.compose(overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number - 1
        HydraConfig.instance().set_config(config)
        return config

    def jobs(self, rows: Sequence[Sequence[str]], task: Any, first: int = 1) -> list[Job]:
        """Return the jobs with these overrides; those whose settings are not valid have a fault.

        Args:
            rows: overrides of each job.
            task: Hydra's task function, a `Task`.
            first: number of the first job.
        """
        sweep, flags = Path(str(self._master.hydra.sweep.dir)), preset_flags(self._master.hydra)
        raw: Any = OmegaConf.to_container(self._master.hydra.sweep, resolve=False)
        has_own_names = raw["subdir"] == "${mnist_mlp.job_name:${hydra.overrides.task}}"
        jobs = []
        for number, overrides in enumerate(rows, first):
            texts = [text for text in overrides if not re.match(r"[+~]*hydra[./]", text)]
            if has_own_names and len(texts) == len(overrides):
                subdir = job_name(texts, task.swept)
            else:
                subdir = str(self.compose_job(overrides, number).hydra.sweep.subdir)
            compose = partial(self.settings, overrides)
            jobs.append(task.job(RunFolder(sweep / subdir), sweep, number, [*flags, *texts], compose))
        return jobs

    def settings(self, overrides: Sequence[str]) -> JSON:
        """Return the nested settings of a job before validation; HydraException or UserError if that fails."""
        values = [None if text[:1] in "+~" else option_value(text) for text in overrides]
        keys = tuple(value.key if value else text for value, text in zip(values, overrides, strict=True))
        if keys not in self._common:
            self._common[keys] = nested_settings(self.compose(overrides), resolve=False)
        common = self._common[keys]
        if "${" in repr(common):  # a value may depend on another one
            return nested_settings(self.compose(overrides))
        settings = {key: dict(value) if isinstance(value, dict) else value for key, value in common.items()}
        for value in filter(None, values):
            group, _, name = value.key.rpartition(".")
            (settings[group] if group else settings)[name] = value.value
        return settings


class SideBySideLauncher(Launcher):
    """Runs the jobs of a sweep in parallel worker processes.

    Args:
        n_jobs: number of parallel jobs; 0: as many as cores and memory allow.
        n_per_gpu: number of parallel jobs per GPU.
    """

    __module__ = PACKAGE

    pool: ClassVar[WorkerPool | None] = None
    """Kept between calls of `launch`, because a search calls it for each trial."""
    progress: ClassVar[SweepProgress | None] = None
    """Kept likewise."""

    def __init__(self, n_jobs: int, n_per_gpu: int) -> None:
        self._limits = Limits(n_jobs, n_per_gpu)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare composition and start the fork server."""
        self._callbacks, self._config = hydra_context.callbacks, config
        self._task: Any = task_function
        sweeper = config.hydra.sweeper
        self._limits = replace(
            self._limits, order=sweeper.get("order", "grid"), max_seconds=sweeper.get("max_seconds", 0.0)
        )
        self._composer = GridComposer(hydra_context.config_loader, config)
        self._composed: dict[int, DictConfig] = {}
        os.environ.update({name: str(value) for name, value in config.hydra.job.env_set.items()})
        SideBySideLauncher.progress = None
        SideBySideLauncher.pool = SideBySideLauncher.pool or WorkerPool()
        SideBySideLauncher.pool.start()  # imports torch while the jobs are composed

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs."""
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        sweep = Path(str(self._config.hydra.sweep.dir))
        sweep.mkdir(parents=True, exist_ok=True)
        self._overrides = dict(enumerate(job_overrides, initial_job_idx + 1))
        jobs = self._composer.jobs(job_overrides, self._task, initial_job_idx + 1)
        progress = SideBySideLauncher.progress = SideBySideLauncher.progress or sweep_progress(jobs, self._task.began)
        progress.extend(jobs, self._task.later)
        ends = run_jobs(jobs, self._started, progress, self._limits, self._ended, SideBySideLauncher.pool)
        return [self._returned(job, end) for job, end in zip(jobs, ends, strict=True)]

    def _started(self, job: Job) -> Mapping[str, str]:
        """Notify Hydra's callbacks that a job starts; return the files for its folder."""
        config = self._composed[job.number] = self._composer.compose_job(self._overrides[job.number], job.number)
        with read_write(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(job.folder.path.absolute())
        self._callbacks.on_job_start(config=config, task_function=self._task)
        return hydra_records(job.settings, config.hydra)

    def _ended(self, job: Job, end: JobEnd) -> None:
        """Notify Hydra's callbacks that a job ended."""
        if len(self._config.hydra.callbacks) > 1:  # mnist_mlp's own does not need it
            if job.number not in self._composed:  # its result was reused
                self._started(job)
            config, returned = self._composed[job.number], self._returned(job, end)
            returned.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            returned.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
            returned.task_name, returned.working_dir = config.hydra.job.name, os.getcwd()
            self._callbacks.on_job_end(config=config, job_return=returned)
        self._composed.pop(job.number, None)

    def _returned(self, job: Job, end: JobEnd) -> JobReturn:
        returned = JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED)
        returned.return_value = end.objective
        return returned


@dataclass
class SideBySideConf:
    """The launcher's options, `hydra.launcher.KEY`."""

    _target_: str = f"{PACKAGE}.SideBySideLauncher"
    n_jobs: int = 0
    n_per_gpu: int = 1


Sampler = StrEnum("Sampler", ["tpe", "random"])


@dataclass
class OptunaConf:
    """The options of a search, `hydra.sweeper.KEY`; its sweeper is in `mnist_mlp.cli.search`.

    Attributes:
        n_trials: number of trials per call.
        n_jobs: number of trials that TPE proposes at once.
        min_epochs: epochs after which successive halving stops trials for the first time; None: no halving.
        storage: URL of Optuna's database; None: in memory.
        params: searched and fixed settings, as in overrides.
    """

    _target_: str = f"{PACKAGE}.OptunaSweeper"
    n_trials: int = 20
    n_jobs: int = 1
    min_epochs: int | None = None
    sampler: Sampler = Sampler.tpe
    study_name: str = "search"
    storage: str | None = "sqlite:///${hydra.sweep.dir}/study.db"
    params: dict[str, Any] = field(default_factory=dict)


def register_launcher() -> None:
    """Register the launcher that conf/config.yaml names."""
    try:
        plugins = import_module("hydra_plugins")  # the only package in which Hydra finds plugins
    except ModuleNotFoundError:  # no other plugin is installed
        plugins = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        plugins.__path__ = []
    setattr(plugins, PACKAGE.rpartition(".")[2], sys.modules[__name__])
    sys.modules[PACKAGE] = sys.modules[__name__]
    Plugins.instance().register(SideBySideLauncher)
    ConfigStore.instance().store("side_by_side", SideBySideConf, group="hydra/launcher", provider="mnist_mlp")
    ConfigStore.instance().store("optuna", OptunaConf, group="hydra/sweeper", provider="mnist_mlp")


def close_pool() -> None:
    """Stop the workers."""
    if SideBySideLauncher.pool is not None:
        SideBySideLauncher.pool.stop()
        SideBySideLauncher.pool = None
