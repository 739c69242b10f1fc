"""Modules that the fork server of a sweep's workers imports once for all of them."""

import sys
from types import TracebackType

from mnist_mlp.startup import quick_start, without_tensorflow

with quick_start(), without_tensorflow():
    import torch.utils.tensorboard  # noqa: F401

    from mnist_mlp.sweeps import jobs as jobs
    from mnist_mlp.training import artifacts as artifacts
    from mnist_mlp.training import fit as fit


def _excepthook(type_: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print nothing in a worker whose sweep was killed before it sent a task."""
    if not issubclass(type_, EOFError):
        sys.__excepthook__(type_, error, traceback)


sys.excepthook = _excepthook
