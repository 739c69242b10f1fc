"""Compiled and captured steps against the eager ones; a CUDA graph's part is played by tests/tape.py."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from small_steps import CHOICES, IMAGES, LABELS, assert_equal_training, classifier, epochs
from tape import Tape, capture_on

from mnist_mlp import execution
from mnist_mlp.blocks import Block
from mnist_mlp.errors import UserError
from mnist_mlp.execution import Captured, CompiledStep, check_compiler, in_turn

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")


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
