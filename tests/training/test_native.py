"""trainer.compile=true on a CPU: the C++ gradients equal autograd's, for any layers, threads and precision."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from settings import config_with
from small_steps import CHOICES, IMAGES, LABELS, classifier
from torch import Tensor

from mnist_mlp.errors import UserError
from mnist_mlp.model import ACTIVATIONS
from mnist_mlp.training.compile import CXX
from mnist_mlp.training.fit import fit
from mnist_mlp.training.native import NativeObjective, load_native, native_objective

CASES = {name: settings for name, settings in CHOICES.items() if "optim.vat" not in settings}
CASES |= {name: {"model.activation": name, "model.hidden_units": [7, 12]} for name in ACTIVATIONS}  # an odd width
CASES["wide"] = {"model.hidden_units": [130, 70], "model.noise": 0.2}
HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
HAS_BFLOAT16 = HAS_AVX512 and torch.cpu.get_capabilities().get("avx512_bf16", False)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which(CXX[0]) is None, reason="needs g++ on Linux"),
]


def gradients(settings: dict[str, Any], images: int, native: bool, precision: str = "32-true") -> list[Tensor]:
    """Loss, logits, gradients and buffers after one step, on the first images."""
    model, step, _ = classifier(dtype=torch.float32, **settings)
    objective = native_objective(step.objective, precision) if native else step.objective
    assert isinstance(objective, NativeObjective) == native
    load_native()
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        results = objective.gradients(IMAGES[:images], LABELS[:images], step.optimizer.parameters)
    return [*results, *(buffer.clone() for buffer in model.mlp.buffers())]


@pytest.mark.parametrize("images", [90, 19])
@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_autograds(name: str, images: int) -> None:
    expected, actual = (gradients(CASES[name], images, native) for native in (False, True))
    for want, got in zip(expected, actual, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-6)


def test_large_logits_lose_no_digits() -> None:
    model, step, _ = classifier(dtype=torch.float32)
    output: Any = model.mlp.layers[-1]
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(1000 + torch.arange(10) / 4)  # exact
    load_native()
    objectives = (step.objective, native_objective(step.objective, "32-true"))
    want, got = (objective.gradients(IMAGES, LABELS, step.optimizer.parameters) for objective in objectives)
    torch.testing.assert_close(got[-1], want[-1], rtol=1e-6, atol=1e-7)


def test_batch_norm_refuses_a_single_image() -> None:
    with pytest.raises(ValueError, match="more than"):
        gradients({"model.batch_norm": True}, 1, native=True)


@pytest.mark.skipif(not HAS_BFLOAT16, reason="needs a processor with avx512_bf16")
@pytest.mark.parametrize("name", ["plain", "batch norm", "gelu", "wide", "distilled"])
def test_bfloat16_gradients_are_as_exact_as_those_of_autocast(name: str) -> None:
    exact, autocast, actual = (
        gradients(CASES[name], 89, native, precision)
        for native, precision in ((False, "32-true"), (False, "bf16-mixed"), (True, "bf16-mixed"))
    )
    assert not torch.equal(exact[2], actual[2])
    for index, want in enumerate(exact):
        scale = want.float().norm()
        ours, theirs = ((got[index] - want).float().norm() / scale for got in (actual, autocast))
        assert ours <= 1.2 * theirs + 1e-3, index


def test_a_run_equals_an_eager_one_and_does_not_depend_on_threads_or_chunks(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data.subset": 0.3, "data.batch_size": 150, "model.hidden_units": [200, 100], "model.dropout": 0.1,
        "trainer.max_epochs": 3, "trainer.figures": False, "data.source": "sample",
    }  # fmt: skip
    compiled, threads = {**settings, "trainer.compile": True}, 2 if HAS_AVX512 else 1  # else products are torch's
    eager, one, other = (
        fit(config_with(options), tmp_path / str(number))
        for number, options in enumerate(
            (settings, compiled, {**compiled, "trainer.threads": threads, "trainer.steps_per_execution": 3})
        )
    )
    assert one.metrics == other.metrics
    assert one.metrics == pytest.approx(eager.metrics, rel=0.02)
    states = [torch.load(tmp_path / run / "checkpoints" / "last.ckpt")["state_dict"] for run in "12"]
    assert all(torch.equal(*pair) for pair in zip(*(state.values() for state in states), strict=True))


SCRIPT = """
import pathlib, torch
from small_steps import IMAGES, LABELS, classifier
from mnist_mlp.training.native import load_native, native_objective

load_library, damaged = torch.ops.load_library, []

def load(path):
    if not damaged:
        damaged.append(pathlib.Path(path).write_bytes(b"ELF"))
    load_library(path)

torch.ops.load_library = load
_, step, _ = classifier(dtype=torch.float32)
load_native()
want = step.objective.gradients(IMAGES, LABELS, step.optimizer.parameters)
got = native_objective(step.objective, "32-true").gradients(IMAGES, LABELS, step.optimizer.parameters)
for pair in zip(want, got, strict=True):
    torch.testing.assert_close(*pair, rtol=1e-4, atol=2e-6)
"""


def test_a_damaged_library_is_compiled_again_also_for_older_processors(tmp_path: Path) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "ATEN_CPU_CAPABILITY": "avx2"}
    command, tests = [sys.executable, "-c", SCRIPT], Path(__file__).parents[1]
    result = subprocess.run(command, env=environment, cwd=tests, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("settings", "precision"), [({}, "64-true"), ({"optim.vat": 1.5}, "32-true")])
def test_other_precisions_and_losses_are_left_to_torch_compile(settings: dict[str, Any], precision: str) -> None:
    _, step, _ = classifier(**settings)
    assert not isinstance(native_objective(step.objective, precision), NativeObjective)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("g++ -include missing.h", "missing.h"),
        ("sh -c 'echo ld: disk full, collect2: error: 1 | tr , \\\\n >&2; false' sh", "disk full"),
        ("sh -c 'while [ $1 != -o ]; do shift; done; echo > $2' sh", "too short"),
    ],
)
def test_a_compiler_error_is_one_line(
    command: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CXX": command}.items():
        monkeypatch.setenv(name, value)
    load_native.cache_clear()
    with pytest.raises(UserError, match=r"cannot compile .* fix the compiler .*trainer\.compile=false") as caught:
        load_native()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.tmp"))
