"""Command: write the report page of a sweep, or of any run folders."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnist_mlp import __version__
from mnist_mlp.analysis.summary import write_summary
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.folder import RunFolder


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.report` and of the script `mnist-mlp-report`."""
    given = parser().parse_args(arguments)
    sweep = given.paths[0] if len(given.paths) == 1 else None
    target = given.output or (sweep or Path()) / "report.html"
    try:
        print(write_page(given.paths, target))
        if sweep is not None and not is_run(sweep):
            write_summary(sweep)
            print(sweep / "summary.csv", sweep / "summary.md", sep="\n")
    except (UserError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m mnist_mlp.report", description="Compare runs on one HTML page.")
    made.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    made.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a sweep's folder, or run folders")
    made.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html, in the folder if one is given, else here"
    )
    return made


def is_run(folder: Path) -> bool:
    """Whether this is a run folder itself, and not one that holds some."""
    return any((folder / mark).is_file() for mark in RunFolder.MARKER_FILES)


if __name__ == "__main__":
    main()
