"""Trained networks: locate and load them, extract their layers as arrays, and describe them."""

import copy
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from mnist_mlp import __version__
from mnist_mlp.compare.load import run_folders
from mnist_mlp.compare.locate import OUTPUTS, locate_path
from mnist_mlp.config import layer_sizes
from mnist_mlp.data.augment import augment
from mnist_mlp.datasets import DIGITS, class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.model import ACTIVATIONS, MLP, GaussianNoise
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.training.checkpoint import DamagedCheckpointError, read_checkpoint
from mnist_mlp.training.classifier import DigitClassifier


@dataclass(frozen=True)
class TrainedNet:
    """A checkpoint, and its run folder if known."""

    name: str
    checkpoint: Path
    folder: RunFolder | None

    @property
    def home(self) -> Path:
        """Folder for evaluations and exports: the run folder, else the checkpoint's folder."""
        return self.folder.path if self.folder else self.checkpoint.parent

    def config(self) -> JSON | None:
        """Read the run's resolved configuration; None without a run folder."""
        run = self.folder.run() if self.folder else None
        return dict(run["config"]) if run else None

    @property
    def dataset(self) -> str:
        """The run's `data.name`; "mnist" for runs of earlier versions, and without a run folder."""
        config = self.config()
        return str(config["data"].get("name", "mnist")) if config else "mnist"

    @property
    def summary(self) -> str:
        """The run folder or checkpoint, and the test accuracy that its run recorded for it."""
        is_tested = self.folder is not None and self.checkpoint == self.folder.best_checkpoint
        if not (is_tested and (result := self.result())):
            return f"{self.checkpoint}: test accuracy unknown"
        return f"{self.home}: test accuracy {percent(result.metric('test/accuracy'))} ({result.source})"

    def result(self) -> RunResult | None:
        """Read the run's result; None without a run folder, or if the run has not finished."""
        return self.folder.result() if self.folder else None


NetOrPath = str | Path | TrainedNet


def locate(run: NetOrPath, outputs: Path = OUTPUTS) -> TrainedNet:
    """Locate a network by run folder, checkpoint, name or "latest" (`locate_path`); UserError if none is unique."""
    if isinstance(run, TrainedNet):
        return run
    path = locate_path(run, outputs)
    if path.is_file():
        folder = RunFolder(path.resolve().parent.parent)
        if path.resolve().parent == folder.checkpoints and folder.run() is not None:
            return TrainedNet(_short_name(folder.path), path, folder)
        return TrainedNet(path.name, path, None)
    folder = RunFolder(path)
    if folder.best_checkpoint.is_file():
        return TrainedNet(_short_name(path), folder.best_checkpoint, folder)
    best = folder.best_checkpoint.relative_to(path)
    if any((path / mark).is_file() for mark in RunFolder.MARKER_FILES):
        raise UserError(f"{path} has no {best}: its run has not finished an epoch")
    runs = [run for run in run_folders(path) if RunFolder(run).best_checkpoint.is_file()]
    hint = f"use a run in it, such as {min(runs)}, or several for an ensemble" if runs else f"it has no {best}"
    raise UserError(f"{path} is not a run folder: {hint}")


def _short_name(folder: Path) -> str:
    """Return the folder's name; for a job of a sweep, SWEEP/JOB."""
    parts = folder.resolve().parts
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-3] == "sweeps" else parts[-1]


def load_classifier(checkpoint_path: str | Path) -> DigitClassifier:
    """Load the classifier from a checkpoint that may be untrusted, in evaluation mode on the CPU.

    Only tensors and primitives are unpickled (`weights_only=True`). A UserError says what is wrong with the file.
    """
    path = Path(checkpoint_path)

    def refusal(cause: object, problem: str = "is not an mnist_mlp checkpoint") -> UserError:
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0][:160]
        return UserError(f"{path} {problem} ({reason}): use one written by mnist_mlp.train")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about old formats, which are refused below
            checkpoint = read_checkpoint(path)
    except DamagedCheckpointError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):
            raise UserError(
                f"{path} was rejected: it is not a checkpoint, or contains objects other than tensors and plain "
                "values, which could be code; none of it was executed"
            ) from None
        raise refusal(error.__cause__ or error, "is damaged or not a checkpoint") from None
    saved = checkpoint.get("hyper_parameters") or {}
    options = saved.get("model") if isinstance(saved, Mapping) else None
    if not isinstance(options, Mapping) or not isinstance(checkpoint["state_dict"], Mapping):
        raise refusal("no model hyper-parameters")
    if network := options.get("network"):
        raise UserError(
            f"{path} contains a user-defined network, {network}: load it in Python, with "
            f"mnist_mlp.DigitClassifier.load_from_checkpoint({str(path)!r}, network=...)"
        )
    try:
        units = [units] if isinstance(units := options["hidden_units"], int) else list(map(int, units))
        sizes = layer_sizes(int(options["hidden_layers"]), units, len(saved.get("classes", DIGITS)))
        # forged hyper-parameters of a few bytes must not allocate gigabytes
        needed = sum(inputs * outputs for inputs, outputs in pairwise(sizes))
        stored = sum(value.numel() for value in checkpoint["state_dict"].values() if isinstance(value, Tensor))
        if min(sizes) < 1 or needed > stored:
            raise refusal(f"it describes {needed:,} weights but contains {stored:,}")
        return DigitClassifier.from_checkpoint(checkpoint)
    except UserError as error:
        raise error if str(path) in str(error) else refusal(error) from None
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise refusal(error) from None


Matrix = NDArray[np.float64]


class Dense(NamedTuple):
    """A linear layer: weights (units, inputs), biases (units,)."""

    weights: Matrix
    biases: Matrix


@dataclass(frozen=True)
class DenseNet:
    """Linear layers with an activation in between. Inputs are pixels (0 to 255) * scale + shift, flattened by rows."""

    scale: float
    shift: float
    activation: str
    layers: tuple[Dense, ...]

    @property
    def sizes(self) -> list[int]:
        """Layer sizes, from input to output."""
        return [self.layers[0].weights.shape[1], *(len(layer.biases) for layer in self.layers)]

    def on_unit_pixels(self) -> tuple[Dense, ...]:
        """Return layers for pixels in [0, 1], with the input scaling folded into the first."""
        first, *remaining = self.layers
        shifted = first.biases + self.shift * first.weights.sum(1)
        return (Dense(first.weights * (255 * self.scale), shifted), *remaining)


def dense_net(model: DigitClassifier) -> DenseNet:
    """Extract the layers in evaluation mode, with batch norm folded; UserError if it is not an MLP."""
    if not isinstance(model.mlp, MLP):
        raise UserError(f"the user-defined network {type(model.mlp).__name__} cannot be exported: only MLPs can")
    layers: list[nn.Linear] = []
    names = {activation_class: name for name, activation_class in ACTIVATIONS.items()}
    activation = "relu"
    for layer in copy.deepcopy(model.mlp).double().cpu().eval().layers:
        if isinstance(layer, nn.Linear):
            layers.append(layer)
        elif isinstance(layer, nn.BatchNorm1d):
            layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
        elif type(layer) in names:
            activation = names[type(layer)]
        elif not isinstance(layer, (nn.Dropout, GaussianNoise)):
            raise UserError(f"a network with a {type(layer).__name__} layer cannot be exported: only MLPs can")
    dense = (Dense(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers)
    return DenseNet(float(model.scale), float(model.shift), activation, tuple(dense))


def model_card(net: TrainedNet, model: DigitClassifier, dense: DenseNet) -> dict[str, str]:
    """Describe the network: texts by name. Accuracy and provenance need the run folder."""
    parameters = sum(weights.numel() for weights in model.parameters())
    sizes, names = "-".join(map(str, dense.sizes)), list(model.class_names)
    is_digits = class_noun(names) == "digit"
    ink = "handwritten digits, 0 background to 255 ink, preprocessed by mnist_mlp.prepare"
    metadata = {
        "name": net.name,
        "net": f"MLP {sizes}, {dense.activation}, {parameters:,} parameters",
        "input": f"uint8 (n, 28, 28): {ink if is_digits else '0 background to 255, like the training images'}",
        "output": f"float32 (n, {len(names)}): probabilities of the {'digits 0 to 9' if is_digits else 'classes'}",
        "input scaling": f"{model.hparams['normalization']} (part of the network)",
    }
    if not is_digits:
        metadata["classes"] = json.dumps(names, ensure_ascii=False)
    result = net.result()
    if result is not None:
        test, data = result.metrics.get("test/accuracy"), result.data
        metadata["test accuracy"] = f"{percent(test)} on {data['test']:,} images ({result.source})"
        metadata["trained on"] = (
            f"{data['train']:,} images ({result.source}), {result.epochs} epochs, seed {result.config['seed']}"
        )
        metadata["fingerprint"] = result.fingerprint
        metadata["commit"] = str(result.environment.get("commit") or "unknown")
    return {**metadata, "made by": f"mnist_mlp {__version__}"}


STRENGTH = 0.5
"""Strength of test-time augmentation, as a fraction of the strength in training."""
AUGMENTATION_CAPTION = (
    f"Test-time augmentation, mean log-probabilities of each image and {{}} augmented copies at {100 * STRENGTH:.0f} % "
    "of the strength in training:"
)
MAX_COPIES = 1_000


def augmented_log_probabilities(model: DigitClassifier, images: Tensor, copies: int, seed: int = 0) -> Tensor:
    """Test-time augmentation: average the log-probabilities of each image and of augmented copies of it.

    Copies are drawn by the augmentation of training at a fraction of its strength, STRENGTH (averaging over distorted
    inputs: Ciresan, Meier and Schmidhuber 2012).

    Args:
        model: A classifier that was trained with augmentation.
        images: (n, 28, 28) uint8.
        copies: Augmented copies per image, 1 to MAX_COPIES.
        seed: Seed of the copies.

    Returns:
        (n, 10) float32, not normalized.
    """
    if not 1 <= copies <= MAX_COPIES:
        raise UserError(f"augment={copies} is out of range: use 1 to {MAX_COPIES:,}")
    trained = model.augmentation.strengths()
    if not trained:  # any strength would be chosen on test images
        raise UserError("test-time augmentation needs a network trained with augment.*: evaluate without --augment")
    weaker = {name: value * (1.0 if name == "elastic_sigma" else STRENGTH) for name, value in trained.items()}
    total = model.logits(images).log_softmax(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(copies):
            total += model.logits(augment(images, **weaker)).log_softmax(1)
    return total / (copies + 1)
