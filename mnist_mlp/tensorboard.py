"""Command: open TensorBoard over runs, named by what varies, unsmoothed, at most forty at once."""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_mlp import __version__
from mnist_mlp.compare.collect import find_jobs
from mnist_mlp.console import command
from mnist_mlp.errors import UserError, stopping_on_signals
from mnist_mlp.reporting.tensorboard import MAX_TICKED, MEANS_FOLDER, board_runs, link_runs

LOOK_SECONDS = 10.0
"""How often to look for new runs."""
SAME_COLOR = "regex:(.+), seed"
"""Runs whose names agree before the seed share a color: runColorGroup in TensorBoard's address."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.tensorboard` and of the script `mnist-mlp-tensorboard`."""
    options = build_parser().parse_args(arguments)
    with command(), stopping_on_signals(), tempfile.TemporaryDirectory(prefix="mnist_mlp-tensorboard-") as links:
        serve(options, Path(links))


def serve(options: argparse.Namespace, links: Path) -> None:
    """Serve the runs until a signal comes, with those that are added meanwhile. links: an empty folder."""
    most = None if options.all else MAX_TICKED
    if missing := [str(path) for path in options.paths if not path.is_dir()]:
        raise UserError(f"{', '.join(missing)} is not a folder: give run folders, or folders that hold some")
    jobs = find_jobs(options.paths)
    runs = board_runs(jobs, most)
    if not runs:
        raise UserError(
            f"no runs with TensorBoard's files in {', '.join(map(str, options.paths))}: train some, or name others"
        )
    link_runs(runs, links)
    address = _start(options, links).rstrip("/")
    colors = quote(SAME_COLOR, safe=":(),")
    print(f"{_counts(runs, board_runs(jobs, None))}\n")
    print(f"curves   {address}/?smoothing=0&runColorGroup={colors}")
    print(f"overlay  {address}/#custom_scalars&_smoothingWeight=0\nhparams  {address}/#hparams\n")
    print("Ctrl-C ends it.", flush=True)
    while True:
        time.sleep(LOOK_SECONDS)
        link_runs(board_runs(find_jobs(options.paths), most), links)


def _counts(shown: dict[str, Path], found: dict[str, Path]) -> str:
    """How many runs, and means over seeds, TensorBoard shows."""
    means, every_mean = (sum(path.parent.name == MEANS_FOLDER for path in some.values()) for some in (shown, found))
    runs, every_run = len(shown) - means, len(found) - every_mean
    over_seeds = f" and {means} means over seeds" if means else ""
    if runs == every_run:
        return f"{runs} runs{over_seeds}"
    reason = "since of more TensorBoard shows none at first; --all takes all"
    return f"the best {runs} of {every_run} runs{over_seeds}, {reason}"


def _start(options: argparse.Namespace, links: Path) -> str:
    """Start TensorBoard in this process; its address."""
    try:
        from tensorboard import program  # deferred: it takes seconds

        board: Any = program.TensorBoard()
        port = [] if options.port is None else ["--port", str(options.port)]
        board.configure(argv=["tensorboard", "--logdir", str(links), "--host", options.host, *port])
        with redirect_stderr(StringIO()):  # a note on how it reads files
            return str(board.launch())
    except program.TensorBoardServerException as error:
        raise UserError(str(error)) from error


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.tensorboard",
        description="Open TensorBoard over runs, named by what varies, unsmoothed; new runs are taken up.",
    )
    parser.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    paths, every = "sweeps or runs; default: outputs", f"more than {MAX_TICKED} runs, of which none is ticked at first"
    parser.add_argument("paths", type=Path, nargs="*", metavar="PATH", default=[Path("outputs")], help=paths)
    parser.add_argument("--all", action="store_true", help=every)
    parser.add_argument("--host", default="localhost", help="default: localhost; 0.0.0.0 to be seen from elsewhere")
    parser.add_argument("--port", type=int, metavar="N", help="default: 6006, or the next one that is free")
    return parser


if __name__ == "__main__":
    main()
