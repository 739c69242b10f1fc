"""Splits and subsets, on labels that are far from balanced."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mnist_mlp.data.module import Split, balanced_order, split_digits

COUNTS = [37, 1, 90, 55, 12, 60, 4, 71, 100, 8]  # of each digit: far from balanced


@pytest.fixture
def labels() -> torch.Tensor:
    ordered = np.repeat(np.arange(10), COUNTS)
    return torch.from_numpy(np.random.default_rng(3).permutation(ordered))


def same(one: Split, other: Split) -> bool:
    return torch.equal(one.train, other.train) and torch.equal(one.val, other.val)


@pytest.mark.parametrize("val_size", [0, 1, 99, 437])
def test_training_and_validation_are_disjoint_and_together_all(labels: torch.Tensor, val_size: int) -> None:
    train, val = split_digits(labels, val_size, 1.0, split_seed=0)
    assert len(val) == val_size
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(438))


def test_smaller_subsets_are_inside_larger_ones_and_validation_stays(labels: torch.Tensor) -> None:
    fractions = [0.01, 0.1, 0.25, 0.5, 0.75, 1.0]
    splits = [split_digits(labels, 50, fraction, split_seed=0) for fraction in fractions]
    assert [len(split.train) for split in splits] == [4, 39, 97, 194, 291, 388]
    for smaller, larger in pairwise(splits):
        assert set(smaller.train.tolist()) < set(larger.train.tolist())
        assert torch.equal(smaller.val, larger.val)


def test_every_beginning_and_every_end_holds_each_class_in_proportion(labels: torch.Tensor) -> None:
    for split_seed in range(3):
        ordered = labels[balanced_order(labels, split_seed)].numpy()
        taken = np.cumsum(ordered[:, None] == np.arange(10), axis=0)
        exact = np.arange(1, 439)[:, None] * np.array(COUNTS) / 438
        assert np.abs(taken - exact).max() <= 1


def test_equally_many_of_each_class_stay_so_in_every_subset_and_in_validation() -> None:
    labels = torch.arange(1000) % 10
    for fraction in (0.1, 0.5, 1.0):
        train, val = split_digits(labels, 200, fraction, split_seed=1)
        assert labels[train].bincount(minlength=10).tolist() == [round(80 * fraction)] * 10
        assert labels[val].bincount(minlength=10).tolist() == [20] * 10


def test_the_order_is_a_permutation_shuffled_within_each_class(labels: torch.Tensor) -> None:
    order = balanced_order(labels, split_seed=0)
    assert sorted(order.tolist()) == list(range(438))
    most = order[labels[order] == 8].tolist()
    assert most != sorted(most)
