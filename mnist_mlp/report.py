"""Command: write the report page of a sweep, or of any run folders."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mnist_mlp import __version__
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.digits import write_digits
from mnist_mlp.compare.locate import locate_folder
from mnist_mlp.compare.tables import plan_lines, write_tables
from mnist_mlp.console import command
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.document import report_document
from mnist_mlp.reporting.page import find_runs, is_page, write_page
from mnist_mlp.reporting.publish import publish
from mnist_mlp.reporting.tensorboard import MEANS_FOLDER, write_means
from mnist_mlp.runs.files import finite
from mnist_mlp.runs.folder import RunFolder


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.report` and of the script `mnist-mlp-report`."""
    options = build_parser().parse_args(arguments)
    with command():
        paths = [locate_folder(path) for path in options.paths]
        sweep = paths[0] if len(paths) == 1 else None
        jobs = find_runs(paths)
        if options.publish is not None:
            print(*publish(jobs, options.publish), sep="\n")
            return
        summary = summarize(jobs)
        if options.plan is not None:
            print(*plan_lines(summary, options.plan), sep="\n")
            return
        if options.json:
            print(json.dumps(finite(report_document(paths, summary))))
            return
        print(write_page(paths, options.output or _default_page(sweep), jobs, summary))
        if sweep is not None and not any((sweep / mark).is_file() for mark in RunFolder.MARKER_FILES):
            print(*write_tables(sweep, summary), sep="\n")
            for digits in write_digits(sweep, summary):
                print(digits)
            if write_means(sweep, summary):
                print(sweep / MEANS_FOLDER)


def _default_page(sweep: Path | None) -> Path:
    """The default page of a run or sweep, or of several folders; UserError if that would replace another file."""
    page = (sweep or Path()) / "report.html"
    if page.exists() and not (sweep and is_page(page)):
        raise UserError(f"{page} exists: use --output FILE to write another file, or to replace it")
    return page


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m mnist_mlp.report", description="Compare runs on one HTML page.")
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    add("paths", nargs="+", metavar="PATH", help="sweep or runs: folder, name under outputs/, or latest")
    output = "page, or folder for it; default: report.html in a single PATH, else in the current folder if it has none"
    add("--output", type=Path, metavar="FILE", help=output)
    plan = "only print how many seeds per setting are needed to detect a difference of POINTS"
    add("--plan", type=float, metavar="POINTS", help=plan)
    add("--json", action="store_true", help="only print all tables, intervals, verdicts and paths as JSON")
    add("--publish", type=Path, metavar="FOLDER", help="write a paper's tables, figures, methods, commands and hashes")
    return parser


if __name__ == "__main__":
    main()
