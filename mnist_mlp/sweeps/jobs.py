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
        number: Counts from 1.
        total: Number of jobs; "?" if unknown.
        overrides: The settings as the command line writes them.
        settings: The nested settings before any check.
        config: The same, checked; None if they are not legal.
        fault: Why they are not legal.
        swept: Keys that the sweep varies.
    """

    folder: RunFolder
    sweep: Path
    number: int
    total: str
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
        result = _train(job, records)
    except Exception as error:
        return job_failed(job, error_summary(error), "".join(traceback.format_exception(error)))
    return job_finished(job, result, result == earlier, resumed)


def _train(job: Job, records: Mapping[str, str]) -> RunResult:
    config = job.config
    if config is None:
        raise UserError(job.fault)
    if config.resume not in ("auto", "never"):
        raise UserError(f"resume={config.resume} is for one run: in a sweep give auto or never")
    if config.trainer.devices > 1:
        raise UserError(
            f"trainer.devices={config.trainer.devices} is for one run: the jobs of a sweep take one device each"
        )
    with quick_start():
        from mnist_mlp.training.fit import fit  # deferred: a mistake in the settings is reported without torch

    return fit(config, job.folder.path, job.overrides, records, job.label, swept=job.swept)


def finished_before(folder: RunFolder) -> RunResult | None:
    """The result in a folder; None if there is none that can be read."""
    try:
        return folder.result()
    except UnreadableFileError:
        return None


def job_finished(job: Job, result: RunResult, reused: bool, resumed: bool = False) -> JobEnd:
    """The end of a job with a result. resumed: it continued an earlier attempt."""
    metrics = result.metrics
    how = "already there" if reused else f"{'resumed, ' if resumed else ''}{result.timing['fit_seconds']:.1f} s"
    val = f"val {percent(metrics['val/accuracy'])}, " if "val/accuracy" in metrics else ""
    diverged = "DIVERGED, " if result.status == "diverged" else ""
    outcome = f"{diverged}{val}test {percent(metrics['test/accuracy'])} ({result.data['source']}), {how}"
    objective = result.metric("val/accuracy" if "val/accuracy" in metrics else "train/accuracy")
    return JobEnd(f"{job.label}: {outcome}", objective, reused)


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
    line = f"{describe_signal(stop)}: finished jobs stay; the same command and name= goes on"
    print(f"\n{line}", file=sys.stderr)


def write_run_page(folder: Path) -> None:
    """Write the page of a finished run into its folder, unless it is up to date. A failure is only reported."""
    page = RunFolder(folder).page_file
    if RunFolder(folder).result_file.is_file() and not _is_newest(page, [folder]):
        _write_page(folder, page)


def update_table(sweep: Path) -> None:
    """Write the table, unless this process or another did so within TABLE_SECONDS."""
    try:
        age = time.time() - (sweep / "summary.md").stat().st_mtime
    except OSError:
        age = TABLE_SECONDS
    if age >= TABLE_SECONDS:
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
    if not (complete and table.read_bytes() == before and _is_newest(page, [job.folder for job in jobs])):
        complete = _write_page(sweep, page, summary) and complete
    if complete:
        rows = {
            "page": shown_path(page),
            "tables": f"{shown_path(table)}, runs.csv, summary.md",
            "TensorBoard": f"{interpreter()} -m mnist_mlp.tensorboard {shlex.quote(shown_path(sweep))}",
        }
        print("\n".join(f"  {name:<14} {value}" for name, value in rows.items()))
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


def _is_newest(page: Path, folders: Iterable[Path]) -> bool:
    """Whether a page was written after everything that these run folders report."""
    try:
        written = page.stat().st_mtime_ns
    except OSError:
        return False
    for folder in folders:
        for name in RunFolder.MARKER_FILES:
            with suppress(OSError):
                if (folder / name).stat().st_mtime_ns > written:
                    return False
    return True


def _write_page(folder: Path, page: Path, summary: Summary | None = None) -> bool:
    """Write the page of a run, or of the sweep with this summary. A failure is only reported."""
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
