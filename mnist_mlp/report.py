"""Command: write the report page of a sweep, or of any run folders."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnist_mlp import __version__
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.digits import write_digits
from mnist_mlp.compare.tables import plan_lines, write_tables
from mnist_mlp.console import command
from mnist_mlp.reporting.page import find_runs, write_page
from mnist_mlp.reporting.publish import publish
from mnist_mlp.reporting.tensorboard import MEANS_FOLDER, write_means
from mnist_mlp.runs.folder import RunFolder


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, and for one sweep its tables; or the publication, or print the plan."""
    options = build_parser().parse_args(arguments)
    with command():
        sweep = options.paths[0] if len(options.paths) == 1 else None
        jobs = find_runs(options.paths)
        if options.publish is not None:
            print(*publish(jobs, options.publish), sep="\n")
            return
        summary = summarize(jobs)
        if options.plan is not None:
            print(*plan_lines(summary, options.plan), sep="\n")
            return
        target = options.output or (sweep or Path()) / "report.html"
        print(write_page(options.paths, target, jobs, summary))
        if sweep is not None and not any((sweep / mark).is_file() for mark in RunFolder.MARKER_FILES):
            print(*write_tables(sweep, summary), sep="\n")
            if digits := write_digits(sweep, summary):
                print(digits)
            if write_means(sweep, summary):
                print(sweep / MEANS_FOLDER)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mnist_mlp.report", description="Compare runs on one HTML page.")
    parser.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a sweep's folder, or run folders")
    output = "of the page, or a folder for it; default: report.html in the one PATH, else here"
    parser.add_argument("--output", type=Path, metavar="FILE", help=output)
    plan = "write nothing; print how many seeds per setting it takes to detect a difference of so many points"
    parser.add_argument("--plan", type=float, metavar="POINTS", help=plan)
    publication = "write what a paper needs to FOLDER: tables, figures, methods, commands, hashes"
    parser.add_argument("--publish", type=Path, metavar="FOLDER", help=publication)
    return parser


if __name__ == "__main__":
    main()
