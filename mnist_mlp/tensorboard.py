"""Command: open TensorBoard over runs, named by what varies, unsmoothed, at most forty at once."""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from mnist_mlp import __version__
from mnist_mlp.compare.collect import JobReader
from mnist_mlp.console import command
from mnist_mlp.errors import UserError, stopping_on_signals
from mnist_mlp.reporting.tensorboard import MEANS_FOLDER as MEANS
from mnist_mlp.reporting.tensorboard import TICKED, board_runs, first_look, link_runs, overlay

LOOK_SECONDS = 10.0
"""How often to look for new runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.tensorboard` and of the script `mnist-mlp-tensorboard`."""
    given = parser().parse_args(arguments)
    with command(), stopping_on_signals(), tempfile.TemporaryDirectory(prefix="mnist_mlp-tensorboard-") as links:
        serve(given, Path(links))


def serve(given: argparse.Namespace, links: Path) -> None:
    """Serve the runs until a signal comes, taking up what is new."""
    reader, most = JobReader(), None if given.all else TICKED
    missing = [str(path) for path in given.paths if not path.is_dir()]
    if missing:
        raise UserError(f"{', '.join(missing)} is no folder: give run folders, or folders that hold some")
    jobs = reader.find(given.paths)
    runs = board_runs(jobs, most)
    if not runs:
        raise UserError(
            f"no runs with TensorBoard's files in {', '.join(map(str, given.paths))}: train some, or name others"
        )
    _link(runs, links)
    board = _start(given, links)
    print(f"{_counted(runs, board_runs(jobs, None))}\n")
    print(f"curves   {first_look(board)}\noverlay  {overlay(board)}\nhparams  {board}#hparams\n")
    print("Ctrl-C ends it.", flush=True)
    while True:
        time.sleep(LOOK_SECONDS)
        _link(board_runs(reader.find(given.paths), most), links)


def _counted(shown: dict[str, Path], found: dict[str, Path]) -> str:
    """How many runs, and means over seeds, there are to be seen."""
    means, every_mean = (sum(path.parent.name == MEANS for path in some.values()) for some in (shown, found))
    runs, every_run = len(shown) - means, len(found) - every_mean
    over_seeds = f" and {means} means over seeds" if means else ""
    if runs == every_run:
        return f"{runs} runs{over_seeds}"
    reason = "since of more TensorBoard shows none at first; --all takes all"
    return f"the best {runs} of {every_run} runs{over_seeds}, {reason}"


def _link(runs: dict[str, Path], links: Path) -> None:
    try:
        link_runs(runs, links)
    except OSError as error:
        raise UserError(
            f"links cannot be made here ({error.strerror}): python -m tensorboard.main --logdir FOLDER shows the same "
            "runs under longer names"
        ) from error


def _start(given: argparse.Namespace, links: Path) -> str:
    """Start TensorBoard in this process; its address."""
    try:
        from tensorboard import program  # deferred: it takes seconds

        board: Any = program.TensorBoard()
        port = [] if given.port is None else ["--port", str(given.port)]
        board.configure(argv=["tensorboard", "--logdir", str(links), "--host", given.host, *port])
        with redirect_stderr(StringIO()):  # a note on how it reads files
            return str(board.launch())
    except program.TensorBoardServerException as error:
        raise UserError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnist_mlp.tensorboard",
        description="Open TensorBoard over runs, named by what varies, unsmoothed; new runs are taken up.",
    )
    made.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    made.add_argument(
        "paths",
        type=Path,
        nargs="*",
        metavar="PATH",
        default=[Path("outputs")],
        help="sweeps or runs; default: outputs",
    )
    made.add_argument(
        "--all", action="store_true", help=f"also more than {TICKED} runs, of which none is ticked at first"
    )
    made.add_argument("--host", default="localhost", help="default: localhost; 0.0.0.0 to be seen from elsewhere")
    made.add_argument("--port", type=int, metavar="N", help="default: 6006, or the next one that is free")
    return made


if __name__ == "__main__":
    main()
