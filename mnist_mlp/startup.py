"""Quick start of the commands: torch, torchmetrics and Lightning imported without what no run of ours needs.

The one place that patches lightning_utilities. Only the commands use it: a program that imports mnist_mlp.training gets
every library whole. tests/test_quick_start.py fails where a new version asks for packages in another way; then the
import is merely slower.
"""

import atexit
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mnist_mlp.errors import begin_block, end_block

SPIN_COUNT = "3000"
NEEDED = {"numpy", "torch", "torchmetrics"}
"""The installed packages that torchmetrics may see: enough for classification."""


@contextmanager
def quick_start() -> Iterator[None]:
    """Import quickly what is imported inside. Does nothing where torchmetrics is imported already.

    Half of the gain comes from pausing the garbage collector, which would scan half a million objects again and again,
    nearly all of which stay. The other half comes from hiding optional packages from torchmetrics: no torchvision, no
    scipy.signal, no matplotlib. They can be imported afterwards as usual, but torchmetrics then lacks `plot()` and some
    metrics on detection, images and audio.
    """
    if "torchmetrics" in sys.modules:
        yield
        return
    spin_briefly()
    collecting = gc.isenabled()
    gc.disable()
    begin_block()  # an exception within an import of compiled code aborts the process
    try:
        _import_torchmetrics()
        with _without_rich():
            yield
        gc.freeze()  # the next collection would otherwise scan all of it
        atexit.register(gc.unfreeze)  # triton complains at exit about frozen objects
    finally:
        if collecting:
            gc.enable()
        end_block()


def spin_briefly() -> None:
    """Let an OpenMP thread that waits for the others sleep after a tenth of a millisecond, not after many.

    Beside other work on the machine the threads it waits for may not be running, and a step has a dozen such waits: two
    default runs side by side on two cores took 227 and 286 s an epoch, with brief spinning 2 to 3 s. libgomp reads this
    when torch is imported; a choice of the user's own stands.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() and "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


@contextmanager
def _without_rich() -> Iterator[None]:
    """Lightning would import Rich for bars and summaries that our trainer turns off."""
    from lightning_utilities.core import imports

    asked: Any = imports
    is_met = asked.RequirementCache.__bool__
    asked.RequirementCache.__bool__ = lambda self: not (self.requirement or "").startswith("rich") and is_met(self)
    try:
        yield
    finally:
        asked.RequirementCache.__bool__ = is_met


def _import_torchmetrics() -> None:
    """Without its optional packages. Where that fails, nothing is left behind, and the next import is a normal one."""
    try:
        with _only_needed():
            import torchmetrics  # noqa: F401
    except Exception:  # another version, which asks in another way
        for name in [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]:
            del sys.modules[name]


@contextmanager
def _only_needed() -> Iterator[None]:
    """While this lasts, Lightning's two ways to ask whether a package is installed know NEEDED alone."""
    from lightning_utilities.core import imports

    asked: Any = imports
    is_met, is_available = asked.RequirementCache.__bool__, asked.package_available
    lasts = True

    def needed(requirement: str | None) -> bool:
        return not lasts or re.split(r"[^\w.-]", requirement or "")[0] in NEEDED

    asked.RequirementCache.__bool__ = lambda self: needed(self.requirement) and is_met(self)
    asked.package_available = lambda name: needed(name) and is_available(name)
    try:
        yield
    finally:
        lasts = False  # torchmetrics keeps a reference to the second
        asked.RequirementCache.__bool__, asked.package_available = is_met, is_available
