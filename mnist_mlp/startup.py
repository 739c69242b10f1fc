"""Quick start of the commands. A program that imports mnist_mlp.training gets every library whole."""

import atexit
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mnist_mlp.errors import begin_chunk, end_chunk

SPIN_COUNT = "3000"
"""A tenth of a millisecond: two default runs at once on two cores take 2 to 3 s per epoch, without it 227 and 286."""


@contextmanager
def quick_start() -> Iterator[None]:
    """Import quickly what is imported inside: 2.9 s of CPU time for torch, Lightning and torchmetrics instead of 4.5 s.

    OpenMP threads that wait for others sleep early, unless the user chose; libgomp reads this when torch is imported.
    Does nothing if torchmetrics is imported already.
    """
    if "torchmetrics" in sys.modules:
        yield
        return
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() and "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    gc.disable()  # 0.8 s: it would scan half a million objects again and again, nearly all of which stay
    begin_chunk()  # an exception within an import of compiled code aborts the process
    try:
        _import_torchmetrics()
        yield
        gc.freeze()  # the next collection would otherwise take the time that the pause saved
        atexit.register(gc.unfreeze)  # triton complains at exit about frozen objects
    finally:
        gc.enable()
        end_chunk()


def _import_torchmetrics() -> None:
    """Hide optional packages from torchmetrics (0.8 s); it lacks `plot()` and some metrics of images and audio."""
    from lightning_utilities.core import imports

    asked: Any = imports
    is_met, is_available = asked.RequirementCache.__bool__, asked.package_available
    needed = re.compile(r"torch(metrics)?[<>=]")  # comparisons of versions
    asked.RequirementCache.__bool__ = lambda self: bool(needed.match(self.requirement or "")) and is_met(self)
    asked.package_available = lambda name: False
    try:
        import torchmetrics  # noqa: F401
    finally:
        asked.RequirementCache.__bool__, asked.package_available = is_met, is_available
