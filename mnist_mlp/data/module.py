"""The LightningDataModule: splits, shuffling and mini-batches."""

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


def random_seed(*numbers: int) -> int:
    """Combine several numbers into a 64-bit seed with numpy's SeedSequence."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def to_device_async(values: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device without synchronizing with the device."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


EXPECTED = "expected (28, 28) or (n, 28, 28), with or without a channel, uint8 from 0 to 255 or floats in [0, 1]"


def as_pixels(images: NDArray[Any] | Tensor) -> Tensor:
    """Convert images to a batch (n, 28, 28), uint8 or float32, with values from 0 (background) to 255 (ink).

    Args:
        images: uint8 from 0 to 255 or floats in [0, 1], as from torchvision's ToTensor; (28, 28), (n, 28, 28),
            (n, 1, 28, 28) or (n, 28, 28, 1).

    Raises:
        UserError: Unsupported type or shape, floats outside [0, 1], or uint8 that contain only 0 and 1.
    """
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor):
        remedy = "use a torch tensor or a numpy array (torch.stack or numpy.stack converts a list)"
        raise UserError(f"images is a {type(images).__name__}: {remedy}")
    shape = tuple(images.shape)
    if shape[-1:] == (1,):
        images = images[..., 0]
    elif len(shape) == 4 and shape[1] == 1:
        images = images[:, 0]
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise UserError(f"images have shape {shape}: {EXPECTED}")
    if images.dtype == torch.uint8:
        if images.numel() and int(images.max()) == 1:
            raise UserError("images are uint8 with values 0 and 1 only: multiply by 255 if 1 means full ink")
        return images
    if not images.is_floating_point():
        raise UserError(f"images are {str(images.dtype).removeprefix('torch.')}: {EXPECTED}")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):  # also catches NaN
        low, high = images.min().item(), images.max().item()
        raise UserError(
            f"images are floats from {low:.4g} to {high:.4g}: expected values in [0, 1], not normalized; "
            "the classifier normalizes them"
        )
    return images.float() * 255


@dataclass(eq=False)
class DigitLoader:
    """An iterable of mini-batches, (b, 28, 28) uint8 and (b,) int64, indexed from tensors that stay on the device.

    Works like a `DataLoader`, with or without a Lightning trainer, which calls `set_epoch`.

    Args:
        images: (n, 28, 28) uint8 on the device.
        labels: (n,) int64 on the device.
        indices: (k,) int64 on the CPU, the images to use.
        sizes: Number of images in each mini-batch.
        seed: Seeds the shuffling; the order of an epoch depends only on the seed and the epoch. None: no shuffling.
        rank: Rank of this process, which takes every `world_size`-th of the shuffled images.
        world_size: Number of processes. The epoch's first images are repeated at its end if needed to give every
            process the same number of steps.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    sizes: list[int]
    seed: int | None = None
    rank: int = 0
    world_size: int = 1
    batch_sampler = None  # read by Lightning
    _epoch = 0

    @property
    def sampler(self) -> Any:
        """The object on which Lightning calls `set_epoch`; a SequentialSampler tells it that the order is fixed."""
        return SequentialSampler(range(len(self.indices))) if self.seed is None else self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, which determines the order."""
        self._epoch = epoch

    def batches(self) -> tuple[Tensor, ...]:
        """Return the epoch's mini-batches as indices into `images`, on the same device."""
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
            yield self.images.index_select(0, batch), self.labels.index_select(0, batch)


def batch_sizes(count: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Divide `count` images into mini-batches, merging a last one below `smallest` into the previous one.

    Raises:
        ValueError: `count` is below `smallest`.
    """
    if count < smallest:
        raise ValueError(f"Expected at least {smallest} images, but got {count}")
    sizes = [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
    if len(sizes) > 1 and sizes[-1] < smallest:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return sizes


class Split(NamedTuple):
    """Disjoint indices into the training images."""

    train: Tensor
    val: Tensor


def balanced_order(labels: Tensor, split_seed: int) -> Tensor:
    """Return a permutation of which every slice is stratified: each class is shuffled, then spread evenly."""
    generator = torch.Generator().manual_seed(random_seed(split_seed))
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        position[shuffled] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return position.argsort(stable=True)


def split_digits(labels: Tensor, val_size: int, fraction: float, split_seed: int) -> Split:
    """Split into `val_size` validation images and a `fraction`, in (0, 1], of the others for training.

    The validation images do not depend on the fraction, and smaller fractions are subsets of larger ones.

    Raises:
        UserError: No training images remain.
    """
    order = balanced_order(labels, split_seed)
    if val_size >= len(order):
        raise UserError(f"data.val_size={val_size} must be below the number of training images ({len(order)})")
    pool = order[: len(order) - val_size]
    keep = round(fraction * len(pool))
    if keep < 1:
        raise UserError(f"data.subset={fraction:g} keeps none of {len(pool)} training images: choose a larger fraction")
    return Split(train=pool[:keep], val=order[len(pool) :])


class DigitData(pl.LightningDataModule):
    """A LightningDataModule of MNIST with mini-batches (b, 28, 28) uint8 and (b,) int64 on the trainer's device.

    Args:
        digits: The images and labels.
        batch_size: Images per optimizer step and process.
        val_size: Training images held out for validation, stratified by class. On the sample, which has 4,000 training
            images, 4,000 or more become 500.
        subset: Fraction of the remaining training images to use, in (0, 1], stratified by class.
        split_seed: Seed of the split and the subset.
        seed: Seed of the shuffling.
        smallest_batch: Minimum images per mini-batch; a smaller last one is merged into the previous one.

    Raises:
        UserError: No training images remain.
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
            config: Uses `data`, `seed`, `trainer.devices`, and `model`: batch norm needs two images per mini-batch.
            digits: The dataset; by default loaded according to `data.source` and `data.root`.

        Returns:
            The data module.

        Raises:
            UserError: No training images remain, or too few for batch norm, or the dataset cannot be loaded.
        """
        if digits is None:
            digits = load_digits(config.data.source.value, config.data.root, config.data.name.value)
        batch_norm = config.model.batch_norm and config.model.hidden_layers > 0
        data = cls(
            digits,
            batch_size=config.data.batch_size,
            val_size=config.data.val_size,
            subset=subset_fraction(config.data.subset),
            split_seed=config.data.split_seed,
            seed=config.seed,
            smallest_batch=2 if batch_norm else 1,
        )
        if batch_norm and len(data.split.train) <= config.trainer.devices:
            raise UserError(
                f"model.batch_norm=true needs at least 2 images per mini-batch but there are {len(data.split.train)} "
                f"training images for trainer.devices={config.trainer.devices}: use more images or no batch norm"
            )
        return data

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {split}" for split, count in self.counts().items())

    def counts(self) -> dict[str, int]:
        """Count the images.

        Returns:
            Their number by split: "train", "val" and "test".
        """
        return {"train": len(self.split.train), "val": len(self.split.val), "test": len(self.digits.test_labels)}

    def train_dataloader(self) -> DigitLoader:
        """Return the training images, shuffled in every epoch; in a fixed order with Trainer(overfit_batches=...)."""
        digits, (rank, world_size), indices = self._on_device(), self._rank(), self.split.train
        trainer: Any = self.trainer
        if trainer is not None and trainer.overfit_batches > 0:
            return self._unshuffled(digits.train_images, digits.train_labels, indices, self.batch_size)
        sizes = batch_sizes(-(-len(indices) // world_size), self.batch_size, self._smallest_batch)
        return DigitLoader(digits.train_images, digits.train_labels, indices, sizes, self._seed, rank, world_size)

    def val_dataloader(self) -> DigitLoader:
        """Return the validation images in a fixed order."""
        digits = self._on_device()
        return self._unshuffled(digits.train_images, digits.train_labels, self.split.val, EVAL_BATCH)

    def test_dataloader(self) -> DigitLoader:
        """Return the test images in file order."""
        digits = self._on_device()
        indices = torch.arange(len(digits.test_labels))
        return self._unshuffled(digits.test_images, digits.test_labels, indices, EVAL_BATCH)

    def predict_dataloader(self) -> DigitLoader:
        """Return the test images, as `test_dataloader` does."""
        return self.test_dataloader()

    def _unshuffled(self, images: Tensor, labels: Tensor, indices: Tensor, batch_size: int) -> DigitLoader:
        rank, world_size = self._rank()
        shard = indices[rank::world_size]
        return DigitLoader(images, labels, shard, batch_sizes(len(shard), batch_size, smallest=0))

    def _on_device(self) -> Digits:
        return self.digits.on(self.trainer.strategy.root_device) if self.trainer is not None else self.digits

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
