"""Compiled and captured steps against the eager ones; a CUDA graph's part is played by tests/tape.py."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mnist_mlp import execution
from mnist_mlp.blocks import Block
from mnist_mlp.classifier import DigitClassifier
from mnist_mlp.errors import UserError
from mnist_mlp.execution import Captured, CompiledStep, Execute, check_compiler, in_turn
from mnist_mlp.step import TrainingStep
from mnist_mlp.update import Update
from tests.tape import Tape, capture_on

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")
CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear classifier": {"hidden_layers": 0, "momentum": 0.0},
    "no momentum": {"momentum": 0.0, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.01, "activation": "tanh"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01, "activation": "gelu"},
    "dropout": {"dropout": 0.3},
    "batch norm": {"batch_norm": True, "label_smoothing": 0.1},
    "augmented": {"augmentation": {"rotation": 10.0, "scale": 0.1, "translate": 1.0, "elastic": 1.0}},
    "all": {
        "optimizer": "adamw",
        "activation": "silu",
        "dropout": 0.2,
        "batch_norm": True,
        "label_smoothing": 0.1,
        "augmentation": {"shear": 5.0, "elastic": 1.0},
    },
}
IMAGES = torch.randint(0, 256, (90, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(90) % 10


def classifier(**settings: Any) -> tuple[DigitClassifier, TrainingStep, list[Tensor]]:
    """A small net, its step, and everything that the step changes in place."""
    torch.manual_seed(0)
    model = DigitClassifier(**{"hidden_layers": 2, "hidden_units": [16, 8], "lr": 0.05, **settings})
    optimizer = model.configure_optimizers()
    step = TrainingStep(
        model, Update(optimizer), settings.get("augmentation", {}), settings.get("label_smoothing", 0.0)
    )
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return model, step, [*model.parameters(), *model.buffers(), *state]


def epochs(execute: Execute, count: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and logits of epochs of 90 images: mini-batches of 20, the last of 10; blocks of 2; falling rates."""
    torch.manual_seed(7)
    losses, logits, rate = [], [], 0.05
    for epoch in range(count):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(epoch)).split(20)
        for start in range(0, 5, 2):
            batches = order[start : start + 2]
            rates = torch.tensor([rate * 0.9**step for step in range(len(batches))])
            rate *= 0.8
            loss, logit = execute(Block(IMAGES, LABELS, batches), rates)
            losses.append(loss.clone())
            logits.append(logit.clone())
    return losses, logits


def assert_equal_training(settings: dict[str, Any], other: Callable[[TrainingStep, list[Tensor]], Execute]) -> None:
    eager, step, _ = classifier(**settings)
    expected = epochs(in_turn(step))
    model, step, state = classifier(**settings)
    got = epochs(other(step, state))
    for theirs, ours in zip(expected, got, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)  # rounding, through 15 steps
    if settings.get("batch_norm"):  # it undoes the biases before it: their gradients are rounding, magnified by Adam
        return
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture
def _traced_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The whole step as one graph of torch operations, without the minutes that C++ would take for all choices."""
    compile_by_torch = torch.compile
    monkeypatch.setattr(
        execution.torch,
        "compile",
        lambda step, options, **rest: compile_by_torch(step, backend="aot_eager", **rest),
    )
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_traced_only")
@pytest.mark.parametrize("name", list(CHOICES))
def test_the_step_is_one_graph_whatever_is_chosen(name: str) -> None:
    assert_equal_training(CHOICES[name], lambda step, state: in_turn(CompiledStep(step, 20)))


@needs_compiler
@pytest.mark.parametrize("name", ["plain", "all"])
def test_compiled_agrees_with_eager_within_rounding(name: str) -> None:
    assert_equal_training(CHOICES[name], lambda step, state: in_turn(CompiledStep(step, 20)))


@pytest.mark.usefixtures("_traced_only")
def test_nets_of_one_shape_share_the_compiled_step_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal_training({"dropout": 0.3}, lambda step, state: in_turn(CompiledStep(step, 20)))
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    assert_equal_training({"dropout": 0.3}, lambda step, state: in_turn(CompiledStep(step, 20)))


@pytest.mark.usefixtures("_traced_only")
def test_it_says_how_long_compiling_took() -> None:
    compiled = CompiledStep(classifier()[1], 20)
    assert compiled.seconds == 0
    epochs(in_turn(compiled), 1)
    first = compiled.seconds
    assert first > 0
    epochs(in_turn(compiled), 1)
    assert compiled.seconds == first


@pytest.mark.parametrize("name", list(CHOICES))
def test_replayed_blocks_equal_eager_ones(name: str) -> None:
    tapes: list[Tape] = []
    assert_equal_training(CHOICES[name], lambda step, state: Captured(in_turn(step), capture_on(state, tapes)))
    assert len(tapes) == 2  # one kind of block is full, one ends the epoch


def test_another_data_set_is_not_replayed_on_the_recorded_one() -> None:
    _, step, state = classifier()
    execute = Captured(in_turn(step), capture_on(state, []))
    batches, rates = torch.arange(40).split(20), torch.zeros(2)
    for _ in range(3):
        before = execute(Block(IMAGES, LABELS, batches), rates)[1].clone()
    other = execute(Block(255 - IMAGES, LABELS, batches), rates)[1]
    assert not torch.allclose(before, other)


def test_without_a_compiler_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"trainer\.compile=true .* there is no g\+\+: install"):
        check_compiler("cpu")
