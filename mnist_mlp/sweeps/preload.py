"""Imported by the fork server alone: what each of its workers then has from its first moment."""

import sys
from types import TracebackType

from mnist_mlp.startup import quick_start

with quick_start():
    from mnist_mlp.training import artifacts as artifacts
    from mnist_mlp.training import fit as fit


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Without a word of a worker whose sweep was killed before it could say what to do."""
    if not issubclass(kind, EOFError):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show
