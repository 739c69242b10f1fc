"""A job of a sweep as Hydra has composed it, and one that Hydra's own launchers run."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode

from mnist_mlp.cli.compose import records, to_config
from mnist_mlp.cli.preflight import PreflightCallback
from mnist_mlp.console import guarded_output
from mnist_mlp.interruption import Interrupted, exit_code
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.closing import unrecorded, update_table
from mnist_mlp.sweeps.jobs import SweepJob, run_job, say_interrupted
from mnist_mlp.sweeps.progress import clock


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
