"""Captured blocks against eager ones; tests/tape.py plays the part of a CUDA graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_steps import CHOICES, IMAGES, LABELS, assert_equal_training, classifier
from tape import Tape, capture_on
from torch import Tensor

from mnist_mlp.data.module import BatchBlock
from mnist_mlp.training.fast import CUDAGraphRunner, run_eager
from mnist_mlp.training.step import TrainingStep


@pytest.mark.parametrize("name", list(CHOICES))
def test_replayed_blocks_equal_eager_ones(name: str) -> None:
    tapes: list[Tape] = []

    def captured(step: TrainingStep, state: list[Tensor]) -> CUDAGraphRunner:
        return CUDAGraphRunner(run_eager(step), state, capture_on(state, tapes))

    assert_equal_training(CHOICES[name], captured)
    assert len(tapes) == 2  # one kind of block is full, one ends the epoch


def test_another_data_set_is_not_replayed_on_the_recorded_one() -> None:
    _, step, state = classifier()
    execute = CUDAGraphRunner(run_eager(step), state, capture_on(state, []))
    batches, rates = torch.arange(40).split(20), torch.zeros(2)
    for _ in range(3):
        before = execute(BatchBlock(IMAGES, LABELS, batches), rates)[1].clone()
    other = execute(BatchBlock(255 - IMAGES, LABELS, batches), rates)[1]
    assert not torch.allclose(before, other)


@pytest.mark.parametrize("name", ["plain", "all"])
def test_a_recording_that_fails_costs_one_line_and_changes_nothing(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(function: object) -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    assert_equal_training(CHOICES[name], lambda step, state: CUDAGraphRunner(run_eager(step), state, fails))
    assert capsys.readouterr().out == "CUDA graphs are off: operation not permitted when stream is capturing\n"


@pytest.mark.parametrize("name", ["plain", "all"])
def test_a_recording_that_lies_is_found_out_and_changes_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def lies(step: TrainingStep, state: list[Tensor]) -> CUDAGraphRunner:
        record = capture_on(state, [])

        def capture(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
            results, replay = record(function)

            def replay_and_spoil() -> None:
                replay()
                with torch.no_grad():
                    state[0].mul_(1.01)

            return results, replay_and_spoil

        return CUDAGraphRunner(run_eager(step), state, capture)

    assert_equal_training(CHOICES[name], lies)
    told = capsys.readouterr().out
    assert told == "CUDA graphs are off: the recorded block does not compute what the eager one does\n"


def test_an_epoch_of_one_block_is_recorded_too() -> None:
    _, step, state = classifier()
    tapes: list[Tape] = []
    runner = CUDAGraphRunner(run_eager(step), state, capture_on(state, tapes))
    for _ in range(3):
        runner(BatchBlock(IMAGES, LABELS, torch.arange(40).split(20)), torch.full((2,), 0.01))
    assert len(tapes) == 1
    assert runner.fault == ""
