"""The table of a sweep while it runs, and its end: table, page, exit code."""

import shlex
import sys
import time
from pathlib import Path

from mnist_mlp.analysis.collect import JobReader, Summary, summarize
from mnist_mlp.analysis.console_table import as_text
from mnist_mlp.analysis.digits import write_digits
from mnist_mlp.analysis.summary import write_summary
from mnist_mlp.console import reason
from mnist_mlp.terminal import linked, shown_path

TABLE_SECONDS = 5.0
"""The table is rewritten no more often while jobs run, so that they do not wait for it."""
_reader = JobReader()
unrecorded: list[str] = []
"""Jobs of this process that failed, of which their folders say nothing."""


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
    summary = summarize(jobs)
    print(f"\n{as_text(summary)}\n")
    complete = _write_page(sweep, summary) and write_table(sweep)
    if complete:
        rows = {
            "page": linked(sweep / "report.html"),
            "tables": f"{linked(sweep / 'summary.csv')}, runs.csv, summary.md",
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
