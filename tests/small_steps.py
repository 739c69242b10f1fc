"""Training steps of small nets with every option of a step, and their losses and logits over a few epochs."""

from collections.abc import Callable
from typing import Any

import torch
from settings import config_with
from torch import Tensor

from mnist_mlp.training.average import WeightAverage
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fast import Chunk, ChunkRunner, run_eagerly
from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.step import Objective, TrainingStep
from mnist_mlp.training.teacher import Ensemble

CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear classifier": {"model.hidden_layers": 0, "optim.momentum": 0.0},
    "no momentum": {"optim.momentum": 0.0, "optim.weight_decay": 0.1},
    "adam": {"optim.name": "adam", "optim.weight_decay": 0.01, "model.activation": "tanh"},
    "adamw": {"optim.name": "adamw", "optim.weight_decay": 0.01, "model.activation": "gelu"},
    "nesterov": {"optim.nesterov": True, "optim.weight_decay": 0.01},
    "rmsprop, clipped": {
        "optim.name": "rmsprop",
        "optim.momentum": 0.5,
        "optim.weight_decay": 0.01,
        "optim.gradient_clip_val": 0.5,
    },
    "dropout": {"model.dropout": 0.3},
    "batch norm": {"model.batch_norm": True, "optim.label_smoothing": 0.1},
    "augmented": {"augment.rotation": 10.0, "augment.scale": 0.1, "augment.translate": 1.0, "augment.elastic": 1.0},
    "averaged": {"optim.ema": 0.8, "model.batch_norm": True, "model.noise": 0.3},
    "virtual adversarial": {"optim.vat": 1.5, "model.batch_norm": True, "model.activation": "gelu"},
    "distilled": {"optim.teacher": "two nets", "augment.rotation": 10.0, "optim.label_smoothing": 0.1},
    "all": {
        "optim.ema": 0.9,
        "optim.name": "adamw",
        "model.activation": "silu",
        "model.dropout": 0.2,
        "model.batch_norm": True,
        "optim.label_smoothing": 0.1,
        "augment.shear": 5.0,
        "augment.elastic": 1.0,
    },
}
IMAGES = torch.randint(0, 256, (90, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(90) % 10


def digit_classifier(**settings: Any) -> DigitClassifier:
    """A small untrained classifier with these settings by dotted key."""
    return DigitClassifier.from_config(
        config_with({"model.hidden_layers": 2, "model.hidden_units": [16], "optim.lr": 0.05, **settings})
    )


def teacher(device: str = "cpu", count: int = 2) -> Ensemble:
    """An ensemble of untrained float64 nets, smaller than the student and always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        nets = [digit_classifier(**{"model.hidden_units": [8], "model.batch_norm": True}) for _ in range(count)]
    return Ensemble(nets, "two nets").to(torch.device(device), torch.float64)


def classifier(
    device: str = "cpu", dtype: torch.dtype = torch.float64, **settings: Any
) -> tuple[DigitClassifier, TrainingStep, list[Tensor]]:
    """A small net, its step and all tensors that the step changes in place; in float64 rounding cannot hide errors."""
    torch.manual_seed(0)
    model = digit_classifier(**settings)
    model.to(device, dtype)
    optimizer = model.configure_optimizers()["optimizer"]
    options = config_with(settings)
    average = WeightAverage(model.mlp, options.optim.ema) if options.optim.ema else None
    objective = Objective(
        model,
        options.augment.strengths(),
        options.optim.label_smoothing,
        options.optim.vat,
        teacher(device).to(torch.device(device), dtype) if options.optim.teacher else None,
    )
    step = TrainingStep(objective, FunctionalOptimizer(optimizer, options.optim.gradient_clip_val), average)
    averages = average.state() if average else []
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return model, step, [*model.parameters(), *model.buffers(), *state, *averages]


def epochs(execute: ChunkRunner, count: int = 3, device: str = "cpu") -> tuple[list[Tensor], list[Tensor]]:
    """Losses and logits over epochs of 90 images: batches of 20 (the last 10), chunks of 2, decreasing lrs."""
    torch.manual_seed(7)
    losses, logits, lr = [], [], 0.05
    images, labels = IMAGES.to(device), LABELS.to(device)
    for epoch in range(count):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(epoch)).split(20)
        for start in range(0, 5, 2):
            batches = tuple(batch.to(device) for batch in order[start : start + 2])
            lrs = torch.tensor([lr * 0.9**step for step in range(len(batches))]).to(device)
            lr *= 0.8
            loss, logit = execute(Chunk(images, labels, batches), lrs)
            losses.append(loss.clone())
            logits.append(logit.clone())
    return losses, logits


def assert_equal_training(
    settings: dict[str, Any], make_runner: Callable[[TrainingStep, list[Tensor]], ChunkRunner], device: str = "cpu"
) -> None:
    """Assert that training by the runner for a step and its in-place state equals eager training."""
    eager, eager_step, _ = classifier(device, **settings)
    expected = epochs(run_eagerly(eager_step), device=device)
    model, step, state = classifier(device, **settings)
    actual = epochs(make_runner(step, state), device=device)
    for want, got in zip(expected, actual, strict=True):
        torch.testing.assert_close(got, want)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    for want, got in zip(average_of(eager_step), average_of(step), strict=True):
        torch.testing.assert_close(got, want)


def average_of(step: TrainingStep) -> list[Tensor]:
    """The averaged weights of a step and their update count, empty without averaging."""
    return step.average.state() if step.average else []
