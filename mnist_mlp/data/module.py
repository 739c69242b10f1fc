"""The LightningDataModule: which images train and validate, in which order, and as which mini-batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import SequentialSampler

from mnist_mlp.config import Config, subset_fraction
from mnist_mlp.data.mnist import Digits, load_digits
from mnist_mlp.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Self

EVAL_BATCH = 2_000
SAMPLE_VAL = 500


def random_seed(*parts: int) -> int:
    """A 64-bit seed from several numbers, by numpy's SeedSequence."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def to_device_async(values: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device without waiting for the device's pending work."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


FORMS = "give uint8 in 0..255 or floats in [0, 1], one image (28, 28) or many (n, 28, 28), with or without a channel"


def as_pixels(images: NDArray[Any] | Tensor) -> Tensor:
    """Convert one image or many to (n, 28, 28), uint8 or float32, both on the scale 0 to 255, light ink on dark.

    Args:
        images: torch or numpy, uint8 in 0..255 or floats in [0, 1] (the output of torchvision's ToTensor); (28, 28),
            (n, 28, 28), (n, 1, 28, 28) or (n, 28, 28, 1).

    Raises:
        UserError: the images are ambiguous: integers of other types, floats outside [0, 1], uint8 that are only 0 and
            1, several channels.
    """
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor):
        remedy = "a torch tensor or a numpy array (of a list by torch.stack or numpy.stack)"
        raise UserError(f"images is a {type(images).__name__}: give {remedy}")
    shape = tuple(images.shape)
    if shape[-1:] == (1,):
        images = images[..., 0]
    elif len(shape) == 4 and shape[1] == 1:
        images = images[:, 0]
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise UserError(f"images have the shape {shape}: {FORMS}")
    if images.dtype == torch.uint8:
        if images.numel() and int(images.max()) == 1:
            raise UserError("images are uint8 of 0 and 1 alone, which may be a mask: multiply by 255 if 1 is full ink")
        return images
    if not images.is_floating_point():
        raise UserError(f"images are {str(images.dtype).removeprefix('torch.')}: {FORMS}")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):  # NaN is outside, too
        low, high = images.min().item(), images.max().item()
        raise UserError(
            f"images are floats from {low:.4g} to {high:.4g}: {FORMS}; not normalised, the classifier does that itself"
        )
    return images.float() * 255


@dataclass(eq=False)
class DigitLoader:
    """Serves mini-batches of images that already lie on the device: (b, 28, 28) uint8 and (b,) int64.

    It is iterated like a `DataLoader` and used by itself or by any Lightning trainer. Lightning calls `set_epoch`.

    Args:
        images: (n, 28, 28) uint8 on the device.
        labels: (n,) int64 on the device.
        indices: (k,) int64 on the CPU, the images to serve.
        sizes: Images in each mini-batch.
        seed: The order of epoch e is a function of (seed, e); None keeps the order of `indices`.
        rank: This process among `world_size`, of which each takes its own share of the shuffled images.
        world_size: Number of processes. The last shares are padded with the epoch's first images, so that all
            processes make the same number of steps.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    sizes: list[int]
    seed: int | None = None
    rank: int = 0
    world_size: int = 1
    batch_sampler = None  # Lightning asks for it next to `sampler`
    _epoch = 0

    @property
    def sampler(self) -> Any:
        """Lightning looks for `set_epoch` here, and for whether the order is fixed."""
        return SequentialSampler(range(len(self.indices))) if self.seed is None else self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def batches(self) -> tuple[Tensor, ...]:
        """Return the epoch's mini-batches as indices into `images`, on their device."""
        order = self.indices
        if self.seed is not None:
            generator = torch.Generator().manual_seed(random_seed(self.seed, self._epoch))
            order = order[torch.randperm(len(order), generator=generator)]
            padding = order[: sum(self.sizes) * self.world_size - len(order)]
            order = torch.cat((order, padding))[self.rank :: self.world_size]
        batches: tuple[Tensor, ...] = to_device_async(order, self.images.device).split(self.sizes)
        return batches

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches():
            yield self.images[batch], self.labels[batch]


def batch_sizes(count: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Divide `count` images into mini-batches; a last one below `smallest` joins the one before it.

    Raises:
        ValueError: There are fewer images than `smallest`.
    """
    if count < smallest:
        raise ValueError(f"Expected at least {smallest} images, but got {count}")
    sizes = [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
    if len(sizes) > 1 and sizes[-1] < smallest:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return sizes


class Split(NamedTuple):
    """Indices into the training file's images; val and train are disjoint."""

    train: Tensor
    val: Tensor


def balanced_order(labels: Tensor, split_seed: int) -> Tensor:
    """Return a permutation in which every stretch is class-balanced: classes are shuffled, then spread evenly."""
    generator = torch.Generator().manual_seed(random_seed(split_seed))
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        position[shuffled] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return position.argsort(stable=True)


def split_digits(labels: Tensor, val_size: int, fraction: float, split_seed: int) -> Split:
    """Split the training file, as a function of `split_seed` alone.

    Validation is the end of the balanced order, training the first part of the rest, so that subsets nest.

    Args:
        labels: (n,) of the training file.
        val_size: Number of validation images.
        fraction: How much of the remaining images to keep, in (0, 1].
        split_seed: The only seed of the split.

    Raises:
        UserError: Nothing would be left to train on.
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
    """Splits a data set and serves it in mini-batches `(images, labels)` that lie on the trainer's device.

    On the sample, a `val_size` that its 4,000 training images cannot spare becomes 500.

    Args:
        digits: The images and labels.
        batch_size: Images per optimiser step and process.
        val_size: Images held out for validation, class-balanced.
        subset: Fraction of the remaining training images to keep, in (0, 1].
        split_seed: The only seed of the split.
        seed: Seed of the order of mini-batches.
        smallest_batch: Fewest images in a mini-batch; a shorter last one joins the one before it.
    """

    def __init__(
        self,
        digits: Digits,
        *,
        batch_size: int = 64,
        val_size: int = 5000,
        subset: float = 1.0,
        split_seed: int = 0,
        seed: int = 0,
        smallest_batch: int = 1,
    ) -> None:
        super().__init__()
        self.digits = digits
        if digits.source == "sample" and val_size >= len(digits.train_labels):
            val_size = SAMPLE_VAL
        self.split = split_digits(digits.train_labels, val_size, subset, split_seed)
        self.batch_size, self._smallest_batch, self._seed = batch_size, smallest_batch, seed

    @classmethod
    def from_config(cls, config: Config, digits: Digits | None = None) -> "Self":
        """Build the data module of a configuration.

        Args:
            config: Its `data` options, `seed`, and `model.batch_norm`, which needs two images per mini-batch.
            digits: The data set; by default that of `data.source` and `data.root`.

        Raises:
            UserError: Nothing would be left to train on.
        """
        if digits is None:
            digits = load_digits(config.data.source.value, config.data.root)
        batch_norm = config.model.batch_norm and config.model.hidden_layers > 0
        data = cls(
            digits,
            batch_size=config.data.batch_size,
            val_size=config.data.val_size,
            subset=subset_fraction(config.data.subset),
            split_seed=config.data.split_seed,
            seed=config.seed,
            smallest_batch=2 if batch_norm else 1,  # a single image has no variance
        )
        if batch_norm and len(data.split.train) <= config.trainer.devices:
            raise UserError(
                f"model.batch_norm=true needs at least 2 images per mini-batch but there are {len(data.split.train)} "
                f"training images for trainer.devices={config.trainer.devices}: train on more, or without batch norm"
            )
        return data

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {split}" for split, count in self.counts().items())

    def counts(self) -> dict[str, int]:
        """Return the number of images in each split."""
        return {"train": len(self.split.train), "val": len(self.split.val), "test": len(self.digits.test_labels)}

    def train_dataloader(self) -> DigitLoader:
        digits, (rank, world_size), indices = self._on_device(), self._rank(), self.split.train
        trainer: Any = self.trainer
        if trainer is not None and trainer.overfit_batches > 0:  # the same batches in every epoch
            return self._in_file_order(digits.train_images, digits.train_labels, indices, self.batch_size)
        sizes = batch_sizes(-(-len(indices) // world_size), self.batch_size, self._smallest_batch)
        return DigitLoader(digits.train_images, digits.train_labels, indices, sizes, self._seed, rank, world_size)

    def val_dataloader(self) -> DigitLoader:
        digits = self._on_device()
        return self._in_file_order(digits.train_images, digits.train_labels, self.split.val, EVAL_BATCH)

    def test_dataloader(self) -> DigitLoader:
        digits = self._on_device()
        indices = torch.arange(len(digits.test_labels))
        return self._in_file_order(digits.test_images, digits.test_labels, indices, EVAL_BATCH)

    def predict_dataloader(self) -> DigitLoader:
        return self.test_dataloader()

    def _in_file_order(self, images: Tensor, labels: Tensor, indices: Tensor, batch_size: int) -> DigitLoader:
        """Of n processes each takes every n-th image."""
        rank, world_size = self._rank()
        share = indices[rank::world_size]
        return DigitLoader(images, labels, share, batch_sizes(len(share), batch_size, smallest=0))

    def _on_device(self) -> Digits:
        return self.digits.on(self.trainer.strategy.root_device) if self.trainer is not None else self.digits

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
