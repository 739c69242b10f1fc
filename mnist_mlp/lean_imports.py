"""Quick start: torch, torchmetrics and Lightning imported without the work that no run of ours needs."""

import atexit
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NEEDED = {"numpy", "torch", "torchmetrics"}
"""All that torchmetrics gets to see of what is installed: enough for classification."""


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import quickly what is imported inside; torchmetrics is, in any case. 4.3 s for `mnist_mlp.fit` become 2.4 s.

    Half of that is the garbage collector, which rests: it would go through half a million objects again and again, of
    which hardly one is garbage. The other half is torchmetrics, which imports every optional package that it finds and
    now finds none: no torchvision, no scipy.signal, no matplotlib.

    Afterwards those packages can be imported as ever. Only torchmetrics stays as it is where they are not installed:
    without `plot()`, and without some metrics on detections, pictures and sound in its name space. Who wants these
    imports torchmetrics first.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        _import_torchmetrics()
        yield
        gc.freeze()  # or else the next collection would go through all of it
        atexit.register(gc.unfreeze)  # or else triton complains that it was never freed
    finally:
        if collecting:
            gc.enable()


def _import_torchmetrics() -> None:
    """Without its optional packages; where that fails not at all, which leaves it to the next to import it."""
    if "torchmetrics" in sys.modules:
        return
    try:
        with _only_needed():
            import torchmetrics  # noqa: F401
    except Exception:  # another version, which asks in another way
        for name in [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]:
            del sys.modules[name]


@contextmanager
def _only_needed() -> Iterator[None]:
    """While this lasts, the two ways in which Lightning asks for a package know NEEDED alone. Nothing is cached."""
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
        lasts = False  # torchmetrics has taken the second into its name space
        asked.RequirementCache.__bool__, asked.package_available = is_met, is_available
