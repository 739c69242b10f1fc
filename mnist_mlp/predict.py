"""Command: predict the classes of pictures."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_mlp import __version__
from mnist_mlp.console import command
from mnist_mlp.datasets import class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import finite, refuse_unwritable, to_csv, write_bytes, write_text
from mnist_mlp.startup import quick_start

if TYPE_CHECKING:
    from mnist_mlp.serve.predict import Prediction

STDIN = "-"
SOME_FAILED = 3
"""Exit code if some files cannot be predicted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.predict` and of the script `mnist-mlp-predict`."""
    options = build_parser().parse_args(arguments)
    with command():
        for target in (options.json, options.csv, options.figure):
            refuse_unwritable(target)
        predictions = _predict(options)
        print(table(predictions))
        if options.csv:
            write_text(options.csv, csv_text(predictions))
        if options.json:
            rows = finite([item.to_json() for item in predictions])
            write_text(options.json, json.dumps(rows, indent=2, allow_nan=False) + "\n")
        if options.figure:
            _write_figure(predictions, options.figure)
    failed = [item for item in predictions if item.error is not None]
    for item in failed:
        print(f"error: {item.file}: {item.error}", file=sys.stderr)
    if failed:
        raise SystemExit(SOME_FAILED)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.predict",
        description="Predict the digit (class) on each picture of any size, color or gray, light on dark or reverse.",
        epilog=f"Exit code: 0; 1 for an error; {SOME_FAILED} if some files are not pictures, or blank (each is "
        "reported, the others are predicted).",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    add("run", metavar="RUN", help="run folder, checkpoint, name under outputs/ or latest")
    add("pictures", nargs="+", metavar="PICTURE", help="picture file, folder of pictures, or - for one from stdin")
    add("--csv", type=Path, metavar="FILE", help="also write the table as CSV")
    add("--json", type=Path, metavar="FILE", help="also write all probabilities as JSON")
    add("--figure", type=Path, metavar="FILE.png", help="plot each picture, the network's input and the probabilities")
    return parser


def _predict(options: argparse.Namespace) -> list["Prediction"]:
    with quick_start():
        from mnist_mlp.serve.nets import load_classifier, locate
        from mnist_mlp.serve.predict import picture_files, predict_pictures
    if options.pictures.count(STDIN) > 1:
        raise UserError("- (stdin) is one picture: use it once")
    net = locate(options.run)
    model = load_classifier(net.checkpoint)
    files: list[Path | bytes] = []
    for picture in options.pictures:
        files += [sys.stdin.buffer.read()] if picture == STDIN else picture_files([Path(picture)])
    names = [STDIN if isinstance(file, bytes) else str(file) for file in files]
    print(net.summary, file=sys.stderr)  # stdout is the table alone
    return predict_pictures(model, files, names, thumbnails=options.figure is not None)


def table(predictions: Sequence["Prediction"]) -> str:
    """Format file, digit or class, probability and runner-up, one line per picture."""
    width = max(len("file"), *(len(item.file) for item in predictions))
    classes = predictions[0].classes
    noun, name_width = class_noun(classes), max(len("digit"), *map(len, classes))
    lines = [f"{'file':<{width}}  {noun:>{name_width}}  {'probability':>11}  runner-up"]
    for item in predictions:
        if item.error is not None:
            lines.append(f"{item.file:<{width}}  {'-':>{name_width}}  {'-':>11}  no prediction")
        else:
            second = f"{classes[item.runner_up]} ({100 * item.probabilities[item.runner_up]:.1f} %)"
            first = f"{item.class_name:>{name_width}}  {100 * item.probability:>9.1f} %"
            lines.append(f"{item.file:<{width}}  {first}  {second}")
    return "\n".join(lines)


def csv_text(predictions: Sequence["Prediction"]) -> str:
    """Format one row per picture: file, digit (class), probability, runner_up, p0 to p9 (p_NAME), error."""
    classes, noun = predictions[0].classes, class_noun(predictions[0].classes)
    names = [f"p{name}" if noun == "digit" else f"p_{name}" for name in classes]
    header, rows = ["file", noun, "probability", "runner_up", *names, "error"], []
    for item in predictions:
        values: list[object] = [None] * (3 + len(classes))
        if item.probabilities:
            values = [item.class_name, item.probability, classes[item.runner_up], *item.probabilities]
        rows.append([item.file, *values, item.error])
    return to_csv(header, rows)


def _write_figure(predictions: Sequence["Prediction"], target: Path) -> None:
    import numpy as np

    from mnist_mlp.plots import run as plots

    shown = [
        (f"{item.file}: {item.class_name}", item.thumbnail, item.pixels, item.probabilities)
        for item in predictions
        if item.thumbnail is not None and item.pixels is not None
    ]
    classes = predictions[0].classes
    if not shown:
        raise UserError(f"{target} was not written: none of the files is a picture of a {class_noun(classes)}")
    titles, pictures, pixels, probabilities = zip(*shown, strict=True)
    figure = plots.predictions_figure(titles, pictures, pixels, np.array(probabilities), classes)
    write_bytes(target, plots.png(figure))


if __name__ == "__main__":
    main()
