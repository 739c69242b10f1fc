"""Fast and robust imports. Programs that import mnist_mlp.training get every library unmodified."""

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
"""0.1 ms of spinning: two concurrent default runs on two cores take 2 to 3 s per epoch instead of 227 and 286."""


@contextmanager
def quick_start() -> Iterator[None]:
    """Speed up the imports in its body: torch, Lightning and torchmetrics take 2.9 s of CPU time instead of 4.5 s.

    Also lets waiting OpenMP threads sleep early, unless the user configured this; libgomp reads the variable when torch
    is imported. Does nothing if torchmetrics has been imported.
    """
    if "torchmetrics" in sys.modules:
        yield
        return
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() and "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    gc.disable()  # saves 0.8 s: repeated scans of half a million objects, nearly all of which stay alive
    begin_chunk()  # an exception while compiled code is imported aborts the process
    try:
        _import_torchmetrics()
        yield
        gc.freeze()  # otherwise the next collection takes the time that was saved
        atexit.register(gc.unfreeze)  # triton complains at exit about frozen objects
    finally:
        gc.enable()
        end_chunk()


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """Make the modules of TensorBoard imported in the body avoid TensorFlow, which takes seconds and may be broken."""
    from tensorboard import compat  # deferred: training can start without tensorboard
    from tensorboard.compat import tensorflow_stub

    before, compat.tf = compat.tf, tensorflow_stub
    try:
        yield
    finally:
        compat.tf = before


def _import_torchmetrics() -> None:
    """Hide optional packages from torchmetrics (saves 0.8 s); disables `plot()` and some image and audio metrics."""
    from lightning_utilities.core import imports

    module: Any = imports
    is_met, is_available = module.RequirementCache.__bool__, module.package_available
    version_check = re.compile(r"torch(metrics)?[<>=]")
    module.RequirementCache.__bool__ = lambda self: bool(version_check.match(self.requirement or "")) and is_met(self)
    module.package_available = lambda name: False
    try:
        import torchmetrics  # noqa: F401
    finally:
        module.RequirementCache.__bool__, module.package_available = is_met, is_available
