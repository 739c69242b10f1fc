"""The LightningDataModule: splits the digits and serves them as blocks of mini-batches."""

from typing import Any

import pytorch_lightning as pl
import torch

from mnist_mlp.config import Config, subset_fraction
from mnist_mlp.data.loader import BatchBlock, BatchIndices, BlockLoader, EvalLoader, send
from mnist_mlp.data.mnist import Digits
from mnist_mlp.data.split import split_digits
from mnist_mlp.errors import UserError

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
