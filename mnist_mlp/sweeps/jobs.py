"""Running a job of a sweep, and the sweep's results: a line per job, table, page and exit code."""

import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_mlp.compare.collect import Summary, summarize
from mnist_mlp.compare.digits import write_digits
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.locate import short_name
from mnist_mlp.compare.tables import as_text, write_summary
from mnist_mlp.config import Config
from mnist_mlp.console import error_summary, shell_quoted, shown_path
from mnist_mlp.errors import UserError, describe_signal
from mnist_mlp.runs.files import JSON, UnreadableFileError, remove_scratch_files, write_json, write_text
from mnist_mlp.runs.folder import NOTE_FILE, RunFolder
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.startup import quick_start

TABLE_SECONDS = 5.0
"""Minimum time between two updates of the table, which would otherwise delay the jobs."""
MAX_LISTED = 3
unrecorded_failures: list[str] = []
"""Failed jobs of this process whose failure could not be written to their folders."""


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        number: from 1 to `total`.
        overrides: the settings as on the command line.
        settings: nested settings; not validated if `config` is None.
        config: the validated settings; None if they are not valid, for the reason in `fault`.
        swept: keys that the sweep varies.
        digits_file: `shared_file` of the dataset if it is the user's own.
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
    digits_file: str = ""

    @property
    def name(self) -> str:
        """Name of the job's folder."""
        return self.folder.path.name

    @property
    def label(self) -> str:
        """Number and name, as printed."""
        return f"[{self.number}/{self.total}] {self.name}"


@dataclass(frozen=True)
class JobEnd:
    """The outcome of a job.

    Attributes:
        line: the line to print.
        objective: best validation accuracy, or training accuracy without validation; None if the job failed.
        reused: whether the result existed before.
        recorded: False if a failure could not be written to the job's folder.
    """

    line: str
    objective: float | None
    reused: bool = False
    recorded: bool = True


def run_job(job: Job, records: Mapping[str, str]) -> JobEnd:
    """Run a job. Failures do not end the sweep: the traceback is written to error.log, the reason to failure.json.

    Args:
        job: the job.
        records: additional files for its folder, text by relative path.
    """
    earlier = finished_result(job.folder)
    resumed = job.folder.last_checkpoint.is_file() and earlier is None
    try:
        config = job.config
        if config is None:
            raise UserError(job.fault)
        with quick_start():
            from mnist_mlp.data.mnist import read_shared  # deferred: invalid settings are reported without torch
            from mnist_mlp.training.fit import fit

        digits = read_shared(job.digits_file) if job.digits_file else None
        result = fit(config, job.folder.path, job.overrides, records, job.label, digits=digits, swept=job.swept)
    except Exception as error:
        return fail_job(job, error_summary(error), "".join(traceback.format_exception(error)))
    return finish_job(job, result, result == earlier, resumed)


def refuse_single_run(config: Config) -> None:
    """Raise a UserError if the settings are for a single run."""
    if config.resume not in ("auto", "never"):
        raise UserError(f"resume={config.resume} is for single runs: in a sweep use auto or never")
    if (number := config.trainer.devices) > 1:
        raise UserError(f"trainer.devices={number} is for single runs: in a sweep use trainer.devices=1")


def refuse_invalid(faults: Sequence[str]) -> None:
    """Raise a UserError that gives each fault once, with its jobs if not all have it.

    Args:
        faults: what is wrong with the settings of each job; empty for a valid one.
    """
    numbers: dict[str, list[str]] = {}
    for number, text in enumerate(faults, 1):
        for fault in filter(None, text.split("; ")):
            numbers.setdefault(fault, []).append(str(number))
    texts = []
    for fault, own in numbers.items():
        which = f"job{'s' * (len(own) > 1)} {', '.join([*own[:MAX_LISTED], *['...'] * (len(own) > MAX_LISTED)])}: "
        texts.append(fault if len(own) == len(faults) else which + fault)
    if texts:
        raise UserError(
            "; ".join(texts[:MAX_LISTED]) + f"; and {len(texts) - MAX_LISTED} more" * (len(texts) > MAX_LISTED)
        )


def finished_result(folder: RunFolder) -> RunResult | None:
    """Return the result in a run folder; None if it is missing or unreadable."""
    try:
        return folder.result()
    except UnreadableFileError:
        return None


def finish_job(job: Job, result: RunResult, reused: bool, resumed: bool = False) -> JobEnd:
    """Return the outcome of a job with a result. resumed: whether it continued an earlier attempt."""
    metrics, validated = result.metrics, "val/accuracy" in result.metrics
    outcome = "DIVERGED, " if result.status == "diverged" else ""
    outcome += f"stopped at epoch {result.stopped_at_epoch:.2f}, " if result.stopped_at_epoch else ""
    outcome += f"val {percent(metrics['val/accuracy'])}, " if validated else ""
    outcome += f"test {percent(metrics['test/accuracy'])} ({result.source}), "
    seconds = f"{'resumed, ' if resumed else ''}{result.timing['fit_seconds']:.1f} s"
    outcome += f"reused ({result.accelerator})" if reused else seconds
    return JobEnd(f"{job.label}: {outcome}", result.metric("val/accuracy" if validated else "train/accuracy"), reused)


def fail_job(job: Job, reason: str, log: str) -> JobEnd:
    """Write error.log and failure.json, and return the outcome, which reports if that was not possible."""
    folder, recorded = job.folder, True
    try:
        content = {"reason": reason, "overrides": list(job.overrides), "config": job.settings}
        folder.path.mkdir(parents=True, exist_ok=True)  # it may have been archived
        write_text(folder.error_log, log)
        write_json(folder.failure_file, content)
    except Exception as error:
        reason, recorded = f"{reason} (the failure could not be recorded: {error_summary(error)})", False
    return JobEnd(f"{job.label}: FAILED: {reason}", None, recorded=recorded)


def print_interrupted(stop: BaseException, done: str = "", remedy: str = "to resume, repeat the call") -> None:
    """Report that a run or sweep was interrupted, how much is done, and how to resume it."""
    reason = describe_signal(stop)
    print(f"\n{reason[0].upper()}{reason[1:]}{done}; {remedy}", file=sys.stderr)


def modified_ns(path: Path) -> int | None:
    """Return a file's modification time in nanoseconds; None if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def update_table(sweep: Path) -> None:
    """Write the table, unless this process or another did so within TABLE_SECONDS."""
    if time.time() - (modified_ns(sweep / "summary.md") or 0) / 1e9 >= TABLE_SECONDS:
        _write_table(sweep)


def _write_table(sweep: Path) -> bool:
    """Write the table; return whether that succeeded. The next job tries again."""
    try:
        write_summary(sweep)
    except Exception as error:
        print(f"error: cannot write the table: {error_summary(error)}", file=sys.stderr)
        return False
    return True


def finish_sweep(sweep: Path) -> int:
    """Print the closing table of a sweep and write its page; return the exit code, 1 if anything failed."""
    jobs = find_jobs([sweep])
    if not jobs and not unrecorded_failures:
        return 1
    from mnist_mlp.reporting.tensorboard import MEANS_FOLDER  # deferred: not needed before

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
        print(f"  TensorBoard    {python_command()} -m mnist_mlp.tensorboard {shell_quoted(short_name(sweep))}")
    faults = []
    for status, advice in (("failed", "see error.log in their folders"), ("unreadable", "see the table")):
        names = [job.folder.name for row in summary.rows for job in row.jobs if job.status == status]
        faults += [f"{len(names)} {status}: {', '.join(names)} ({advice})"] if names else []
    if unrecorded_failures:
        faults.append(f"{len(unrecorded_failures)} failed without a record: {', '.join(unrecorded_failures)}")
        unrecorded_failures.clear()
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 0 if complete and not faults else 1


def write_run_page(folder: Path) -> None:
    """Write the page of a finished run to its folder, unless it is up to date. Failures are printed, not raised."""
    if RunFolder(folder).result_file.is_file():
        _write_page(folder, RunFolder(folder).page_file, [folder])


def _write_page(
    folder: Path, page: Path, runs: Iterable[Path], summary: Summary | None = None, changed: bool = False
) -> bool:
    """Write the page of a run or sweep, if it is older than its runs or `changed`; return whether it is up to date."""
    written = modified_ns(page)
    names = (*RunFolder.MARKER_FILES, NOTE_FILE)
    newest = max(modified_ns(run / name) or 0 for run in (*runs, folder) for name in names)
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
        retry = f"retry with {python_command()} -m mnist_mlp.report {shell_quoted(shown_path(folder))}"
        print(f"error: cannot write the page: {error_summary(error)}; {retry}", file=sys.stderr)
        return False
    return True


def python_command() -> str:
    """Return the command for this Python, which works without an activated environment inside the current folder."""
    python, current = Path(sys.executable), Path.cwd()
    return shell_quoted(str(python.relative_to(current))) if python.is_relative_to(current) else "python"
