"""Training loops for the same network and images, timed epoch by epoch.

Run as a program, this module is the bare loop, which must not import Lightning; the other loops import it when called.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.config import Config, layer_sizes
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.datasets import DIGITS
from mnist_mlp.model import MLP
from mnist_mlp.options import from_dict

MEAN, DEVIATION = 0.1307, 0.3081
VAL_BATCH = 2_000
CONVENTIONAL_FRACTION = 10
"""The conventional loop trains on one in this many images; its epoch times are extrapolated by this factor."""


class Epoch(NamedTuple):
    """Seconds of training, and including validation, logs and checkpoints (None without these)."""

    train: float
    total: float | None


class Images(NamedTuple):
    """Images (n, 28, 28) uint8 and labels (n,) int64 for training and validation."""

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor


def load_images(config: Config) -> Images:
    """Load as many training and validation images as `mnist_mlp.train` uses."""
    digits, count = load_digits(config.data.source, config.data.root), config.data.val_size
    images, labels = digits.train_images, digits.train_labels
    return Images(images[count:], labels[count:], images[:count], labels[:count])


def now() -> float:
    """Synchronize the device and read the clock, in seconds."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def bare(config: Config, images: Images) -> list[Epoch]:
    """Train with a plain PyTorch loop over float tensors in memory; validate, log nothing."""
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    train, val = (((x.flatten(1).float() / 255 - MEAN) / DEVIATION).to(device) for x in (images.train, images.val))
    train_labels, val_labels = images.train_labels.to(device), images.val_labels.to(device)
    model = MLP(**config.model.mlp_arguments()).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optim.lr, momentum=config.optim.momentum)
    epochs = []
    for _ in range(config.trainer.max_epochs):
        start = now()
        for batch in torch.randperm(len(train), device=device).split(config.data.batch_size):
            loss = cross_entropy(model(train[batch]), train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained = now()
        with torch.no_grad():
            batches = zip(val.split(VAL_BATCH), val_labels.split(VAL_BATCH), strict=True)
            sum((model(inputs).argmax(1) == labels).sum().item() for inputs, labels in batches)
        epochs.append(Epoch(trained - start, now() - start))
    return epochs


def conventional(config: Config, images: Images) -> list[Epoch]:
    """Train as in Lightning tutorials: torchvision transforms per image, DataLoader without workers, default logger."""
    import pytorch_lightning as pl
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision.datasets import MNIST
    from torchvision.transforms import v2 as transforms

    from mnist_mlp.training.fit import quiet_lightning

    class Pictures(MNIST):  # type: ignore[misc]
        def __init__(self, images: Tensor, labels: Tensor) -> None:  # without the files that MNIST reads
            self.data, self.targets, self.transform, self.target_transform = images, labels, transform, None

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = MLP(**config.model.mlp_arguments())
            self.train_accuracy = MulticlassAccuracy(len(DIGITS), average="micro")
            self.val_accuracy = MulticlassAccuracy(len(DIGITS), average="micro")

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            images, labels = batch
            logits = self.net(images)
            loss = cross_entropy(logits, labels)
            self.train_accuracy(logits, labels)
            self.log_dict({"train/loss": loss, "train/accuracy": self.train_accuracy}, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
            images, labels = batch
            logits = self.net(images)
            self.val_accuracy(logits, labels)
            self.log_dict({"val/loss": cross_entropy(logits, labels), "val/accuracy": self.val_accuracy})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=config.optim.lr, momentum=config.optim.momentum)

    class Times(pl.Callback):
        def __init__(self) -> None:
            self.epochs: list[Epoch] = []
            self._start = self._trained = 0.0

        def on_train_epoch_start(self, *args: Any) -> None:
            self._start = now()

        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.is_last_batch:
                self._trained = now()

        def on_train_epoch_end(self, *args: Any) -> None:
            train = (self._trained - self._start) * CONVENTIONAL_FRACTION
            self.epochs.append(Epoch(train, train + now() - self._trained))

    to_tensor = [transforms.PILToTensor(), transforms.ToDtype(torch.float32, scale=True)]
    transform = transforms.Compose([*to_tensor, transforms.Normalize((MEAN,), (DEVIATION,))])
    size = -(-len(images.train) // CONVENTIONAL_FRACTION)
    train, val = Pictures(images.train[:size], images.train_labels[:size]), Pictures(images.val, images.val_labels)
    loader, times = torch.utils.data.DataLoader, Times()
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        trainer = pl.Trainer(
            default_root_dir=folder,
            accelerator=str(config.trainer.accelerator),
            devices=1,
            max_epochs=config.trainer.max_epochs,
            limit_val_batches=None if len(images.val) else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            callbacks=[times],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), loader(train, config.data.batch_size, shuffle=True), loader(val, VAL_BATCH))
    return times.epochs


def full_training(config: Config, images: Images, compiled: bool = False) -> list[Epoch]:
    """Train as `mnist_mlp.train` does, with all files that it writes by default."""
    from mnist_mlp.runs.folder import RunFolder
    from mnist_mlp.runs.predictions import read_curves
    from mnist_mlp.training.fit import fit

    config = replace(config, trainer=replace(config.trainer, compile=compiled, progress=False))
    with tempfile.TemporaryDirectory() as folder:
        fit(config, Path(folder), job_label="benchmark")
        curves = read_curves(RunFolder(Path(folder)).metrics_file)
    totals = [end - start for start, end in pairwise([0.0, *curves["elapsed_seconds"]])]
    return [Epoch(train, total) for train, total in zip(curves["epoch_seconds"], totals, strict=True)]


def floor(config: Config, images: Images) -> list[Epoch]:
    """Compute only the matrix products of an epoch, forward and backward, into preallocated memory."""
    sizes, batch = layer_sizes(config.model.hidden_layers, config.model.hidden_units), config.data.batch_size
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    weights = [torch.randn(after, before, device=device) for before, after in pairwise(sizes)]
    gradients = [torch.empty_like(matrix) for matrix in weights]
    values, errors = ([torch.randn(batch, size, device=device) for size in sizes] for _ in range(2))
    epochs = []
    for _ in range(config.trainer.max_epochs):
        start = now()
        for _ in range(-(-len(images.train) // batch)):
            for layer, matrix in enumerate(weights):
                torch.mm(values[layer], matrix.t(), out=values[layer + 1])
            for layer in reversed(range(len(weights))):
                torch.mm(errors[layer + 1].t(), values[layer], out=gradients[layer])
                if layer:  # images need no gradient
                    torch.mm(errors[layer + 1], weights[layer], out=errors[layer])
        epochs.append(Epoch(now() - start, None))
    return epochs


LOOPS: dict[str, tuple[Callable[[Config, Images], list[Epoch]], str]] = {
    "bare": (bare, "PyTorch loop over tensors in memory, nothing logged"),
    "conventional": (conventional, "Lightning, torchvision transforms per image, DataLoader"),
    "ours": (full_training, "mnist_mlp.train, everything logged"),
    "compiled": (partial(full_training, compiled=True), "mnist_mlp.train trainer.compile=true, everything logged"),
    "floor": (floor, "matrix products only"),
}
"""Loop, which trains a new net, and description, by name. The first is the reference of ratios."""


def main() -> None:
    """Run the bare loop. Argument: a configuration as JSON; trainer.threads=0 keeps torch's default."""
    config = from_dict(Config, json.loads(sys.argv[1]))
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    bare(config, load_images(config))


if __name__ == "__main__":
    main()
