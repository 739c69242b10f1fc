"""The jobs of a sweep and what they end with: a line each, the sweep's table and page, and its exit code."""

import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_mlp.compare.collect import Summary, find_jobs, summarize
from mnist_mlp.compare.digits import write_digits
from mnist_mlp.compare.tables import as_text, write_summary
from mnist_mlp.config import Config
from mnist_mlp.console import error_summary, shown_path
from mnist_mlp.errors import UserError, describe_signal
from mnist_mlp.runs.files import JSON, UnreadableFileError, remove_scratch_files, write_json, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.startup import quick_start

TABLE_SECONDS = 5.0
"""Minimum time between two updates of the table, so that jobs do not wait for it."""
unrecorded: list[str] = []
"""Failed jobs of this process whose folders do not say so."""


@dataclass(frozen=True)
class Job:
    """A job of a sweep, however the sweep was started.

    Attributes:
        number: Counts from 1 to `total`.
        overrides: The settings as the command line writes them.
        settings: Nested; before any check if they are not legal.
        config: The same, checked; None if they are not legal, for the reason `fault`.
        swept: Keys that the sweep varies.
    """

    folder: RunFolder
    sweep: Path
    number: int
    total: int
    overrides: Sequence[str]
    settings: JSON
    config: Config | None
    fault: str = ""
    swept: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def label(self) -> str:
        return f"[{self.number}/{self.total}] {self.name}"


@dataclass(frozen=True)
class JobEnd:
    """The end of a job.

    Attributes:
        line: What is printed of it.
        objective: Best validation accuracy, without validation the training accuracy; None if the job failed.
        reused: Whether the result was there before.
        recorded: Whether a failure could be written into the job's folder.
    """

    line: str
    objective: float | None
    reused: bool = False
    recorded: bool = True

    @property
    def failed(self) -> bool:
        return self.objective is None


def run_job(job: Job, records: Mapping[str, str]) -> JobEnd:
    """Run one job. A failure does not end the sweep: its traceback goes to error.log, the reason to failure.json.

    Args:
        job: The job.
        records: Further files for its folder, text by relative path.
    """
    earlier = finished_before(job.folder)
    resumed = job.folder.last_checkpoint.is_file() and earlier is None
    try:
        config = job.config
        if config is None:
            raise UserError(job.fault)
        if config.resume not in ("auto", "never"):
            raise UserError(f"resume={config.resume} is for one run: in a sweep give auto or never")
        if (number := config.trainer.devices) > 1:
            raise UserError(f"trainer.devices={number} is for one run: the jobs of a sweep take one device each")
        with quick_start():
            from mnist_mlp.training.fit import fit  # deferred: a mistake in the settings is reported without torch

        result = fit(config, job.folder.path, job.overrides, records, job.label, swept=job.swept)
    except Exception as error:
        return job_failed(job, error_summary(error), "".join(traceback.format_exception(error)))
    return job_finished(job, result, result == earlier, resumed)


def finished_before(folder: RunFolder) -> RunResult | None:
    """The result in a folder; None if there is none that can be read."""
    try:
        return folder.result()
    except UnreadableFileError:
        return None


def job_finished(job: Job, result: RunResult, reused: bool, resumed: bool = False) -> JobEnd:
    """The end of a job with a result. resumed: it continued an earlier attempt."""
    metrics, validated = result.metrics, "val/accuracy" in result.metrics
    outcome = "DIVERGED, " if result.status == "diverged" else ""
    outcome += f"val {percent(metrics['val/accuracy'])}, " if validated else ""
    outcome += f"test {percent(metrics['test/accuracy'])} ({result.data['source']}), "
    outcome += "already there" if reused else f"{'resumed, ' if resumed else ''}{result.timing['fit_seconds']:.1f} s"
    return JobEnd(f"{job.label}: {outcome}", result.metric("val/accuracy" if validated else "train/accuracy"), reused)


def job_failed(job: Job, why: str, log: str) -> JobEnd:
    """The end of a job that failed, after error.log and failure.json; if they cannot be written, the line says so."""
    folder, recorded = job.folder, True
    try:
        content = {"reason": why, "overrides": list(job.overrides), "config": job.settings}
        folder.path.mkdir(parents=True, exist_ok=True)  # it may have been archived
        write_text(folder.error_log, log)
        write_json(folder.failure_file, content)
    except Exception as second:
        why, recorded = f"{why} (this could not be recorded: {error_summary(second)})", False
    return JobEnd(f"{job.label}: FAILED: {why}", None, recorded=recorded)


def print_interrupted(stop: BaseException) -> None:
    """Report that a sweep was interrupted, and how to resume it."""
    print(f"\n{describe_signal(stop)}: finished jobs stay; the same command and name= goes on", file=sys.stderr)


def modified(path: Path) -> int | None:
    """When a file was written, in nanoseconds; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def update_table(sweep: Path) -> None:
    """Write the table, unless this process or another did so within TABLE_SECONDS."""
    if time.time() - (modified(sweep / "summary.md") or 0) / 1e9 >= TABLE_SECONDS:
        _write_table(sweep)


def _write_table(sweep: Path) -> bool:
    """Write the table. A failure is only reported: no run is lost, and the next job tries again."""
    try:
        write_summary(sweep)
    except Exception as error:
        print(f"error: the table could not be written: {error_summary(error)}", file=sys.stderr)
        return False
    return True


def finish_sweep(sweep: Path) -> int:
    """Print the closing table of a sweep and write its page; the exit code, 1 if a job failed."""
    jobs = find_jobs([sweep])
    if not jobs and not unrecorded:
        return 1
    from mnist_mlp.reporting.tensorboard import MEANS_FOLDER  # deferred: only the end of a sweep needs it

    with suppress(OSError):
        remove_scratch_files(sweep, *sweep.glob(f"{MEANS_FOLDER}/*"))
    summary = summarize(jobs)
    print(f"\n{as_text(summary)}\n")
    page, table = sweep / "report.html", sweep / "summary.csv"
    before = table.read_bytes() if table.is_file() else None
    complete = _write_table(sweep)
    changed = not complete or table.read_bytes() != before
    complete &= _write_page(sweep, page, [job.folder for job in jobs], summary, changed)
    if complete:
        print(f"  page           {shown_path(page)}\n  tables         {shown_path(table)}, runs.csv, summary.md")
        print(f"  TensorBoard    {interpreter()} -m mnist_mlp.tensorboard {shlex.quote(shown_path(sweep))}")
    faults = []
    for status, advice in (("failed", "see error.log in their folders"), ("unreadable", "see the table")):
        names = [job.folder.name for row in summary.rows for job in row.jobs if job.status == status]
        faults += [f"{len(names)} {status}: {', '.join(names)} ({advice})"] if names else []
    if unrecorded:
        faults.append(f"{len(unrecorded)} failed, and could not be recorded: {', '.join(unrecorded)}")
        unrecorded.clear()
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 0 if complete and not faults else 1


def write_run_page(folder: Path) -> None:
    """Write the page of a finished run into its folder, unless it is up to date. A failure is only reported."""
    if RunFolder(folder).result_file.is_file():
        _write_page(folder, RunFolder(folder).page_file, [folder])


def _write_page(
    folder: Path, page: Path, runs: Iterable[Path], summary: Summary | None = None, changed: bool = False
) -> bool:
    """Write the page of a run, or of the sweep with this summary, if its runs report anything newer, or if `changed`.

    Returns:
        Whether the page is there. A failure is only reported.
    """
    written = modified(page)
    newest = max((modified(run / name) or 0 for run in runs for name in RunFolder.MARKER_FILES), default=0)
    if written is not None and newest <= written and not changed:
        return True
    from mnist_mlp.reporting.page import write_page  # deferred: draws figures
    from mnist_mlp.reporting.tensorboard import write_means

    try:
        if summary is not None:
            write_means(folder, summary)
            write_digits(folder, summary)
        write_page([folder], page)
    except Exception as error:
        print(
            f"error: no page was written: {error_summary(error)}; python -m mnist_mlp.report {folder}", file=sys.stderr
        )
        return False
    return True


def interpreter() -> str:
    """The command of this Python: its path relative to the current folder if it is below, which works unactivated."""
    python, here = Path(sys.executable), Path.cwd()
    return shlex.quote(str(python.relative_to(here))) if python.is_relative_to(here) else "python"
