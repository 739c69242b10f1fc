"""Captured blocks against eager ones; tests/tape.py plays the part of a CUDA graph."""

import pytest
import torch
from small_steps import CHOICES, IMAGES, LABELS, assert_equal_training, classifier
from tape import Tape, capture_on

from mnist_mlp.data.loader import BatchBlock
from mnist_mlp.training.runner import CUDAGraphRunner, run_eager


@pytest.mark.parametrize("name", list(CHOICES))
def test_replayed_blocks_equal_eager_ones(name: str) -> None:
    tapes: list[Tape] = []
    assert_equal_training(CHOICES[name], lambda step, state: CUDAGraphRunner(run_eager(step), capture_on(state, tapes)))
    assert len(tapes) == 2  # one kind of block is full, one ends the epoch


def test_another_data_set_is_not_replayed_on_the_recorded_one() -> None:
    _, step, state = classifier()
    execute = CUDAGraphRunner(run_eager(step), capture_on(state, []))
    batches, rates = torch.arange(40).split(20), torch.zeros(2)
    for _ in range(3):
        before = execute(BatchBlock(IMAGES, LABELS, batches), rates)[1].clone()
    other = execute(BatchBlock(255 - IMAGES, LABELS, batches), rates)[1]
    assert not torch.allclose(before, other)
