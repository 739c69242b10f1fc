"""Command: open TensorBoard on the best runs, named by the settings that vary, without smoothing."""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_mlp import __version__
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.locate import OUTPUTS, locate_folder
from mnist_mlp.console import command
from mnist_mlp.errors import UserError, stopping_on_signals
from mnist_mlp.reporting.tensorboard import MAX_TICKED, MEANS_FOLDER, board_runs, link_runs
from mnist_mlp.startup import without_tensorflow

POLL_SECONDS = 10.0
"""Time between two searches for new runs."""
SAME_COLOR = "regex:(.+), seed"
"""TensorBoard's runColorGroup: runs that differ only in the seed share a color."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.tensorboard` and of the script `mnist-mlp-tensorboard`."""
    options = build_parser().parse_args(arguments)
    with command(), stopping_on_signals(), tempfile.TemporaryDirectory(prefix="mnist_mlp-tensorboard-") as links:
        serve(options, Path(links))


def serve(options: argparse.Namespace, links: Path) -> None:
    """Serve current and new runs until a signal arrives, through links to them in an empty folder."""
    limit = None if options.all else MAX_TICKED
    paths = [locate_folder(path) for path in options.paths]
    jobs = find_jobs(paths)
    runs = board_runs(jobs, limit)
    if not runs:
        raise UserError(
            f"no runs with TensorBoard files in {', '.join(map(str, paths))}: train some, or use other folders"
        )
    colors, counts = f"&runColorGroup={quote(SAME_COLOR, safe=':(),')}", _describe_counts(runs, board_runs(jobs, None))
    folder = links
    try:
        link_runs(runs, links)
    except OSError as error:  # Windows reserves links to administrators and developers
        folder, colors = Path(os.path.commonpath([path.resolve() for path in paths])), ""
        counts = f"all runs by folder, because symbolic links are not available ({error.strerror})"
    address = _start(options, folder).rstrip("/")
    print(f"{counts}\n")
    print(f"curves   {address}/?smoothing=0{colors}")
    print(f"overlay  {address}/#custom_scalars&_smoothingWeight=0\nhparams  {address}/#hparams\n")
    print("Press Ctrl-C to stop.", flush=True)
    while True:
        time.sleep(POLL_SECONDS)
        if folder == links:  # otherwise TensorBoard itself finds new runs
            link_runs(board_runs(find_jobs(paths), limit), links)


def _describe_counts(shown: dict[str, Path], available: dict[str, Path]) -> str:
    means, all_means = (sum(path.parent.name == MEANS_FOLDER for path in some.values()) for some in (shown, available))
    runs, all_runs = len(shown) - means, len(available) - all_means
    over_seeds = f" and {means} mean{'s' * (means != 1)} over seeds" if means else ""
    if runs == all_runs:
        return f"{runs} runs{over_seeds}"
    reason = "because TensorBoard selects none if there are more; --all shows all"
    return f"the best {runs} of {all_runs} runs{over_seeds}, {reason}"


def _start(options: argparse.Namespace, folder: Path) -> str:
    """Start TensorBoard in this process, and return its URL."""
    with without_tensorflow():
        from tensorboard import default, program  # deferred: takes seconds
    try:
        board: Any = program.TensorBoard(default.get_static_plugins())  # others, of other packages, may be broken
        port = [] if options.port is None else ["--port", str(options.port)]
        board.configure(argv=["tensorboard", "--logdir", str(folder), "--host", options.host, *port])
        with redirect_stderr(StringIO()):  # hides a notice about how files are read
            return str(board.launch())
    except program.TensorBoardServerException as error:
        raise UserError(str(error)) from error


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.tensorboard",
        description="Open TensorBoard on runs, named by the settings that vary, without smoothing; new runs are added.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    paths = "sweep or runs: folder, name under outputs/, or latest; default: outputs"
    add("paths", nargs="*", metavar="PATH", default=[OUTPUTS], help=paths)
    add("--all", action="store_true", help=f"show all runs; TensorBoard selects none at first above {MAX_TICKED}")
    add("--host", default="localhost", help="default: localhost; 0.0.0.0 to allow other machines")
    add("--port", type=int, metavar="N", help="default: 6006, or the next free port")
    return parser


if __name__ == "__main__":
    main()
