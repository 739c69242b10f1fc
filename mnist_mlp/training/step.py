"""The optimizer step, eager, compiled or captured: objective, update and learning rate schedule."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from mnist_mlp.config import OptimConfig
from mnist_mlp.data.augment import augment
from mnist_mlp.training.average import WeightAverage
from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.virtual_adversarial import virtual_adversarial_loss

ONE_CYCLE_RISE = 0.3
"""Fraction of all steps in which one_cycle increases the learning rate."""


def schedule_factor(options: OptimConfig, step: int, total: int, per_epoch: int) -> float:
    """Return the learning rate of optimizer step `step` (from 0) of `total`, relative to `optim.lr`.

    It matches torch's CosineAnnealingLR, LinearLR (to 0), OneCycleLR (defaults, without cycling momentum), StepLR and
    MultiStepLR, and is constant after the last step. The warm-up is a LinearLR, before the schedules that depend on
    `total` (SequentialLR) and at the same time as the others (ChainedScheduler). per_epoch: steps of an epoch.
    """
    schedule, warmup = options.schedule.value, round(options.warmup_epochs * per_epoch)
    rise = min((step + 1) / (warmup + 1), 1.0)
    if schedule == "step":
        return rise * options.gamma ** (step // per_epoch // options.step_size)
    if schedule == "multi_step":
        return rise * options.gamma ** bisect_right(options.milestones, step // per_epoch)
    step, total = max(step - warmup, 0), max(total - warmup, 1)
    if schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(step, total) / total))
    if schedule == "linear":
        return rise * (1 - min(step, total) / total)
    if schedule == "one_cycle":
        start, end, peak = 1 / 25, 1 / 25e4, ONE_CYCLE_RISE * total - 1
        low, progress = (start, step / peak - 1) if step <= peak else (end, (step - peak) / (total - 1 - peak))
        return rise * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(progress, 1))))
    return rise


class StepLambdaLR(LambdaLR):
    """A LambdaLR with float32 learning rates, the precision of those that compiled and captured steps take.

    Adam's kernels compute in float64, so a differently rounded learning rate would change the results.
    """

    best, bad_epochs = math.inf, 0
    """The lowest validation loss, and the number of epochs since; part of the state once they are set."""

    def lr_at(self, step: int) -> float:
        """Return the learning rate of an optimizer step, not rounded."""
        return float(self.base_lrs[0] * self.lr_lambdas[0](step))

    def get_lr(self) -> list[float | Tensor]:
        """Return the rounded learning rate of each parameter group."""
        schedules = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [float(np.float32(lr * factor(self.last_epoch))) for lr, factor in schedules]

    def move_to(self, step: int) -> None:
        """Set the learning rate of an optimizer step, as that many calls of `step` would."""
        self.last_epoch = step
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def reduce_on_plateau(self, loss: float, factor: float, patience: int) -> None:
        """Reduce the rate of later steps after an epoch's validation loss, as torch's ReduceLROnPlateau with eps=0."""
        is_better = loss < self.best * (1 - 1e-4)
        self.best, self.bad_epochs = (loss, 0) if is_better else (self.best, self.bad_epochs + 1)
        if self.bad_epochs > patience:
            self.base_lrs, self.bad_epochs = [lr * factor for lr in self.base_lrs], 0


class Teacher(Protocol):
    """The teacher of distillation: its predictions replace the labels as targets."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (n, classes), without gradients, of images (n, 28, 28) on the scale 0 to 255."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype, linear: torch.dtype | None = None) -> "Teacher":
        """Convert the weights as `nn.Module.to` does; `linear` is the dtype of linear layers, None for `dtype`."""
        ...


@dataclass(eq=False)
class Objective:
    """The loss of a mini-batch: augmentation, forward pass, cross-entropy, virtual adversarial loss.

    model: maps images (n, 28, 28) on the scale 0 to 255 to logits (n, classes). augmentation: keyword arguments of
    `augment`; empty for none. adversarial_radius: of `virtual_adversarial_loss`; 0 for none.
    """

    model: Callable[[Tensor], Tensor]
    augmentation: Mapping[str, float]
    label_smoothing: float = 0.0
    adversarial_radius: float = 0.0
    teacher: Teacher | None = None

    def prepare(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Distort the images and return them with their targets: labels (b,), or probabilities (b, classes)."""
        if self.augmentation:
            images = augment(images, **self.augmentation)
        return images, labels if self.teacher is None else self.teacher(images)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss () and the logits (b, classes) of images (b, 28, 28) and labels (b,)."""
        images, targets = self.prepare(images, labels)
        logits = self.model(images)
        loss = cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        if self.adversarial_radius:
            loss = loss + virtual_adversarial_loss(self.model, images.float(), logits, self.adversarial_radius)
        return loss, logits

    def gradients(self, images: Tensor, labels: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the mean loss (), the logits (b, classes) and the gradient of each parameter."""
        loss, logits = self(images, labels)
        return loss.detach(), logits.detach(), *torch.autograd.grad(loss, parameters)


Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`TrainingStep.__call__`: images, labels, batch, lr -> loss, logits."""


@dataclass(eq=False)
class TrainingStep:
    """Loss, gradients and update; every value that varies from step to step is a tensor, as graphs require."""

    objective: Objective
    optimizer: FunctionalOptimizer
    average: WeightAverage | None = None

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Make one step; return the mean loss () and the logits (b, classes) from before the update.

        images: (n, 28, 28) uint8, the whole training set; labels: (n,) int64; batch: (b,) indices; lr: () float32.
        """
        images, labels = images.index_select(0, batch), labels.index_select(0, batch)
        loss, logits, *gradients = self.objective.gradients(images, labels, self.optimizer.parameters)
        self.optimizer(gradients, lr)
        if self.average is not None:
            self.average.update()
        return loss, logits

    def description(self) -> str:
        """Describe the network, the update rule and the constants; equal texts imply equal compiled code."""
        objective, decay = self.objective, self.average.decay if self.average is not None else None
        constants = (
            objective.augmentation, objective.label_smoothing, self.optimizer.parameters[0].dtype, decay,
            objective.adversarial_radius, objective.teacher,
        )  # fmt: skip
        return f"{objective.model!r} {self.optimizer.description} {constants}"
