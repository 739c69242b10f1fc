"""The imports of a run, each tested in a fresh process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps_in_process import TINY

from mnist_mlp.startup import without_tensorflow
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
COMPUTE_METRICS = """
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


def run_python(*parts: str) -> dict[str, Any]:
    """Run code in a new process and return its JSON output; checks that stderr stays empty, even at exit."""
    done = subprocess.run([sys.executable, "-c", "\n".join(parts)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    output = json.loads(done.stdout)
    assert isinstance(output, dict)
    return output


@pytest.mark.integration
def test_fit_does_not_import_optional_packages_and_computes_the_same_metrics() -> None:
    later = """
from torchvision.datasets import MNIST
import matplotlib.pyplot, rich.console, scipy.signal
from lightning_utilities.core.imports import RequirementCache, package_available
assert RequirementCache("torchvision") and RequirementCache("rich")
assert package_available("scipy")
"""
    quick = run_python(FIT, COMPUTE_METRICS, later)
    assert quick["loaded"] == []
    assert quick["collects"]
    metrics = evaluation_metrics("test")
    metrics.update(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10)
    assert quick["metrics"] == {name: value.tolist() for name, value in metrics.compute().items()}


@pytest.mark.integration
def test_a_program_that_imports_the_training_package_gets_unmodified_libraries() -> None:
    output = run_python("""
import gc, json, os, torch
import pytorch_lightning  # sets a variable of its own
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
def test_waiting_threads_spin_briefly_unless_configured_otherwise(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    output = run_python("""
import json, os
from mnist_mlp.startup import quick_start
with quick_start():
    pass
print(json.dumps({"spin": os.environ.get("GOMP_SPINCOUNT")}))
""")
    assert output == {"spin": expected}


@pytest.mark.integration
def test_ctrl_c_during_the_imports_is_deferred_to_their_end() -> None:
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "imported\n", "\ninterrupted\n")


TENSORBOARD = """
import sys
from pathlib import Path
from mnist_mlp import tensorboard
sys.argv = ["tensorboard", "outputs", "--port", "0"]
def stop(seconds):
    raise KeyboardInterrupt
tensorboard.time.sleep = stop
try:
    tensorboard.main()
except (KeyboardInterrupt, SystemExit):
    print("served")
"""


@pytest.mark.integration
@pytest.mark.parametrize("content", [None, "raise AttributeError('MessageFactory')"], ids=["left over", "broken"])
def test_training_and_tensorboard_do_not_depend_on_an_installed_tensorflow(
    content: str | None, idx_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "tensorflow").mkdir()  # without a file, a namespace package
    if content is not None:
        (tmp_path / "tensorflow/__init__.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    train = ["-m", "mnist_mlp.train", "-m", "seed=0,1", "name=x", *TINY, f"data.root={idx_root}"]
    for arguments in (train, ["-c", TENSORBOARD]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert done.stdout.endswith("served\n")
    assert len(list(tmp_path.glob("outputs/sweeps/x/*/tensorboard/events*"))) == 2
    assert list(tmp_path.glob("outputs/sweeps/x/means/**/events*"))


def test_tensorflow_remains_available_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard import compat
    from tensorboard.compat import tensorflow_stub

    other = object()
    monkeypatch.setattr(compat, "tf", other)
    with without_tensorflow():
        assert compat.tf is tensorflow_stub
    assert compat.tf is other


@pytest.mark.integration
def test_a_torchvision_for_another_torch_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    paths = [str(tmp_path), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", "import mnist_mlp; mnist_mlp.fit"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "ImportError" in (last := done.stderr.splitlines()[-1])
    assert "torchvision" in last
