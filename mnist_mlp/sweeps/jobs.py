"""A job of a sweep: run it or reuse its result, record a failure, say in a line how it ended."""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_mlp.config import Config
from mnist_mlp.console import reason
from mnist_mlp.errors import UserError
from mnist_mlp.interruption import said
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
    line = f"{said(stop)}: finished jobs stay; the same command and name= goes on"
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
