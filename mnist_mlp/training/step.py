"""One optimiser step as a function of tensors, whether it runs eagerly, compiled or as part of a CUDA graph."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.data.augment import augment
from mnist_mlp.training.average import WeightAverage
from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.virtual_adversarial import virtual_adversarial_loss

ONE_CYCLE_RISE = 0.3
"""The part of all steps in which one_cycle rises."""


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`, relative to `optim.lr`.

    Agrees with torch's CosineAnnealingLR, LinearLR (to 0) and OneCycleLR (its defaults, momentum not cycled).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total))
    if schedule == "linear":
        return 1 - step / total
    if schedule == "one_cycle":
        start, end, peak = 1 / 25, 1 / 25e4, ONE_CYCLE_RISE * total - 1
        low, part = (start, step / peak - 1) if step <= peak else (end, (step - peak) / (total - 1 - peak))
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part))
    return 1.0


Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`TrainingStep.__call__`: images, labels, batch, lr -> loss, logits."""
Gradients = Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]]
"""From a loss and the parameters to their gradients, in the same order."""


class Teacher(Protocol):
    """What gives targets to learn in place of the labels."""

    def __call__(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) as the model sees them -> probabilities: (n, 10), without gradients."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> "Teacher":
        """Itself, with its weights there."""
        ...


class TrainingStep:
    """Forward pass, loss, gradients and update. What changes from step to step is a tensor, never a Python number.

    model: from images (n, 28, 28) to logits (n, 10); augmentation: keyword arguments of `augment`, empty for none;
    average: of the model's weights, None for none; adversarial_radius: of `virtual_adversarial_loss`, 0 for none;
    teacher: of targets in place of the labels, None for these.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        optimizer: FunctionalOptimizer,
        augmentation: Mapping[str, float],
        label_smoothing: float = 0.0,
        gradients: Gradients = torch.autograd.grad,
        average: WeightAverage | None = None,
        adversarial_radius: float = 0.0,
        teacher: Teacher | None = None,
    ) -> None:
        self.model, self.optimizer, self.gradients, self.average = model, optimizer, gradients, average
        self.augmentation, self.label_smoothing = dict(augmentation), label_smoothing
        self.adversarial_radius, self.teacher = adversarial_radius, teacher

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss () and the logits (b, 10) of a mini-batch, both from before the update.

        images: (n, 28, 28) uint8 and labels: (n,) int64, the whole data set; batch: (b,) indices into it; lr: ().
        """
        inputs = images[batch]
        if self.augmentation:
            inputs = augment(inputs, **self.augmentation)
        logits = self.model(inputs)
        targets = labels[batch] if self.teacher is None else self.teacher(inputs)
        loss = cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        if self.adversarial_radius:
            loss = loss + virtual_adversarial_loss(self.model, inputs.float(), logits, self.adversarial_radius)
        self.optimizer(self.gradients(loss, self.optimizer.parameters), lr)
        if self.average is not None:
            self.average.update()
        return loss.detach(), logits.detach()

    def description(self) -> str:
        """The network, the update rule and every constant of this step, in words."""
        decay = self.average.decay if self.average is not None else None
        dtype = self.optimizer.parameters[0].dtype
        constants = (self.augmentation, self.label_smoothing, dtype, decay, self.adversarial_radius, self.teacher)
        return f"{self.model!r} {self.optimizer.description} {constants}"
