"""The imports of a run, each in a fresh process, since what is imported stays."""

import gc
import json
import subprocess
import sys
from typing import Any

import pytest
from lightning_utilities.core import imports
from lightning_utilities.core.imports import RequirementCache

from mnist_mlp.lean_imports import _only_needed, lean_imports

FIT = """
import gc, json, sys
import mnist_mlp.fit
optional = ("torchvision", "scipy.signal", "mlxtend", "pandas", "sklearn", "matplotlib", "tensorboard")
loaded = [name for name in optional if name in sys.modules]
collects = gc.isenabled()
"""
SAY = """
import torch, torchmetrics
from mnist_mlp.metrics import evaluation_metrics
metrics = evaluation_metrics(calibration=True)
metrics.update(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10)
print(json.dumps({
    "loaded": loaded,
    "collects": collects,
    "metrics": {name: value.tolist() for name, value in metrics.compute().items()},
    "complete": hasattr(torchmetrics.image, "LearnedPerceptualImagePatchSimilarity"),
}))
"""


def fresh(*parts: str) -> dict[str, Any]:
    """What a process of its own says after this code; holds that it says nothing on stderr, at its end either."""
    done = subprocess.run([sys.executable, "-c", "\n".join(parts)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


@pytest.fixture(scope="module")
def ordinary() -> dict[str, Any]:
    """torchmetrics was imported before, by somebody else."""
    return fresh("import torchmetrics", FIT, SAY)


def test_fit_imports_nothing_that_no_first_step_needs(ordinary: dict[str, Any]) -> None:
    later = """
from torchvision.datasets import MNIST
import matplotlib.pyplot, scipy.signal
from lightning_utilities.core.imports import RequirementCache, package_available
assert RequirementCache("torchvision") and package_available("scipy") and torchmetrics.package_available("scipy")
"""
    lean = fresh(FIT, SAY, later)
    assert lean["loaded"] == []
    assert lean["collects"]
    assert lean["metrics"] == ordinary["metrics"]


def test_torchmetrics_that_is_imported_already_stays_whole(ordinary: dict[str, Any]) -> None:
    assert ordinary["complete"]
    assert ordinary["collects"]


def test_where_it_cannot_be_imported_quickly_it_is_imported_slowly(ordinary: dict[str, Any]) -> None:
    broken = """
from contextlib import contextmanager
from mnist_mlp import lean_imports

@contextmanager
def fails(before=lean_imports._only_needed):
    with before():
        yield
    raise AttributeError

lean_imports._only_needed = fails
"""
    assert fresh(broken, FIT, SAY) == ordinary


def test_optional_packages_are_out_of_sight_no_longer_than_asked() -> None:
    names = ("torch>=2.2", "scipy", "torchvision>=0.8")
    with _only_needed():
        assert [bool(RequirementCache(name)) for name in names] == [True, False, False]
        assert not imports.package_available("scipy")
    assert all(RequirementCache(name) for name in names)
    assert imports.package_available("scipy")


def test_an_error_inside_ends_it_as_well() -> None:
    with pytest.raises(ImportError), _only_needed():
        raise ImportError
    assert RequirementCache("scipy")
    assert imports.package_available("scipy")


def test_the_garbage_collector_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with lean_imports():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
