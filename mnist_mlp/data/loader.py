"""The order of the images: mini-batches as index tensors, and blocks of mini-batches as Lightning's batches."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

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
