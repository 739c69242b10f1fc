"""The bare loop: what a training needs and nothing else. Imports torch alone."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.data.loader import EVAL_BATCH
from mnist_mlp.models.mlp import MLP

LR, MOMENTUM = 0.005, 0.9
MEAN, DEVIATION = 0.1307, 0.3081


def inputs(images: Tensor) -> Tensor:
    """Images (n, 28, 28) uint8 as the standardised rows (n, 784) that the net is given."""
    return (images.flatten(1).float() / 255 - MEAN) / DEVIATION


def bare_epochs(
    model: MLP,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    batch_size: int,
    epochs: int,
    now: Callable[[], float] = time.perf_counter,
    step_done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[float, float]]:
    """Train by SGD; of each epoch the seconds of training, and with the validation accuracy too.

    train, val: inputs (n, 784) and labels (n,) on the model's device.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for _ in range(epochs):
        start = now()
        for batch in torch.randperm(len(train[0]), device=train[0].device).split(batch_size):
            loss = cross_entropy(model(train[0][batch]), train[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step_done()
        trained = now()
        with torch.no_grad():
            parts = zip(val[0].split(EVAL_BATCH), val[1].split(EVAL_BATCH), strict=True)
            sum((model(images).argmax(1) == labels).sum().item() for images, labels in parts)
        yield trained - start, now() - start
