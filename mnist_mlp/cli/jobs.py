"""A job of a sweep: run it or reuse its result, record a failure, update the table, report progress."""

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

from mnist_mlp.analysis.collect import Summary, find_jobs, summarize
from mnist_mlp.analysis.digits import write_digits
from mnist_mlp.analysis.summary import as_text, write_summary
from mnist_mlp.cli.compose import records, to_config
from mnist_mlp.cli.preflight import PreflightCallback
from mnist_mlp.config import Config
from mnist_mlp.console import error_line, guarded_output
from mnist_mlp.errors import UserError
from mnist_mlp.interruption import Interrupted, exit_code, said
from mnist_mlp.quick_start import quick_start
from mnist_mlp.runs.files import JSON, write_json, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.reading import UnreadableFileError
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.tables import percent

unrecorded: list[str] = []
"""Jobs of this process that failed, of which their folders say nothing."""


@dataclass(frozen=True)
class SweepJob:
    """A job and its place in the sweep. total: "?" where nobody knows; began: the time; settings: before any check."""

    folder: RunFolder
    sweep: Path
    number: int
    total: str
    began: float | None
    overrides: Sequence[str]
    settings: JSON

    @property
    def place(self) -> str:
        return f"[{self.number}/{self.total}] {self.folder.path.name}"


def sweep_job(cfg: DictConfig) -> float | None:
    """`run_job` on the job that Hydra has composed."""
    app = HydraConfig.get()
    began = os.environ.get("MNIST_MLP_SWEEP_START")
    settings: Any = OmegaConf.to_container(cfg, enum_to_str=True, structured_config_mode=SCMode.DICT)
    job = SweepJob(
        folder=RunFolder(Path(app.runtime.output_dir)),
        sweep=Path(app.sweep.dir),
        number=int(app.job.num) + 1,
        total=os.environ.get("MNIST_MLP_JOBS", "?"),
        began=None if began is None else float(began),
        overrides=list(app.overrides.task),
        settings=settings,
    )
    return run_job(job, lambda: to_config(cfg), lambda: records(cfg))


def run_job(
    job: SweepJob, make_config: Callable[[], Config], make_records: Callable[[], Mapping[str, str]]
) -> float | None:
    """Run one job and return its objective: the best validation accuracy, without validation the training accuracy.

    None if it failed. A failing job does not end the sweep: the traceback goes to its error.log, the reason to
    failure.json.
    """
    with guarded_output():
        return _run_guarded(job, make_config, make_records)


def _run_guarded(
    job: SweepJob, make_config: Callable[[], Config], make_records: Callable[[], Mapping[str, str]]
) -> float | None:
    folder, place = job.folder, job.place
    earlier = finished_before(folder)
    resumed = folder.last_checkpoint.is_file() and earlier is None
    try:
        result = _run(job, make_config(), make_records)
    except Exception as error:
        reason = _keep_failure(job, error)
        _print_line(f"{place}: FAILED: {reason}")
        return None
    except (Interrupted, KeyboardInterrupt, SystemExit) as stop:  # the last is how Lightning passes Ctrl-C on
        if PreflightCallback.sweep is None:  # in another process than the sweep, which says it once
            raise
        say_interrupted(stop)
        raise SystemExit(exit_code(stop)) from None
    finally:
        _update_table(job.sweep)
    _print_line(f"{place}: {_outcome(result, result == earlier, resumed)}{_left(job)}")
    return result.metric("val/accuracy" if "val/accuracy" in result.metrics else "train/accuracy")


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


def finish_sweep(sweep: Path) -> int:
    """The closing table and page of a sweep; the exit code, 1 if a job failed."""
    jobs = find_jobs([sweep])
    if not jobs and not unrecorded:
        return 1
    summary = summarize(jobs)
    print(f"\n{as_text(summary)}\n")
    complete = _write_page(sweep, summary) and _update_table(sweep)
    if complete:
        print(f"  page   {sweep / 'report.html'}\n  table  {sweep / 'summary.csv'}, summary.md")
    for status, advice in (("failed", "see error.log in their folders"), ("unreadable", "see the table")):
        names = [job.folder.name for row in summary.rows for job in row.jobs if job.status == status]
        if names:
            print(f"error: {len(names)} {status}: {', '.join(names)} ({advice})", file=sys.stderr)
            complete = False
    if unrecorded:
        print(f"error: {len(unrecorded)} failed, and could not be recorded: {', '.join(unrecorded)}", file=sys.stderr)
    return 0 if complete and not unrecorded else 1


def _write_page(sweep: Path, summary: Summary) -> bool:
    from mnist_mlp.reporting.means import write_means  # deferred: only the end of a sweep needs them
    from mnist_mlp.reporting.page import write_page  # draws figures

    try:
        write_means(sweep, summary)
        write_digits(sweep, summary)
        write_page([sweep], sweep / "report.html")
    except Exception as error:
        print(f"error: no page was written: {_reason(error)}; python -m mnist_mlp.report {sweep}", file=sys.stderr)
        return False
    return True


def _update_table(sweep: Path) -> bool:
    """Rewrite the table. Where that fails no run is lost, and the next job tries again."""
    try:
        write_summary(sweep)
    except Exception as error:
        print(f"error: the table could not be written: {_reason(error)}", file=sys.stderr)
        return False
    return True


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


def _keep_failure(job: SweepJob, error: Exception) -> str:
    """Write error.log and failure.json; the reason, with what kept them from being written."""
    folder, reason = job.folder, _reason(error)
    try:
        content = {"reason": reason, "overrides": list(job.overrides), "config": job.settings}
        folder.path.mkdir(parents=True, exist_ok=True)  # it may have been archived
        write_text(folder.error_log, "".join(traceback.format_exception(error)))
        write_json(folder.failure_file, content)
    except Exception as second:
        unrecorded.append(folder.path.name)
        return f"{reason} (this could not be recorded: {_reason(second)})"
    return reason


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return error_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error_line(error)}"


def _outcome(result: RunResult, reused: bool, resumed: bool) -> str:
    metrics = result.metrics
    how = "already there" if reused else f"{'resumed, ' if resumed else ''}{result.timing['fit_seconds']:.1f} s"
    val = f"val {percent(metrics['val/accuracy'])}, " if "val/accuracy" in metrics else ""
    diverged = "DIVERGED, " if result.status == "diverged" else ""
    return f"{diverged}{val}test {percent(metrics['test/accuracy'])} ({result.data['source']}), {how}"


def _left(job: SweepJob) -> str:
    """Time since the sweep began, and the time left if the remaining jobs take as long as those before."""
    if job.began is None:
        return ""
    elapsed = time.time() - job.began
    remaining = int(job.total) - job.number if job.total.isdigit() else 0
    left = f", about {_clock(elapsed / job.number * remaining)} left" if job.total.isdigit() else ""
    return f"  [{_clock(elapsed)} elapsed{left}]"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
