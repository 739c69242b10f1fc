"""Modules that the fork server of a sweep's workers imports once for all of them."""

import signal
import sys
from multiprocessing import current_process
from multiprocessing.util import register_after_fork
from types import TracebackType

from mnist_mlp.errors import SIGNALS
from mnist_mlp.startup import quick_start, without_tensorflow

with quick_start(), without_tensorflow():
    import torch.utils.tensorboard  # noqa: F401

    from mnist_mlp.sweeps import jobs as jobs
    from mnist_mlp.sweeps.processes import WORKER
    from mnist_mlp.training import artifacts as artifacts
    from mnist_mlp.training import fit as fit


def _excepthook(type_: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print nothing in a worker whose sweep was killed before it sent a task."""
    if not issubclass(type_, EOFError):
        sys.__excepthook__(type_, error, traceback)


def _unblock_signals(_: object) -> None:
    """Let processes of the calling program, which also fork from this server, take signals; workers do so later."""
    if not current_process().name.startswith(WORKER):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


sys.excepthook = _excepthook
register_after_fork(_unblock_signals, _unblock_signals)
