"""A job of a sweep: run it or reuse its result, record a failure, say in a line how it ended."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode

from mnist_mlp.cli.closing import unrecorded, update_table
from mnist_mlp.cli.compose import records, to_config
from mnist_mlp.cli.preflight import PreflightCallback
from mnist_mlp.cli.progress import clock
from mnist_mlp.config import Config
from mnist_mlp.console import guarded_output, reason
from mnist_mlp.errors import UserError
from mnist_mlp.interruption import Interrupted, exit_code, said
from mnist_mlp.quick_start import quick_start
from mnist_mlp.runs.files import JSON, write_json, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.reading import UnreadableFileError
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.tables import percent


@dataclass(frozen=True)
class SweepJob:
    """A job and its place in the sweep. total: "?" where nobody knows; settings: before any check."""

    folder: RunFolder
    sweep: Path
    number: int
    total: str
    overrides: Sequence[str]
    settings: JSON

    @property
    def place(self) -> str:
        return f"[{self.number}/{self.total}] {self.folder.path.name}"


@dataclass(frozen=True)
class JobEnd:
    """How a job ended. line: all there is to say.

    objective: the best validation accuracy, without validation the training accuracy; None if it failed.
    recorded: False where a failure could not be written into the job's folder.
    """

    line: str
    objective: float | None
    recorded: bool = True

    @property
    def failed(self) -> bool:
        return self.objective is None


@dataclass(frozen=True)
class ConfiguredJob:
    """A job that needs no Hydra, as a worker's task. records: further files for its folder, text by relative path."""

    job: SweepJob
    config: Config
    records: Mapping[str, str]

    def __call__(self) -> JobEnd:
        return run_job(self.job, lambda: self.config, lambda: self.records)


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


def run_job(job: SweepJob, make_config: Callable[[], Config], make_records: Callable[[], Mapping[str, str]]) -> JobEnd:
    """Run one job. A failure does not end the sweep: its traceback goes to error.log, the reason to failure.json."""
    folder = job.folder
    earlier = finished_before(folder)
    resumed = folder.last_checkpoint.is_file() and earlier is None
    try:
        result = _run(job, make_config(), make_records)
    except Exception as error:
        return keep_failure(job, reason(error), "".join(traceback.format_exception(error)))
    return ended_with(job, result, result == earlier, resumed)


def ended_with(job: SweepJob, result: RunResult, reused: bool, resumed: bool = False) -> JobEnd:
    """The end of a job that has a result. reused: it was there before; resumed: the job was continued."""
    objective = result.metric("val/accuracy" if "val/accuracy" in result.metrics else "train/accuracy")
    return JobEnd(f"{job.place}: {_outcome(result, reused, resumed)}", objective)


def say_interrupted(stop: BaseException) -> None:
    """Tell that a sweep was interrupted, and how it goes on."""
    line = f"{said(stop)}: what is finished stays; the same command with the same name= goes on"
    print(f"\n{line}", file=sys.stderr)


def finished_before(folder: RunFolder) -> RunResult | None:
    """The result that is in a folder already; None where there is none that can be read."""
    try:
        return folder.result()
    except UnreadableFileError:
        return None


def keep_failure(job: SweepJob, why: str, log: str) -> JobEnd:
    """Write error.log and failure.json; where that fails too, the line says so."""
    folder, recorded = job.folder, True
    try:
        content = {"reason": why, "overrides": list(job.overrides), "config": job.settings}
        folder.path.mkdir(parents=True, exist_ok=True)  # it may have been archived
        write_text(folder.error_log, log)
        write_json(folder.failure_file, content)
    except Exception as second:
        why, recorded = f"{why} (this could not be recorded: {reason(second)})", False
    return JobEnd(f"{job.place}: FAILED: {why}", None, recorded)


def _outcome(result: RunResult, reused: bool, resumed: bool) -> str:
    metrics = result.metrics
    how = "already there" if reused else f"{'resumed, ' if resumed else ''}{result.timing['fit_seconds']:.1f} s"
    val = f"val {percent(metrics['val/accuracy'])}, " if "val/accuracy" in metrics else ""
    diverged = "DIVERGED, " if result.status == "diverged" else ""
    return f"{diverged}{val}test {percent(metrics['test/accuracy'])} ({result.data['source']}), {how}"


def _print_line(line: str) -> None:
    """Print with one write, so that parallel jobs do not mix; on a terminal this replaces the bar."""
    print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)


def _run(job: SweepJob, config: Config, make_records: Callable[[], Mapping[str, str]]) -> RunResult:
    if config.resume not in ("auto", "never"):
        raise UserError(f"resume={config.resume} is for one run: in a sweep give auto or never")
    if config.trainer.devices > 1:
        raise UserError(
            f"trainer.devices={config.trainer.devices} is for one run: the jobs of a sweep take one device each"
        )
    with quick_start():
        from mnist_mlp.training.fit import fit  # deferred: a mistake in the settings is reported without torch

    return fit(config, job.folder.path, job.overrides, make_records(), job.place)


def _left(job: SweepJob) -> str:
    """Time since the sweep began, and the time left if the remaining jobs take as long as those before."""
    began = os.environ.get("MNIST_MLP_SWEEP_START")
    if began is None:
        return ""
    elapsed = time.time() - float(began)
    remaining = int(job.total) - job.number if job.total.isdigit() else 0
    left = f", about {clock(elapsed / job.number * remaining)} left" if job.total.isdigit() else ""
    return f"  [{clock(elapsed)} elapsed{left}]"
