"""Imported only by the fork server of a sweep's workers: what each of them has from its first moment."""

import sys
from types import TracebackType

from mnist_mlp.startup import quick_start

with quick_start():
    from mnist_mlp.sweeps import jobs as jobs
    from mnist_mlp.training import artifacts as artifacts
    from mnist_mlp.training import fit as fit


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Stay silent in a worker whose sweep was killed before it could send a task."""
    if not issubclass(kind, EOFError):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show
