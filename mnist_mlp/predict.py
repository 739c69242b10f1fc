"""Command: which digits are on these pictures?"""

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_mlp import __version__
from mnist_mlp.console import command
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import finite, refuse_unwritable, to_csv, write_bytes, write_text
from mnist_mlp.startup import quick_start

if TYPE_CHECKING:
    from mnist_mlp.serve.predict import Prediction

STDIN = "-"
SOME_FAILED = 3
"""Exit code where some files could not be read as pictures."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.predict` and of the script `mnist-mlp-predict`."""
    given = parser().parse_args(arguments)
    with command():
        for target in (given.json, given.csv, given.figure):
            refuse_unwritable(target)
        found = predictions(given.run, given.pictures, given.row, thumbnails=given.figure is not None)
        print(table(found))
        if given.csv:
            write_text(given.csv, csv_text(found))
        if given.json:
            write_text(given.json, json_text(found))
        if given.figure:
            _write_figure(found, given.figure)
    failed = [item for item in found if item.error is not None]
    for item in failed:
        print(f"error: {item.file}: {item.error}", file=sys.stderr)
    if failed:
        raise SystemExit(SOME_FAILED)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnist_mlp.predict",
        description="Say which digit is on each picture, of any size: colour or grey, ink on paper or light on dark.",
        epilog=f"Exit code: 0; 1 for an error, in one line; {SOME_FAILED} where some files are no pictures of a digit "
        "(a line for each; the others are predicted).",
    )
    made.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    made.add_argument("run", metavar="RUN", help="run folder, checkpoint, name under outputs/, or latest")
    made.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="picture file, folder of pictures, or - for one picture from stdin",
    )
    made.add_argument(
        "--row", action="store_true", help="several digits side by side in each picture, read as a number"
    )
    made.add_argument("--csv", type=Path, metavar="FILE", help="write the table there, too")
    made.add_argument(
        "--json", type=Path, metavar="FILE", help="write a list of objects there, with all ten probabilities"
    )
    made.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="show each picture, what the net saw, and ten bars"
    )
    return made


def predictions(run: str, pictures: Sequence[str], row: bool = False, thumbnails: bool = False) -> list["Prediction"]:
    """One for each picture, or with row for each digit; files that could not be read have `error`."""
    with quick_start():
        from mnist_mlp.serve.nets import load_classifier, locate
        from mnist_mlp.serve.predict import picture_files, predict_pictures
    if pictures.count(STDIN) > 1:
        raise UserError("- (stdin) holds one picture and can be given once")
    model = load_classifier(locate(run).checkpoint)
    files: list[Path | bytes] = []
    for picture in pictures:
        files += [sys.stdin.buffer.read()] if picture == STDIN else picture_files([Path(picture)])
    names = [STDIN if isinstance(file, bytes) else str(file) for file in files]
    return predict_pictures(model, files, names, row, thumbnails)


def table(found: Sequence["Prediction"]) -> str:
    """File, digit, probability and runner-up; for a row, the number on a line of its own."""
    width = max(len("file"), *(len(item.file) for item in found))
    lines = [f"{'file':<{width}}  {'digit':>5}  {'probability':>11}  runner-up"]
    for _, group in groupby(found, key=lambda item: item.file):
        items = list(group)
        if len(items) > 1:
            lines.append(f"{items[0].file:<{width}}  {number_of(items):>5}")
        for item in items:
            name = "" if len(items) > 1 else item.file
            if item.error is not None:
                lines.append(f"{name:<{width}}  {'-':>5}  {'-':>11}  no picture of a digit")
            else:
                second = f"{item.runner_up} ({100 * item.probabilities[item.runner_up]:.1f} %)"
                lines.append(f"{name:<{width}}  {item.digit:>5}  {100 * item.probability:>9.1f} %  {second}")
    return "\n".join(lines)


def number_of(items: Sequence["Prediction"]) -> str:
    """The digits of a row, read as a number."""
    return "".join(str(item.digit) for item in items if item.error is None)


def csv_text(found: Sequence["Prediction"]) -> str:
    """One row per digit: file, place in its row, digit, probability, runner_up, p0 to p9, error."""
    header = ["file", "place", "digit", "probability", "runner_up", *(f"p{digit}" for digit in range(10)), "error"]
    rows = [
        [item.file, None, None, None, None, *[None] * 10, item.error]
        if item.error is not None
        else [item.file, item.place, item.digit, item.probability, item.runner_up, *item.probabilities, None]
        for item in found
    ]
    return to_csv(header, rows)


def json_text(found: Sequence["Prediction"]) -> str:
    """A list with one object per digit, and with one that has `error` for each file that failed."""
    import json

    return json.dumps(finite([item.to_json() for item in found]), indent=2, allow_nan=False) + "\n"


def _write_figure(found: Sequence["Prediction"], target: Path) -> None:
    import numpy as np

    from mnist_mlp.plots import run as plots

    shown = [
        (f"{item.file}: {item.digit}", item.thumbnail, item.pixels, item.probabilities)
        for item in found
        if item.thumbnail is not None and item.pixels is not None
    ]
    if not shown:
        raise UserError(f"{target} was not written: there is no picture to show")
    titles, pictures, pixels, probabilities = zip(*shown, strict=True)
    write_bytes(target, plots.png(plots.predictions_figure(titles, pictures, pixels, np.array(probabilities))))


if __name__ == "__main__":
    main()
