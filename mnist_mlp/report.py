"""Command: write the report page of a sweep, or of any run folders."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnist_mlp import __version__
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.digits import write_digits
from mnist_mlp.compare.tables import planned, write_tables
from mnist_mlp.console import command
from mnist_mlp.reporting.page import find_runs, write_page
from mnist_mlp.reporting.publish import publish
from mnist_mlp.reporting.tensorboard import MEANS_FOLDER as MEANS
from mnist_mlp.reporting.tensorboard import write_means
from mnist_mlp.runs.folder import RunFolder


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.report` and of the script `mnist-mlp-report`."""
    given = parser().parse_args(arguments)
    with command():
        write_report(given)


def write_report(given: argparse.Namespace) -> None:
    """Write what was asked for: the page, and for one sweep its tables."""
    sweep = given.paths[0] if len(given.paths) == 1 else None
    target = given.output or (sweep or Path()) / "report.html"
    jobs = find_runs(given.paths)
    if given.publish is not None:
        print(*publish(jobs, given.publish), sep="\n")
        return
    summary = summarize(jobs)
    if given.plan is not None:
        print("\n".join(planned(summary, given.plan)))
        return
    print(write_page(given.paths, target, jobs, summary))
    if sweep is not None and not is_run(sweep):
        print(*write_tables(sweep, summary), sep="\n")
        if digits := write_digits(sweep, summary):
            print(digits)
        if write_means(sweep, summary):
            print(sweep / MEANS)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m mnist_mlp.report", description="Compare runs on one HTML page.")
    made.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    made.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a sweep's folder, or run folders")
    made.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="of the page, or a folder for it; default: report.html in the one PATH, else here",
    )
    made.add_argument(
        "--plan",
        type=float,
        metavar="POINTS",
        help="write nothing; print how many seeds per setting it takes to find a difference of so many points",
    )
    made.add_argument(
        "--publish",
        type=Path,
        metavar="FOLDER",
        help="write what a paper needs to FOLDER: tables, figures, methods, commands, hashes",
    )
    return made


def is_run(folder: Path) -> bool:
    """Whether this is a run folder itself, and not one that holds some."""
    return any((folder / mark).is_file() for mark in RunFolder.MARKER_FILES)


if __name__ == "__main__":
    main()
