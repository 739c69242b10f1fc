"""Ways to train the same network on the same images, timed epoch by epoch.

Run as a program, this module is the bare loop, which imports torch and nothing that it does not need; so the other ways
import Lightning and mnist_mlp's training when they are called.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

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
from mnist_mlp.model import MLP

LR, MOMENTUM = 0.005, 0.9
MEAN, DEVIATION = 0.1307, 0.3081
VAL_BATCH = 2_000


class Epoch(NamedTuple):
    """Seconds of training, and with validation, logs and checkpoints too (None if there are none)."""

    train: float
    whole: float | None


@dataclass(frozen=True)
class Setup:
    """What all ways train, in the terms of `mnist_mlp.train`; accelerator is "cpu" or "gpu"."""

    hidden_units: tuple[int, ...]
    batch_size: int
    accelerator: str
    threads: int
    root: str
    source: str
    val_size: int

    def config(self, epochs: int, compiled: bool) -> Config:
        """The same as settings of `mnist_mlp.train`; UserError if one is out of range."""
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
    from mnist_mlp.data.module import DigitData

    digits = load_digits(setup.source, setup.root)
    split = DigitData.from_config(setup.config(1, compiled=False), digits).split
    images, labels = digits.train_images, digits.train_labels
    return Images(images[split.train], labels[split.train], images[split.val], labels[split.val])


@dataclass
class Watch:
    """The clock of a way to train, and what else it measures."""

    accelerator: str
    first_step: float = 0.0
    """time.time() after the first optimiser step; 0 before."""
    compile_seconds: float = 0.0
    """Of the latest run."""

    def now(self) -> float:
        """Seconds, when the device has finished its work."""
        if self.accelerator == "gpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step_done(self) -> None:
        """To be called after each optimiser step, or Lightning batch."""
        self.first_step = self.first_step or time.time()


def inputs(images: Tensor) -> Tensor:
    """Images (n, 28, 28) uint8 as the standardised rows (n, 784) that the net takes."""
    return (images.flatten(1).float() / 255 - MEAN) / DEVIATION


def bare_epochs(
    model: MLP, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], batch_size: int, epochs: int, watch: Watch
) -> Iterator[Epoch]:
    """Train by SGD, logging nothing but the validation accuracy.

    train, val: inputs (n, 784) and labels (n,) on the model's device.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for _ in range(epochs):
        start = watch.now()
        for batch in torch.randperm(len(train[0]), device=train[0].device).split(batch_size):
            loss = cross_entropy(model(train[0][batch]), train[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step_done()
        trained = watch.now()
        with torch.no_grad():
            batches = zip(val[0].split(VAL_BATCH), val[1].split(VAL_BATCH), strict=True)
            sum((model(images).argmax(1) == labels).sum().item() for images, labels in batches)
        yield Epoch(trained - start, watch.now() - start)


def bare(setup: Setup, images: Images, epochs: int, watch: Watch) -> list[Epoch]:
    """A plain PyTorch loop over float tensors in memory."""
    device = setup.device
    train = inputs(images.train).to(device), images.train_labels.to(device)
    val = inputs(images.val).to(device), images.val_labels.to(device)
    return list(bare_epochs(setup.net(), train, val, setup.batch_size, epochs, watch))


def main() -> None:
    """Train one net by the bare loop.

    Arguments: widths of the hidden layers (256-128-64, or 0), batch size, epochs, then as data.root, data.source,
    data.val_size, and threads (0: as many as torch takes).
    """
    widths, batch_size, epochs, root, source, val_size, threads = sys.argv[1:]
    if int(threads):
        torch.set_num_threads(int(threads))
    digits, held_out = load_digits(source, root), int(val_size)
    images, labels = inputs(digits.train_images), digits.train_labels
    units = [] if widths == "0" else list(map(int, widths.split("-")))
    train, val = (images[held_out:], labels[held_out:]), (images[:held_out], labels[:held_out])
    list(bare_epochs(MLP(len(units), units or [1]), train, val, int(batch_size), int(epochs), Watch("cpu")))


CONVENTIONAL_FRACTION = 10
"""The usual example trains on one in so many images; the time of an epoch is so many times the measured one."""


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """As torchvision.datasets.MNIST serves them: a PIL image, transformed, and an int."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self._images, self._labels, self._transform = images.numpy(), labels, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def conventional(setup: Setup, images: Images, epochs: int, watch: Watch) -> list[Epoch]:
    """The usual Lightning example: torchvision transforms per image, DataLoader, a Lightning batch per step, a logger.

    No worker processes.
    """
    import pytorch_lightning as pl
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision.transforms import v2 as transforms

    from mnist_mlp.training.fit import quiet_lightning

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = setup.net()
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

    class Times(pl.Callback):
        def __init__(self) -> None:
            self.epochs: list[Epoch] = []
            self._start = self._trained = 0.0

        def on_train_epoch_start(self, *args: Any) -> None:
            self._start = watch.now()

        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            watch.step_done()
            if trainer.is_last_batch:
                self._trained = watch.now()

        def on_train_epoch_end(self, *args: Any) -> None:
            train = (self._trained - self._start) * CONVENTIONAL_FRACTION
            self.epochs.append(Epoch(train, train + watch.now() - self._trained))

    to_tensor = [transforms.PILToTensor(), transforms.ToDtype(torch.float32, scale=True)]
    transform = transforms.Compose([*to_tensor, transforms.Normalize((MEAN,), (DEVIATION,))])
    few = -(-len(images.train) // CONVENTIONAL_FRACTION)
    train = Pictures(images.train[:few], images.train_labels[:few], transform)
    val = Pictures(images.val, images.val_labels, transform)
    times = Times()
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        trainer = pl.Trainer(
            default_root_dir=folder,
            accelerator=setup.accelerator,
            devices=1,
            max_epochs=epochs,
            limit_val_batches=None if len(images.val) else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            callbacks=[times],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = torch.utils.data.DataLoader
        trainer.fit(Module(), loader(train, setup.batch_size, shuffle=True), loader(val, VAL_BATCH))
    return times.epochs


def ours(setup: Setup, images: Images, epochs: int, watch: Watch, compiled: bool = False) -> list[Epoch]:
    """`mnist_mlp.train` with everything that it writes by default."""
    import pytorch_lightning as pl

    from mnist_mlp.runs.folder import RunFolder
    from mnist_mlp.runs.predictions import read_curves
    from mnist_mlp.training.fit import fit

    class FirstStep(pl.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            watch.step_done()

    with tempfile.TemporaryDirectory() as folder:
        result = fit(setup.config(epochs, compiled), Path(folder), sweep_place="benchmark", callbacks=[FirstStep()])
        curves = read_curves(RunFolder(Path(folder)).metrics_file)
    watch.compile_seconds = result.timing["compile_seconds"]
    wholes = [end - start for start, end in pairwise([0.0, *curves["elapsed_seconds"]])]
    return [Epoch(train, whole) for train, whole in zip(curves["epoch_seconds"], wholes, strict=True)]


def compiled(setup: Setup, images: Images, epochs: int, watch: Watch) -> list[Epoch]:
    """The same with `trainer.compile=true`."""
    return ours(setup, images, epochs, watch, compiled=True)


def floor(setup: Setup, images: Images, epochs: int, watch: Watch) -> list[Epoch]:
    """Only the matrix products of such an epoch, forward and backward, into preallocated memory."""
    sizes, batch = layer_sizes(len(setup.hidden_units), setup.hidden_units), setup.batch_size
    device = setup.device
    weights = [torch.randn(after, before, device=device) for before, after in pairwise(sizes)]
    gradients = [torch.empty_like(matrix) for matrix in weights]
    values, errors = ([torch.randn(batch, size, device=device) for size in sizes] for _ in range(2))
    times = []
    for _ in range(epochs):
        start = watch.now()
        for _ in range(-(-len(images.train) // batch)):
            for layer, matrix in enumerate(weights):
                torch.mm(values[layer], matrix.t(), out=values[layer + 1])
            for layer in reversed(range(len(weights))):
                torch.mm(errors[layer + 1].t(), values[layer], out=gradients[layer])
                if layer:  # no gradient with respect to the images is needed
                    torch.mm(errors[layer + 1], weights[layer], out=errors[layer])
        times.append(Epoch(watch.now() - start, None))
    return times


Loop = Callable[[Setup, Images, int, Watch], list[Epoch]]
LOOPS: dict[str, tuple[Loop, str]] = {
    "bare": (bare, "PyTorch loop over tensors in memory, nothing logged"),
    "conventional": (conventional, "Lightning, torchvision transforms per image, DataLoader"),
    "ours": (ours, "mnist_mlp.train, everything logged"),
    "compiled": (compiled, "mnist_mlp.train trainer.compile=true, everything logged"),
    "floor": (floor, "the matrix products alone"),
}
"""By name: the loop, which trains a fresh net for so many epochs, and a description. Ratios are to the first."""


if __name__ == "__main__":
    main()
