"""Which images are trained on and which validate: class-balanced, and a function of `data.split_seed` alone."""

from typing import NamedTuple

import torch
from torch import Tensor

from mnist_mlp.data.loader import random_seed
from mnist_mlp.errors import UserError


class Split(NamedTuple):
    """Indices into the training file's images; val and train are disjoint."""

    train: Tensor
    val: Tensor


def balanced_order(labels: Tensor, split_seed: int) -> Tensor:
    """A permutation in which every stretch is class-balanced: each class is shuffled, then spread evenly."""
    generator = torch.Generator().manual_seed(random_seed(split_seed))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        place[shuffled] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True)


def split_digits(labels: Tensor, val_size: int, fraction: float, split_seed: int) -> Split:
    """Validation is the end of the balanced order, training the first part of the rest, so that subsets nest.

    labels: (n,) of the training file. Raises UserError where nothing is left to train on.
    """
    order = balanced_order(labels, split_seed)
    if val_size >= len(order):
        raise UserError(
            f"data.val_size={val_size} leaves nothing of {len(order)} training images: choose it below {len(order)}"
        )
    pool = order[: len(order) - val_size]
    keep = round(fraction * len(pool))
    if keep < 1:
        raise UserError(f"data.subset={fraction:g} keeps none of {len(pool)} training images: choose a larger fraction")
    return Split(train=pool[:keep], val=order[len(pool) :])
