"""The imports of a run, each test in a new process."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from mnist_mlp.training.metrics import evaluation_metrics

FIT = """
import gc, json, sys
from mnist_mlp.startup import quick_start
with quick_start():
    import mnist_mlp.training.fit
optional = ("torchvision", "scipy.signal", "mlxtend", "pandas", "sklearn", "matplotlib", "tensorboard")
loaded = [name for name in optional if name in sys.modules]
collects = gc.isenabled()
"""
PRINT_JSON = """
import torch, torchmetrics
from mnist_mlp.training.metrics import evaluation_metrics
metrics = evaluation_metrics("test")
metrics.update(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10)
print(json.dumps({
    "loaded": loaded,
    "collects": collects,
    "metrics": {name: value.tolist() for name, value in metrics.compute().items()},
}))
"""


def run_fresh(*snippets: str) -> dict[str, Any]:
    """Run code in a new process that must not write to stderr; return its output, parsed as JSON."""
    process = subprocess.run([sys.executable, "-c", "\n".join(snippets)], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    output = json.loads(process.stdout)
    assert isinstance(output, dict)
    return output


@pytest.mark.integration
def test_fit_imports_only_what_the_first_step_needs_with_equal_metrics() -> None:
    later = """
from torchvision.datasets import MNIST
import matplotlib.pyplot, rich.console, scipy.signal
from lightning_utilities.core.imports import RequirementCache, package_available
assert RequirementCache("torchvision") and RequirementCache("rich")
assert package_available("scipy")
"""
    lean = run_fresh(FIT, PRINT_JSON, later)
    assert lean["loaded"] == []
    assert lean["collects"]
    metrics = evaluation_metrics("test")
    metrics.update(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10)
    assert lean["metrics"] == {name: value.tolist() for name, value in metrics.compute().items()}


@pytest.mark.integration
def test_importing_the_training_package_leaves_libraries_unchanged() -> None:
    output = run_fresh("""
import gc, json, os, torch
import pytorch_lightning  # sets an environment variable
before = (torch.get_num_threads(), gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), dict(os.environ))
import mnist_mlp.training.fit
import torchmetrics
from torchmetrics.classification import MulticlassConfusionMatrix
after = (torch.get_num_threads(), gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), dict(os.environ))
matrix = MulticlassConfusionMatrix(3)
matrix.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
figure, axes = matrix.plot()
print(json.dumps({"changed": [str(pair) for pair in zip(before, after) if pair[0] != pair[1]], "axes": str(axes)}))
""")
    assert output["changed"] == []
    assert "Axes" in output["axes"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
)
def test_waiting_threads_spin_briefly_unless_the_user_configured_it(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    output = run_fresh("""
import json, os
from mnist_mlp.startup import quick_start
with quick_start():
    pass
print(json.dumps({"spin": os.environ.get("GOMP_SPINCOUNT")}))
""")
    assert output == {"spin": expected}


@pytest.mark.integration
def test_ctrl_c_during_the_imports_takes_effect_after_them_in_one_line() -> None:
    code = """
import os, signal, sys
from mnist_mlp.errors import stopping_on_signals
from mnist_mlp.startup import quick_start
signal.signal(signal.SIGINT, signal.default_int_handler)
with stopping_on_signals():
    with quick_start():
        os.kill(os.getpid(), signal.SIGINT)
        print("imported", flush=True)
    print("never", flush=True)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (130, "imported\n", "\ninterrupted\n")
