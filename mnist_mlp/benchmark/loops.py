"""Ways to train the same network on the same images, timed epoch by epoch."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from mnist_mlp.config import (
    CLASSES,
    Accelerator,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    Source,
    TrainerConfig,
    layer_sizes,
)
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.module import EVAL_BATCH, DigitData
from mnist_mlp.model import MLP
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.training.fit import fit, quiet_lightning

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


class Epoch(NamedTuple):
    """Seconds of training, and with validation, logs and checkpoints too (None where there are none)."""

    train: float
    whole: float | None


@dataclass(frozen=True)
class Setup:
    """What all baselines train, in the terms of `mnist_mlp.train`; accelerator is "cpu" or "gpu"."""

    hidden_units: tuple[int, ...]
    batch_size: int
    accelerator: str
    threads: int
    root: str
    source: str
    val_size: int

    def config(self, epochs: int, compiled: bool) -> Config:
        """The same as settings of `mnist_mlp.train`; UserError where one is out of range."""
        return Config(
            data=DataConfig(
                root=self.root, source=Source(self.source), val_size=self.val_size, batch_size=self.batch_size
            ),
            model=ModelConfig(hidden_layers=len(self.hidden_units), hidden_units=list(self.hidden_units) or [1]),
            optim=OptimConfig(lr=LR, momentum=MOMENTUM),
            trainer=TrainerConfig(
                max_epochs=epochs,
                accelerator=Accelerator(self.accelerator),
                threads=self.threads,
                compile=compiled,
                progress=False,
            ),
        )

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")

    def net(self) -> MLP:
        """The network with fresh weights, on its device."""
        return MLP(len(self.hidden_units), self.hidden_units or (1,)).to(self.device)


class Images(NamedTuple):
    """Images (n, 28, 28) uint8 and labels (n,) int64 to train and to validate on, in memory."""

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor


def images_of(setup: Setup) -> Images:
    """The same images that `mnist_mlp.train` uses."""
    digits = load_digits(setup.source, setup.root)
    split = DigitData.from_config(setup.config(1, compiled=False), digits).split
    images, labels = digits.train_images, digits.train_labels
    return Images(images[split.train], labels[split.train], images[split.val], labels[split.val])


class Baseline:
    """One way to train. `first_step`: time.time() after its first optimiser step; 0 before."""

    first_step = 0.0

    def __init__(self, setup: Setup, images: Images) -> None:
        self.setup, self.images = setup, images

    def run(self, epochs: int) -> list[Epoch]:
        """Train a fresh net."""
        raise NotImplementedError

    def _step_done(self) -> None:
        self.first_step = self.first_step or time.time()

    def _now(self) -> float:
        if self.setup.accelerator == "gpu":
            torch.cuda.synchronize()
        return time.perf_counter()


class Bare(Baseline):
    """A plain PyTorch loop over float tensors in memory: no metric and no log except the validation accuracy."""

    def run(self, epochs: int) -> list[Epoch]:
        device, images = self.setup.device, self.images
        train = inputs(images.train).to(device), images.train_labels.to(device)
        val = inputs(images.val).to(device), images.val_labels.to(device)
        size = self.setup.batch_size
        return [
            Epoch(*seconds)
            for seconds in bare_epochs(self.setup.net(), train, val, size, epochs, self._now, self._step_done)
        ]


class Conventional(Baseline):
    """The usual Lightning example: torchvision transforms per image, DataLoader, a Lightning batch per step, a logger.

    It trains on a tenth of the images, without worker processes; the time of an epoch is ten times the measured one.
    """

    parts = 10

    def run(self, epochs: int) -> list[Epoch]:
        from torchvision.transforms import v2 as transforms  # deferred: seconds to import, for this one only

        to_tensor = [transforms.PILToTensor(), transforms.ToDtype(torch.float32, scale=True)]
        transform = transforms.Compose([*to_tensor, transforms.Normalize((MEAN,), (DEVIATION,))])
        images, size = self.images, self.setup.batch_size
        few = -(-len(images.train) // self.parts)
        train = DataLoader(_Pictures(images.train[:few], images.train_labels[:few], transform), size, shuffle=True)
        val = DataLoader(_Pictures(images.val, images.val_labels, transform), EVAL_BATCH)
        times = _EpochTimes(self)
        with tempfile.TemporaryDirectory() as folder, quiet_lightning():
            pl.Trainer(
                default_root_dir=folder,
                accelerator=self.setup.accelerator,
                devices=1,
                max_epochs=epochs,
                limit_val_batches=None if len(images.val) else 0,
                num_sanity_val_steps=0,
                log_every_n_steps=1,
                callbacks=[times],
                enable_progress_bar=False,
                enable_model_summary=False,
            ).fit(_Conventional(self.setup.net()), train, val)
        return [Epoch(train * self.parts, train * self.parts + rest) for train, rest in times.epochs]


class _Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision.datasets.MNIST serves them: a PIL image, transformed, and an int."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self._images: NDArray[np.uint8] = images.numpy()
        self._labels, self._transform = labels, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


class _Conventional(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.train_accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.val_accuracy = MulticlassAccuracy(CLASSES, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self.net(images)
        self.val_accuracy(logits, labels)
        self.log("val/loss", cross_entropy(logits, labels))
        self.log("val/accuracy", self.val_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)


class _EpochTimes(pl.Callback):
    def __init__(self, baseline: Baseline) -> None:
        self.epochs: list[tuple[float, float]] = []  # seconds of training, and of the rest
        self._contender, self._start, self._trained = baseline, 0.0, 0.0

    def on_train_epoch_start(self, *args: Any) -> None:
        self._start = self._contender._now()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._contender._step_done()
        if trainer.is_last_batch:
            self._trained = self._contender._now()

    def on_train_epoch_end(self, *args: Any) -> None:
        self.epochs.append((self._trained - self._start, self._contender._now() - self._trained))


class Ours(Baseline):
    """`mnist_mlp.train` with everything that it writes by default; compile_seconds: of the latest run."""

    compiled = False
    compile_seconds = 0.0

    def run(self, epochs: int) -> list[Epoch]:
        config = self.setup.config(epochs, self.compiled)
        with tempfile.TemporaryDirectory() as folder:
            result = fit(config, Path(folder), sweep_place="benchmark", callbacks=[_FirstStep(self)])
            curves = read_curves(RunFolder(Path(folder)).metrics_file)
        self.compile_seconds = result.timing["compile_seconds"]
        ends = [0.0, *curves["elapsed_seconds"]]
        wholes = [end - start for start, end in pairwise(ends)]
        return [Epoch(train, whole) for train, whole in zip(curves["epoch_seconds"], wholes, strict=True)]


class _FirstStep(pl.Callback):
    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline

    def on_train_batch_end(self, *args: Any) -> None:
        self._baseline._step_done()


class Compiled(Ours):
    """The same with `trainer.compile=true`."""

    compiled = True


class Floor(Baseline):
    """Only the matrix products of such an epoch, forward and backward, into preallocated memory."""

    def run(self, epochs: int) -> list[Epoch]:
        sizes, batch = layer_sizes(len(self.setup.hidden_units), self.setup.hidden_units), self.setup.batch_size
        device = self.setup.device
        weights = [torch.randn(after, before, device=device) for before, after in pairwise(sizes)]
        gradients = [torch.empty_like(matrix) for matrix in weights]
        values, errors = ([torch.randn(batch, size, device=device) for size in sizes] for _ in range(2))
        steps = -(-len(self.images.train) // batch)
        times = []
        for _ in range(epochs):
            start = self._now()
            for _ in range(steps):
                for layer, matrix in enumerate(weights):
                    torch.mm(values[layer], matrix.t(), out=values[layer + 1])
                for layer in reversed(range(len(weights))):
                    torch.mm(errors[layer + 1].t(), values[layer], out=gradients[layer])
                    if layer:  # no gradient with respect to the images is needed
                        torch.mm(errors[layer + 1], weights[layer], out=errors[layer])
            times.append(Epoch(self._now() - start, None))
        return times


BASELINES: dict[str, tuple[type[Baseline], str]] = {
    "bare": (Bare, "PyTorch loop over tensors in memory, nothing logged"),
    "conventional": (Conventional, "Lightning, torchvision transforms per image, DataLoader"),
    "ours": (Ours, "mnist_mlp.train, everything logged"),
    "compiled": (Compiled, "mnist_mlp.train trainer.compile=true, everything logged"),
    "floor": (Floor, "the matrix products alone"),
}
"""By name: the class and a description. Ratios are to the first."""
