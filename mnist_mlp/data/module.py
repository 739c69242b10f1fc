"""The LightningDataModule: splits the digits and serves them as blocks of mini-batches."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.config import Config, subset_fraction
from mnist_mlp.data.mnist import Digits
from mnist_mlp.errors import UserError

EVAL_BATCH = 2_000


class BatchIndices(NamedTuple):
    """The images of a block: indices into the training or the test file, one tensor per mini-batch."""

    test: bool
    batches: tuple[Tensor, ...]


class BatchBlock(NamedTuple):
    """A Lightning batch: the whole data set, resident on the device, and the mini-batches to take from it.

    images: (n, 28, 28) uint8; labels: (n,) int64; batches: index tensors, one per optimiser step.
    """

    images: Tensor
    labels: Tensor
    batches: tuple[Tensor, ...]


def random_seed(*parts: int) -> int:
    """A 64-bit seed from several numbers, by numpy's SeedSequence."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def send(values: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting for the work that the device still has to do."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


class BlockLoader:
    """An epoch's training images in random order, as blocks of mini-batches; the order is a function of (seed, epoch).

    indices: (n,) int64. Each image comes once per epoch, the last short mini-batch included. With several devices each
    rank takes its own share; the last shares are padded with the epoch's first images, so that all ranks make the same
    number of steps. smallest: fewest images in a mini-batch; a shorter last one joins the one before it. ValueError
    where a share has fewer.
    """

    def __init__(
        self,
        indices: Tensor,
        batch_size: int,
        steps_per_execution: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        smallest: int = 1,
    ) -> None:
        self._indices, self._block, self._seed = indices, steps_per_execution, seed
        self._rank, self._world_size, self._epoch = rank, world_size, 0
        self.images = len(indices)
        self._sizes = batch_sizes(self._share(), batch_size, smallest)
        self.steps = len(self._sizes)

    @property
    def sampler(self) -> "BlockLoader":
        """Lightning looks for `set_epoch` here."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self.steps // self._block)

    def __iter__(self) -> Iterator[BatchIndices]:
        generator = torch.Generator().manual_seed(random_seed(self._seed, self._epoch))
        order = self._indices[torch.randperm(len(self._indices), generator=generator)]
        share = torch.cat((order, order[: self._share() * self._world_size - len(order)]))[
            self._rank :: self._world_size
        ]
        batches = share.split(self._sizes)
        for start in range(0, len(batches), self._block):
            yield BatchIndices(test=False, batches=batches[start : start + self._block])

    def _share(self) -> int:
        return -(-len(self._indices) // self._world_size)


def batch_sizes(count: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Sizes of the mini-batches of so many images; ValueError where there are fewer images than `smallest`."""
    if count < smallest:
        raise ValueError(f"Expected at least {smallest} images, but got {count}")
    sizes = [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
    if len(sizes) > 1 and sizes[-1] < smallest:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return sizes


class EvalLoader:
    """Images to evaluate, in file order and large batches; of n devices, each takes every n-th image."""

    def __init__(self, indices: Tensor, test: bool, rank: int = 0, world_size: int = 1) -> None:
        self._plans = [BatchIndices(test, (part,)) for part in indices[rank::world_size].split(EVAL_BATCH) if len(part)]

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[BatchIndices]:
        return iter(self._plans)


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


SAMPLE_VAL = 500


class DigitData(pl.LightningDataModule):
    """Splits the digits and serves them to Lightning as blocks.

    On the sample, a val_size that its 4,000 training images cannot spare becomes 500. subset: the fraction to keep.
    smallest_batch: see `BlockLoader`.
    """

    def __init__(
        self,
        digits: Digits,
        *,
        batch_size: int,
        steps_per_execution: int,
        val_size: int,
        subset: float,
        split_seed: int,
        seed: int,
        smallest_batch: int = 1,
    ) -> None:
        super().__init__()
        self.digits = digits
        if digits.source == "sample" and val_size >= len(digits.train_labels):
            val_size = SAMPLE_VAL
        self.split = split_digits(digits.train_labels, val_size, subset, split_seed)
        self._loader_options = (batch_size, steps_per_execution, seed)
        self._smallest_batch = smallest_batch

    @classmethod
    def from_config(cls, config: Config, digits: Digits) -> "DigitData":
        """The split and order of a configuration; UserError where it leaves nothing to train on."""
        batch_norm = config.model.batch_norm and config.model.hidden_layers > 0
        made = cls(
            digits,
            batch_size=config.data.batch_size,
            steps_per_execution=config.trainer.steps_per_execution,
            val_size=config.data.val_size,
            subset=subset_fraction(config.data.subset),
            split_seed=config.data.split_seed,
            seed=config.seed,
            smallest_batch=2 if batch_norm else 1,  # torch has no variance of a single image
        )
        if batch_norm and len(made.split.train) <= config.trainer.devices:
            raise UserError(
                f"model.batch_norm=true needs at least 2 images per mini-batch but there are {len(made.split.train)} "
                f"training images for trainer.devices={config.trainer.devices}: train on more, or without batch norm"
            )
        return made

    def counts(self) -> dict[str, int]:
        """Number of images in each split."""
        return {"train": len(self.split.train), "val": len(self.split.val), "test": len(self.digits.test_labels)}

    def train_dataloader(self) -> BlockLoader:
        return BlockLoader(self.split.train, *self._loader_options, *self._place(), self._smallest_batch)

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(self.split.val, False, *self._place())

    def test_dataloader(self) -> EvalLoader:
        return EvalLoader(torch.arange(len(self.digits.test_labels)), True, *self._place())

    def transfer_batch_to_device(self, batch: BatchIndices, device: torch.device, dataloader_idx: int) -> BatchBlock:
        digits = self.digits.on(device)
        images, labels = (
            (digits.test_images, digits.test_labels) if batch.test else (digits.train_images, digits.train_labels)
        )
        indices = send(torch.cat(batch.batches), device)
        return BatchBlock(images, labels, indices.split([len(part) for part in batch.batches]))

    def _place(self) -> tuple[int, int]:
        trainer: Any = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
