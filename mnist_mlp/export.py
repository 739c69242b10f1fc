"""Command: export a trained network to ONNX, torch.export, or an HTML page to draw on."""

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
    options = build_parser().parse_args(arguments)
    with command():
        if len(set(options.format)) > 1 and options.output:
            raise UserError("--output needs a single --format: without it, each format gets its default file name")
        refuse_unwritable(options.json)
        refuse_unwritable(options.output)
        with quick_start():
            from mnist_mlp.reporting.page import is_page, write_page
            from mnist_mlp.serve.export import export_run
            from mnist_mlp.serve.nets import locate
        net, exports = locate(options.run), []
        print(net.summary)
        for format in dict.fromkeys(options.format):
            export = export_run(net, format, options.output, options.weights, options.data_root)
            exports.append(export.to_json())
            others = f"{export.other_digits} predictions differ" if export.other_digits else "same predictions"
            print(f"{export.path}  {export.bytes / 1e6:.2f} MB")
            images = f"{export.images:,} test images ({export.source})"
            print(f"  {others} on {images}, probabilities within {export.largest_difference:.2g}")
            if net.folder and export.path == net.folder.draw_file and is_page(net.folder.page_file):
                write_page([net.home], net.folder.page_file)  # links the draw page
        if options.json:
            write_json(options.json, {"exports": exports})


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.export",
        description="Export a trained network as an ONNX model, torch.export program, or HTML page to draw on. "
        "Each file is checked against the checkpoint on 1,000 images, and discarded if it disagrees.",
        epilog="Exit code: 0; 1 for an error.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    add("run", metavar="RUN", help="run folder, checkpoint, name under outputs/ or latest")
    formats = ("onnx", "torch", "html")
    add("--format", choices=formats, action="append", required=True, help="can be repeated")
    add("--output", type=Path, metavar="FILE", help="default: model.onnx, model.pt2 or draw.html in the run folder")
    weights = "precision of the page's weights; default: float16, or int8 if the page would exceed 1 MB"
    add("--weights", choices=("auto", "float16", "int8"), default="auto", help=weights)
    add("--data-root", metavar="FOLDER", help="folder with the official files; default: the run's data.root")
    add("--json", type=Path, metavar="FILE", help="also write sizes and differences as JSON")
    return parser


if __name__ == "__main__":
    main()
