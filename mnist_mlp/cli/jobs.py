"""A job of a sweep as Hydra has composed it, and one that Hydra's own launchers run."""

import copy
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, SCMode, open_dict, read_write

from mnist_mlp.cli.compose import SWEPT_KEYS, prepare_storage, records, to_config
from mnist_mlp.config import choices
from mnist_mlp.console import error_line, guarded_output
from mnist_mlp.errors import Interrupted, UserError, exit_code
from mnist_mlp.runs.folder import FolderLock, RunFolder
from mnist_mlp.sweeps.jobs import SweepJob, run_job, say_interrupted, unrecorded, update_table
from mnist_mlp.sweeps.progress import clock


class PreflightCallback(Callback):
    """Refuses a run's bad settings before a folder is made for it, and tells the jobs of a sweep how many they are.

    The one `_target_` of conf/: Hydra has no other way to name a callback.
    """

    made: ClassVar[list[Path]] = []
    """Folders that Hydra then makes for the run."""
    sweep: ClassVar[Path | None] = None
    """Folder of the sweep that was started in this process."""
    lock: ClassVar[FolderLock | None] = None
    """Of that folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        cfg = copy.deepcopy(config)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        try:
            to_config(cfg)
        except UserError as error:
            sys.exit(f"error: {error}")  # SystemExit: Hydra turns an Exception of a callback into a warning
        folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
        PreflightCallback.made = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        overrides = sweep_overrides(config)
        if faults := list(sweep_faults(overrides)):
            sys.exit(f"error: {'; '.join(faults)}")
        jobs = count_jobs(config, overrides)
        # in the environment, since jobs may run in other processes
        swept = sorted({override.key_or_group for override in overrides if override.is_sweep_override()})
        os.environ[SWEPT_KEYS] = ",".join(swept)
        os.environ["MNIST_MLP_JOBS"] = str(jobs)
        os.environ["MNIST_MLP_SWEEP_START"] = str(time.time())
        sweep = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        try:
            PreflightCallback.lock = FolderLock(sweep).acquire()  # makes the folder: optuna's database is there first
            prepare_storage(config)
        except UserError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {error_line(error)}")
        PreflightCallback.sweep = sweep


def sweep_overrides(config: DictConfig) -> list[Override]:
    """What the sweep varies and fixes: the command line, before what a preset gives the sweeper (`params`)."""
    given: list[Override] = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    if OmegaConf.select(config, "hydra.sweeper.n_trials") is not None:  # a search, which reads its space itself
        return given
    params, keys = OmegaConf.select(config, "hydra.sweeper.params") or {}, {override.key_or_group for override in given}
    preset = [f"{key}={value}" for key, value in params.items() if key not in keys]
    return [*OverridesParser.create().parse_overrides(preset), *given]


def count_jobs(config: DictConfig, overrides: Sequence[Override]) -> int:
    """The number of jobs that Hydra's own sweeper makes of a command line, or an optimiser's number of trials."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    return math.prod(map(count_values, overrides)) if trials is None else int(trials)


def count_values(override: Override) -> int:
    """The number of values that an override gives to its key. An interval, which is for a search, counts as one."""
    glob = override.value()
    if isinstance(glob, Glob):
        return len(glob.filter(choices(override.key_or_group)))
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1


def sweep_faults(overrides: Sequence[Override]) -> Iterator[str]:
    """What a sweep would silently ignore: keys without a value, given twice, or that make no jobs of their own."""
    keys = [override.get_key_element() for override in overrides]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key} is given {keys.count(key)} times: give its values together, as {key}=A,B"
    for override, key in zip(overrides, keys, strict=True):
        count = count_values(override)
        if count == 0 and isinstance(override.value(), Glob):
            yield f"{override.input_line} matches nothing: there is {', '.join(choices(key)) or f'no group {key}'}"
        elif count == 0:
            yield f"{override.input_line} gives no value"
        elif override.is_sweep_override() and key == "name":
            yield f"{override.input_line} gives several names: a sweep has one"


def remove_made() -> None:
    """Remove the folders that Hydra made for a run that was refused, where they are empty."""
    for path in PreflightCallback.made:
        try:
            path.rmdir()
        except OSError:
            return


def composed_job(cfg: DictConfig) -> SweepJob:
    """The job that Hydra has composed and is running."""
    app = HydraConfig.get()
    settings: Any = OmegaConf.to_container(cfg, enum_to_str=True, structured_config_mode=SCMode.DICT)
    return SweepJob(
        folder=RunFolder(Path(app.runtime.output_dir)),
        sweep=Path(app.sweep.dir),
        number=int(app.job.num) + 1,
        total=os.environ.get("MNIST_MLP_JOBS", "?"),
        overrides=list(app.overrides.task),
        settings=settings,
    )


def sweep_job(cfg: DictConfig) -> float | None:
    """The job that Hydra has composed, where it is run by one of Hydra's own launchers; its objective.

    It prints its line itself, and keeps the table up to date.
    """
    job = composed_job(cfg)
    with guarded_output():
        try:
            end = run_job(job, lambda: to_config(cfg), lambda: records(cfg))
        except (Interrupted, KeyboardInterrupt, SystemExit) as stop:  # the last is how Lightning passes Ctrl-C on
            if PreflightCallback.sweep is None:  # in another process than the sweep, which says it once
                raise
            say_interrupted(stop)
            raise SystemExit(exit_code(stop)) from None
        if not end.recorded:
            unrecorded.append(job.folder.path.name)
        _print_line(f"{end.line}{_left(job)}")
        update_table(job.sweep)
    return end.objective


def _print_line(line: str) -> None:
    """Print with one write, so that parallel jobs do not mix; on a terminal this replaces the bar."""
    print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)


def _left(job: SweepJob) -> str:
    """Time since the sweep began, and the time left if the remaining jobs take as long as those before."""
    began = os.environ.get("MNIST_MLP_SWEEP_START")
    if began is None:
        return ""
    elapsed = time.time() - float(began)
    remaining = int(job.total) - job.number if job.total.isdigit() else 0
    left = f", about {clock(elapsed / job.number * remaining)} left" if job.total.isdigit() else ""
    return f"  [{clock(elapsed)} elapsed{left}]"
