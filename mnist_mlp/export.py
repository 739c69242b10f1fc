"""Command: write a trained net for other programs (ONNX, torch.export), or as a page to draw digits on."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnist_mlp import __version__
from mnist_mlp.console import command
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import refuse_unwritable, write_json
from mnist_mlp.startup import quick_start


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.export` and of the script `mnist-mlp-export`."""
    given = parser().parse_args(arguments)
    with command():
        if len(set(given.format)) > 1 and given.output:
            raise UserError("--output is for one --format: with several, each goes to its usual name")
        refuse_unwritable(given.json)
        refuse_unwritable(given.output)
        with quick_start():
            from mnist_mlp.serve.export import export_run
        written = []
        for format in dict.fromkeys(given.format):
            made = export_run(given.run, format, given.output, given.weights, given.data_root)
            written.append(made.to_json())
            others = f", {made.other_digits} other digits" if made.other_digits else ", the same digits"
            print(f"{made.path}  {made.bytes / 1e6:.2f} MB")
            print(
                f"  checked on {made.images:,} test images ({made.source}): largest difference of a probability "
                f"{made.largest_difference:.2g}{others}"
            )
        if given.json:
            write_json(given.json, {"exports": written})


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnist_mlp.export",
        description="Write a trained net as ONNX model, torch.export program, or HTML page to draw digits on. Each "
        "file is checked against the checkpoint on 1,000 real images, and not kept if it disagrees.",
        epilog="Exit code: 0; 1 for an error, in one line.",
    )
    made.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    made.add_argument("run", metavar="RUN", help="run folder, checkpoint, name under outputs/, or latest")
    made.add_argument(
        "--format", choices=("onnx", "torch", "html"), action="append", required=True, help="may be given several times"
    )
    made.add_argument(
        "--output", type=Path, metavar="FILE", help="default: model.onnx, model.pt2 or draw.html in the run folder"
    )
    made.add_argument(
        "--weights", choices=("auto", "float16", "int8"), default="auto",
        help="how the page stores weights; auto: float16, and int8 where the page would exceed 1 MB",
    )  # fmt: skip
    made.add_argument(
        "--data-root", metavar="FOLDER", help="where the official files are; default: the run's data.root"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write sizes and differences there, too")
    return made


if __name__ == "__main__":
    main()
