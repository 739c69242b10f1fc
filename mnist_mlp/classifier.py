"""The LightningModule: input scaling, the step, blocks of steps, metrics, optimiser and schedule."""

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.augment import augment
from mnist_mlp.blocks import EVAL_BATCH, Block, BlockLoader, random_seed
from mnist_mlp.metrics import MeanLoss, evaluation_metrics, training_metrics
from mnist_mlp.mlp import MLP

NORMALIZATIONS = {"raw": (0.0, 1.0), "symmetric": (0.5, 0.5), "standard": (0.1307, 0.3081)}
"""Mean and standard deviation, of pixels in [0, 1]; those of `standard` are the training images' own."""


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`, relative to `optim.lr`.

    Agrees with torch's CosineAnnealingLR, LinearLR (to 0) and OneCycleLR (its defaults, momentum not cycled).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total))
    if schedule == "linear":
        return 1 - step / total
    if schedule == "one_cycle":
        start, end, peak = 1 / 25, 1 / 25e4, 0.3 * total - 1
        low, part = (start, step / peak - 1) if step <= peak else (end, (step - peak) / (total - 1 - peak))
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part))
    return 1.0


class DigitClassifier(pl.LightningModule):
    """An MLP and all that is needed to train it; loads from its checkpoint without further arguments.

    normalization: "raw", "symmetric" or "standard"; optimizer: "sgd", "adam" or "adamw"; augmentation: the keyword
    arguments of `augment`. A Lightning batch is a `Block`; each of its mini-batches is one optimiser step and counts as
    one `global_step`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        hidden_layers: int = 3,
        hidden_units: Sequence[int] = (256,),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        normalization: str = "standard",
        optimizer: str = "sgd",
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        label_smoothing: float = 0.0,
        augmentation: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        hidden_units = list(hidden_units)
        augmentation = dict(augmentation or {})
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.mlp = MLP(hidden_layers, hidden_units, activation, dropout, batch_norm)
        mean, deviation = NORMALIZATIONS[normalization]
        self.register_buffer("scale", torch.tensor(1 / (255 * deviation)))
        self.register_buffer("shift", torch.tensor(-mean / deviation))
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.train_metrics = training_metrics()
        self.val_metrics, self.test_metrics = evaluation_metrics(), evaluation_metrics(calibration=True)
        self._augments = any(strength for name, strength in augmentation.items() if name != "elastic_sigma")
        self._total_steps = 0
        self.results: dict[str, dict[str, Tensor]] = {}
        """Latest value of every metric of each split, on the CPU: by split and by name."""

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) uint8 -> logits: (n, 10)."""
        logits: Tensor = self.mlp(torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale))
        return logits

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) uint8 on any device -> probabilities: (n, 10) float32 on the CPU."""
        was_training = self.training
        self.eval()
        parts = [self(part.to(self.device)).float().softmax(1).cpu() for part in images.split(EVAL_BATCH)]
        self.train(was_training)
        return torch.cat(parts)

    def step(self, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
        """One optimiser step on a mini-batch: its mean loss, and the logits (n, 10) before the step."""
        if self._augments:
            images = augment(images, **self.hparams["augmentation"])
        logits = self(images)
        loss = cross_entropy(logits, labels, label_smoothing=self.hparams["label_smoothing"])
        optimizer.zero_grad()
        if self.trainer.world_size > 1:
            self.manual_backward(loss)  # lets DDP average the gradients
        else:
            loss.backward()
        optimizer.step()
        return loss.detach(), logits.detach()

    def training_step(self, block: Block) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        losses, logits = [], []
        for number, batch in enumerate(block.batches, start=self.global_step):
            self._set_lr(optimizer, number)
            loss, logit = self.step(block.images[batch], block.labels[batch], optimizer)
            losses.append(loss)
            logits.append(logit)
        self._count_steps(len(block.batches))
        self.train_loss.update(torch.stack(losses), self._sizes(block))
        self.train_metrics.update(torch.cat(logits), block.labels[torch.cat(block.batches)])
        if self.trainer.is_last_batch:  # not on_train_epoch_end, which comes after most callbacks
            self._log("train", self.train_loss, self.train_metrics)

    def validation_step(self, block: Block) -> None:
        self._evaluate(block, self.val_loss, self.val_metrics)

    def test_step(self, block: Block) -> None:
        self._evaluate(block, self.test_loss, self.test_metrics)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options = self.hparams
        rest: dict[str, Any] = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
        # fused: one kernel for all parameters, on CPU as on GPU
        if options["optimizer"] == "sgd":
            return torch.optim.SGD(self.parameters(), momentum=options["momentum"], fused=True, **rest)
        adam = torch.optim.Adam if options["optimizer"] == "adam" else torch.optim.AdamW
        return adam(self.parameters(), betas=(options["momentum"], 0.999), fused=True, **rest)

    def on_train_start(self) -> None:
        loader = self.trainer.train_dataloader
        assert isinstance(loader, BlockLoader)
        assert self.trainer.max_epochs is not None
        self._total_steps = loader.steps * self.trainer.max_epochs

    def on_train_epoch_start(self) -> None:
        # every draw of an epoch is a function of (seed, epoch): a resumed run equals an unbroken one
        torch.manual_seed(random_seed(self.hparams["seed"], self.current_epoch, self.global_rank))

    def on_validation_epoch_end(self) -> None:
        self._log("val", self.val_loss, self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._log("test", self.test_loss, self.test_metrics)

    def lr_at(self, step: int) -> float:
        """The learning rate of an optimiser step, from 0."""
        return float(self.hparams["lr"]) * schedule_factor(self.hparams["schedule"], step, self._total_steps)

    def _set_lr(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        lr = self.lr_at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr

    def _count_steps(self, steps: int) -> None:
        """Raw optimiser steps are invisible to Lightning, and its global_step drives checkpoints and logs."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for tracker in (progress.total, progress.current):
            tracker.ready += steps
            tracker.completed += steps

    def _evaluate(self, block: Block, loss: MeanLoss, metrics: Any) -> None:
        for batch in block.batches:
            labels, logits = block.labels[batch], self(block.images[batch]).float()
            loss.update(cross_entropy(logits, labels)[None], self._sizes(block))
            metrics.update(logits, labels)

    @staticmethod
    def _sizes(block: Block) -> Tensor:
        return torch.tensor([len(batch) for batch in block.batches], device=block.labels.device)

    def _log(self, split: str, loss: MeanLoss, metrics: Any) -> None:
        """Scalars go where checkpoints and early stopping look; the rest waits in `results`."""
        values = {"loss": loss.compute(), **metrics.compute()}
        loss.reset()
        metrics.reset()
        self.results[split] = {name: value.cpu() for name, value in values.items()}
        scalars = {f"{split}/{name}": value.float() for name, value in values.items() if value.ndim == 0}
        # torchmetrics has already added up the ranks; sync_dist only keeps Lightning from doubting it
        self.log_dict(scalars, logger=False, sync_dist=self.trainer.world_size > 1)
