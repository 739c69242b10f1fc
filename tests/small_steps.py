"""Steps of small nets with every choice that a step knows, and what they do in a few epochs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mnist_mlp.blocks import Block
from mnist_mlp.classifier import DigitClassifier
from mnist_mlp.execution import Execute, in_turn
from mnist_mlp.step import TrainingStep
from mnist_mlp.update import Update

CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear classifier": {"hidden_layers": 0, "momentum": 0.0},
    "no momentum": {"momentum": 0.0, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.01, "activation": "tanh"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01, "activation": "gelu"},
    "dropout": {"dropout": 0.3},
    "batch norm": {"batch_norm": True, "label_smoothing": 0.1},
    "augmented": {"augmentation": {"rotation": 10.0, "scale": 0.1, "translate": 1.0, "elastic": 1.0}},
    "all": {
        "optimizer": "adamw",
        "activation": "silu",
        "dropout": 0.2,
        "batch_norm": True,
        "label_smoothing": 0.1,
        "augmentation": {"shear": 5.0, "elastic": 1.0},
    },
}
IMAGES = torch.randint(0, 256, (90, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(90) % 10


def classifier(device: str = "cpu", **settings: Any) -> tuple[DigitClassifier, TrainingStep, list[Tensor]]:
    """A small net in float64, where rounding can't hide a mistake, its step, and all that the step changes in place."""
    torch.manual_seed(0)
    model = DigitClassifier(**{"hidden_layers": 2, "hidden_units": [16, 8], "lr": 0.05, **settings})
    model.to(device, torch.float64)
    optimizer = model.configure_optimizers()
    step = TrainingStep(
        model, Update(optimizer), settings.get("augmentation", {}), settings.get("label_smoothing", 0.0)
    )
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return model, step, [*model.parameters(), *model.buffers(), *state]


def epochs(execute: Execute, count: int = 3, device: str = "cpu") -> tuple[list[Tensor], list[Tensor]]:
    """Losses and logits of epochs of 90 images: mini-batches of 20, the last of 10; blocks of 2; falling rates."""
    torch.manual_seed(7)
    losses, logits, rate = [], [], 0.05
    images, labels = IMAGES.to(device), LABELS.to(device)
    for epoch in range(count):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(epoch)).split(20)
        for start in range(0, 5, 2):
            batches = tuple(batch.to(device) for batch in order[start : start + 2])
            rates = torch.tensor([rate * 0.9**step for step in range(len(batches))]).to(device)
            rate *= 0.8
            loss, logit = execute(Block(images, labels, batches), rates)
            losses.append(loss.clone())
            logits.append(logit.clone())
    return losses, logits


def assert_equal_training(
    settings: dict[str, Any], other: Callable[[TrainingStep, list[Tensor]], Execute], device: str = "cpu"
) -> None:
    """That training by `other`, of a step and what it changes in place, equals training eagerly."""
    eager, step, _ = classifier(device, **settings)
    expected = epochs(in_turn(step), device=device)
    model, step, state = classifier(device, **settings)
    got = epochs(other(step, state), device=device)
    for theirs, ours in zip(expected, got, strict=True):
        torch.testing.assert_close(ours, theirs)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
