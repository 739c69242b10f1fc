"""What stands at the end: the page of a run; the table of a sweep, also while it runs, its page and its exit code."""

import shlex
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mnist_mlp.analysis.collect import JobReader, Summary, summarize
from mnist_mlp.analysis.console_table import as_text
from mnist_mlp.analysis.digits import write_digits
from mnist_mlp.analysis.summary import write_summary
from mnist_mlp.console import reason
from mnist_mlp.runs.files import remove_scratch_files
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.terminal import linked, shown_path

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
        print(f"error: no page was written: {reason(error)}; python -m mnist_mlp.report {folder}", file=sys.stderr)


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
        print(f"error: the table could not be written: {reason(error)}", file=sys.stderr)
        return False
    return True


def finish_sweep(sweep: Path) -> int:
    """The closing table and page of a sweep; the exit code, 1 if a job failed."""
    jobs = _reader.find([sweep])
    if not jobs and not unrecorded:
        return 1
    from mnist_mlp.reporting.means import FOLDER  # deferred: only the end of a sweep needs it

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
            "page": linked(page),
            "tables": f"{linked(table)}, runs.csv, summary.md",
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
    from mnist_mlp.reporting.means import write_means  # deferred: only the end of a sweep needs them
    from mnist_mlp.reporting.page import write_page  # draws figures

    try:
        write_means(sweep, summary)
        write_digits(sweep, summary)
        write_page([sweep], sweep / "report.html")
    except Exception as error:
        print(f"error: no page was written: {reason(error)}; python -m mnist_mlp.report {sweep}", file=sys.stderr)
        return False
    return True


def interpreter() -> str:
    """How to call this Python from here: below the current folder by its path, which works without activation."""
    python, here = Path(sys.executable), Path.cwd()
    return shlex.quote(str(python.relative_to(here))) if python.is_relative_to(here) else "python"
