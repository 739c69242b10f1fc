"""Which images are trained on, validated on and tested on; served to Lightning as blocks."""

from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.blocks import Block, BlockLoader, EvalLoader, Plan, random_seed, send
from mnist_mlp.digits import Digits
from mnist_mlp.errors import UserError

SAMPLE_VAL = 500


class Split(NamedTuple):
    """Indices into the training file's images; val and train are disjoint."""

    train: Tensor
    val: Tensor


def balanced_order(labels: Tensor, split_seed: int) -> Tensor:
    """A permutation of the images with every stretch class-balanced: each class is shuffled, then spread evenly."""
    generator = torch.Generator().manual_seed(random_seed(split_seed))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        place[shuffled] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True)


def split_digits(labels: Tensor, val_size: int, fraction: float, split_seed: int) -> Split:
    """Validation is the end of the balanced order, training the first part of what is left: so subsets nest.

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


class DigitData(pl.LightningDataModule):
    """Splits the digits and serves them to Lightning as blocks.

    On the sample, a val_size that its 4,000 training images cannot spare becomes 500.
    """

    def __init__(
        self,
        digits: Digits,
        *,
        batch_size: int = 64,
        steps_per_execution: int = 50,
        val_size: int = 5_000,
        subset: float = 1.0,
        split_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.digits = digits
        if digits.source == "sample" and val_size >= len(digits.train_labels):
            val_size = SAMPLE_VAL
        self.split = split_digits(digits.train_labels, val_size, subset, split_seed)
        self._loader_options = (batch_size, steps_per_execution, seed)

    def counts(self) -> dict[str, int]:
        """Number of images in each split."""
        return {"train": len(self.split.train), "val": len(self.split.val), "test": len(self.digits.test_labels)}

    def train_dataloader(self) -> BlockLoader:
        return BlockLoader(self.split.train, *self._loader_options, *self._place())

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(self.split.val, False, *self._place())

    def test_dataloader(self) -> EvalLoader:
        return EvalLoader(torch.arange(len(self.digits.test_labels)), True, *self._place())

    def transfer_batch_to_device(self, batch: Plan, device: torch.device, dataloader_idx: int) -> Block:
        digits = self.digits.on(device)
        images, labels = (
            (digits.test_images, digits.test_labels) if batch.test else (digits.train_images, digits.train_labels)
        )
        indices = send(torch.cat(batch.batches), device)
        return Block(images, labels, indices.split([len(part) for part in batch.batches]))

    def _place(self) -> tuple[int, int]:
        trainer: Any = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
