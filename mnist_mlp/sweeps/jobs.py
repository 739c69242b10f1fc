"""What stands at the end: the page of a run; the table of a sweep, also while it runs, its page and its exit code."""

import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_mlp.compare.collect import JobReader, Summary, summarize
from mnist_mlp.compare.digits import write_digits
from mnist_mlp.compare.tables import as_text, write_summary
from mnist_mlp.config import Config
from mnist_mlp.console import error_summary, shown_path
from mnist_mlp.errors import UserError, describe_signal
from mnist_mlp.runs.files import JSON, UnreadableFileError, remove_scratch_files, write_json, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.startup import quick_start


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
        return keep_failure(job, error_summary(error), "".join(traceback.format_exception(error)))
    return ended_with(job, result, result == earlier, resumed)


def ended_with(job: SweepJob, result: RunResult, reused: bool, resumed: bool = False) -> JobEnd:
    """The end of a job that has a result. reused: it was there before; resumed: the job was continued."""
    objective = result.metric("val/accuracy" if "val/accuracy" in result.metrics else "train/accuracy")
    return JobEnd(f"{job.place}: {_outcome(result, reused, resumed)}", objective)


def say_interrupted(stop: BaseException) -> None:
    """Tell that a sweep was interrupted, and how it goes on."""
    line = f"{describe_signal(stop)}: finished jobs stay; the same command and name= goes on"
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
        why, recorded = f"{why} (this could not be recorded: {error_summary(second)})", False
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


TABLE_SECONDS = 5.0
"""The table is rewritten no more often while jobs run, so that they do not wait for it."""
_reader = JobReader()
unrecorded: list[str] = []
"""Jobs of this process that failed, of which their folders say nothing."""


def read_jobs(sweep: Path) -> None:
    """Read the runs of a sweep, so that tables have to read again only what changes from now on."""
    _reader.find([sweep])


def write_run_page(folder: Path) -> None:
    """Write the page of a finished run into its folder, unless it is there. Where that fails, the run is none the less
    finished.
    """
    page = RunFolder(folder).page_file
    if not RunFolder(folder).result_file.is_file() or _is_newest(page, [folder]):
        return
    from mnist_mlp.reporting.page import write_page  # deferred: only the end of a run needs it

    try:
        write_page([folder], page)
    except Exception as error:
        print(
            f"error: no page was written: {error_summary(error)}; python -m mnist_mlp.report {folder}", file=sys.stderr
        )


def update_table(sweep: Path) -> None:
    """Rewrite the table, unless that was done a moment ago, by this process or another."""
    try:
        age = time.time() - (sweep / "summary.md").stat().st_mtime
    except OSError:
        age = TABLE_SECONDS
    if age >= TABLE_SECONDS:
        write_table(sweep)


def write_table(sweep: Path) -> bool:
    """Rewrite the table. Where that fails no run is lost, and the next job tries again."""
    try:
        write_summary(sweep, _reader)
    except Exception as error:
        print(f"error: the table could not be written: {error_summary(error)}", file=sys.stderr)
        return False
    return True


def finish_sweep(sweep: Path) -> int:
    """The closing table and page of a sweep; the exit code, 1 if a job failed."""
    jobs = _reader.find([sweep])
    if not jobs and not unrecorded:
        return 1
    from mnist_mlp.reporting.tensorboard import MEANS_FOLDER as FOLDER  # deferred: only the end of a sweep needs it

    with suppress(OSError):
        remove_scratch_files(sweep, *sweep.glob(f"{FOLDER}/*"))
    summary = summarize(jobs)
    print(f"\n{as_text(summary)}\n")
    page, table = sweep / "report.html", sweep / "summary.csv"
    before = table.read_bytes() if table.is_file() else None
    complete = write_table(sweep)
    if not (complete and table.read_bytes() == before and _is_newest(page, [job.folder for job in jobs])):
        complete = _write_page(sweep, summary) and complete
    if complete:
        rows = {
            "page": shown_path(page),
            "tables": f"{shown_path(table)}, runs.csv, summary.md",
            "TensorBoard": f"{interpreter()} -m mnist_mlp.tensorboard {shlex.quote(shown_path(sweep))}",
        }
        print("\n".join(f"  {name:<14} {value}" for name, value in rows.items()))
    for status, advice in (("failed", "see error.log in their folders"), ("unreadable", "see the table")):
        names = [job.folder.name for row in summary.rows for job in row.jobs if job.status == status]
        if names:
            print(f"error: {len(names)} {status}: {', '.join(names)} ({advice})", file=sys.stderr)
            complete = False
    if unrecorded:
        print(f"error: {len(unrecorded)} failed, and could not be recorded: {', '.join(unrecorded)}", file=sys.stderr)
        unrecorded.clear()
        complete = False
    return 0 if complete else 1


def _is_newest(page: Path, folders: Iterable[Path]) -> bool:
    """Whether a page was written after all that these run folders say of their runs."""
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


def _write_page(sweep: Path, summary: Summary) -> bool:
    from mnist_mlp.reporting.page import write_page  # draws figures
    from mnist_mlp.reporting.tensorboard import write_means  # deferred: only the end of a sweep needs them

    try:
        write_means(sweep, summary)
        write_digits(sweep, summary)
        write_page([sweep], sweep / "report.html")
    except Exception as error:
        print(
            f"error: no page was written: {error_summary(error)}; python -m mnist_mlp.report {sweep}", file=sys.stderr
        )
        return False
    return True


def interpreter() -> str:
    """How to call this Python from here: below the current folder by its path, which works without activation."""
    python, here = Path(sys.executable), Path.cwd()
    return shlex.quote(str(python.relative_to(here))) if python.is_relative_to(here) else "python"
