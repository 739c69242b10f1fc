"""Splits and subsets of imbalanced labels."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mnist_mlp.data.module import balanced_order, split_digits

COUNTS = [37, 1, 90, 55, 12, 60, 4, 71, 100, 8]


@pytest.fixture
def labels() -> torch.Tensor:
    ordered = np.repeat(np.arange(10), COUNTS)
    return torch.from_numpy(np.random.default_rng(3).permutation(ordered))


@pytest.mark.parametrize("val_size", [0, 1, 99, 437])
def test_training_and_validation_are_a_partition(labels: torch.Tensor, val_size: int) -> None:
    train, val = split_digits(labels, val_size, 1.0, split_seed=0)
    assert len(val) == val_size
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(438))


def test_subsets_are_nested_and_share_the_validation_images(labels: torch.Tensor) -> None:
    fractions = [0.01, 0.1, 0.25, 0.5, 0.75, 1.0]
    splits = [split_digits(labels, 50, fraction, split_seed=0) for fraction in fractions]
    assert [len(split.train) for split in splits] == [4, 39, 97, 194, 291, 388]
    for smaller, larger in pairwise(splits):
        assert set(smaller.train.tolist()) < set(larger.train.tolist())
        assert torch.equal(smaller.val, larger.val)


def test_every_prefix_and_suffix_has_the_class_proportions_of_the_whole(labels: torch.Tensor) -> None:
    for split_seed in range(3):
        ordered = labels[balanced_order(labels, split_seed)].numpy()
        counts = np.cumsum(ordered[:, None] == np.arange(10), axis=0)
        proportional = np.arange(1, 439)[:, None] * np.array(COUNTS) / 438
        assert np.abs(counts - proportional).max() <= 1


def test_subsets_and_validation_of_balanced_classes_are_balanced() -> None:
    labels = torch.arange(1000) % 10
    for fraction in (0.1, 0.5, 1.0):
        train, val = split_digits(labels, 200, fraction, split_seed=1)
        assert labels[train].bincount(minlength=10).tolist() == [round(80 * fraction)] * 10
        assert labels[val].bincount(minlength=10).tolist() == [20] * 10


def test_the_order_is_a_permutation_shuffled_within_each_class(labels: torch.Tensor) -> None:
    order = balanced_order(labels, split_seed=0)
    assert sorted(order.tolist()) == list(range(438))
    eights = order[labels[order] == 8].tolist()
    assert eights != sorted(eights)
