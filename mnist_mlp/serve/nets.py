"""Trained nets: where they are, their checkpoints, their layers as plain arrays, and what is known of them."""

import copy
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
from mnist_mlp.config import layer_sizes
from mnist_mlp.data.augment import augment
from mnist_mlp.errors import UserError
from mnist_mlp.model import ACTIVATIONS, MLP, GaussianNoise
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.training.checkpoint import DamagedCheckpointError, read_checkpoint
from mnist_mlp.training.classifier import DigitClassifier

OUTPUTS = Path("outputs")
LATEST = "latest"
MAX_LISTED = 6


@dataclass(frozen=True)
class TrainedNet:
    """A checkpoint, and its run folder if that is known."""

    name: str
    checkpoint: Path
    folder: RunFolder | None

    @property
    def home(self) -> Path:
        """The folder for evaluations and exports: the run folder, else the checkpoint's folder."""
        return self.folder.path if self.folder else self.checkpoint.parent

    def config(self) -> JSON | None:
        """The resolved configuration of the run; None for a checkpoint alone."""
        run = self.folder.run() if self.folder else None
        return dict(run["config"]) if run else None

    def result(self) -> RunResult | None:
        """The run's own result; None for a checkpoint alone and for a run that did not finish."""
        return self.folder.result() if self.folder else None


def locate(run: str | Path, outputs: Path = OUTPUTS) -> TrainedNet:
    """Locate a net by run folder, checkpoint, name under `outputs`, or "latest".

    Raises:
        UserError: there is none, or more than one.
    """
    if str(run) == LATEST:
        finished = [path for path in outputs.glob("**/result.json") if RunFolder(path.parent).best_checkpoint.is_file()]
        if not finished:
            raise UserError(
                f"latest: no finished run under {outputs}/; train one, or name a run folder or a checkpoint"
            )
        run = max(finished, key=lambda path: path.stat().st_mtime).parent
    for path in (Path(run), *(outputs / subfolder / run for subfolder in ("", "train", "sweeps"))):
        if path.is_file():
            folder = RunFolder(path.resolve().parent.parent)
            if path.resolve().parent == folder.checkpoints and folder.run() is not None:
                return TrainedNet(_short_name(folder.path), path, folder)
            return TrainedNet(path.name, path, None)
        if path.is_dir():
            folder = RunFolder(path)
            if folder.best_checkpoint.is_file():
                return TrainedNet(_short_name(path), folder.best_checkpoint, folder)
            best = folder.best_checkpoint.relative_to(path)
            if any((path / mark).is_file() for mark in RunFolder.MARKER_FILES):
                raise UserError(f"{path} has no {best}: that run has not finished an epoch")
            count, names = _runs_in(path, "*/")
            if count:
                raise UserError(f"{path} holds {count} runs: name one of them {names}, or several for an ensemble")
            raise UserError(f"{path} is not a run folder: there is no {best} in it")
    count, names = _runs_in(outputs, "**/")
    known = f"; there is {names}" if count else ""
    raise UserError(f"no run {str(run)!r}: give a run folder, a checkpoint, a name under {outputs}/, or latest{known}")


def _runs_in(folder: Path, pattern: str) -> tuple[int, str]:
    """Their number, and the first of them in words."""
    runs = sorted({str(path.parent.parent) for path in folder.glob(f"{pattern}checkpoints/best.ckpt")})
    more = f" and {len(runs) - MAX_LISTED} more" if len(runs) > MAX_LISTED else ""
    return len(runs), f"{', '.join(runs[:MAX_LISTED])}{more}"


def _short_name(folder: Path) -> str:
    """The folder's name, with that of the sweep before it."""
    parts = folder.resolve().parts
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-3] == "sweeps" else parts[-1]


def load_classifier(checkpoint_path: str | Path) -> DigitClassifier:
    """Load the classifier of a checkpoint, on the CPU and in evaluation mode.

    Only tensors and primitives are unpickled (`weights_only=True`).

    Raises:
        UserError: the file cannot be read, is cut off, is of another project, contains code, contradicts itself, or
            holds a network that this package does not define.
    """
    path = Path(checkpoint_path)

    def refusal(why: object, finding: str = "is not a checkpoint of this package") -> UserError:
        line = (str(why).strip() or type(why).__name__).splitlines()[0][:160]
        return UserError(f"{path} {finding} ({line}): give one that mnist_mlp.train wrote")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on other formats; what counts is refused below
            checkpoint = read_checkpoint(path)
    except DamagedCheckpointError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):
            raise UserError(
                f"{path} is refused: it is not a checkpoint, or holds more than tensors and plain values, which could "
                "be code; nothing in it was run"
            ) from None
        raise refusal(error.__cause__ or error, "is broken or not a checkpoint") from None
    saved = checkpoint.get("hyper_parameters")
    options = saved.get("model") if isinstance(saved, Mapping) else None
    if not isinstance(options, Mapping) or not isinstance(checkpoint["state_dict"], Mapping):
        raise refusal("it has no hyper_parameters of a model")
    if network := options.get("network"):
        raise UserError(
            f"{path} holds a network of your own, {network}, which only Python can rebuild: "
            f"mnist_mlp.DigitClassifier.load_from_checkpoint({str(path)!r}, network=...)"
        )
    try:
        units = options["hidden_units"]
        sizes = layer_sizes(int(options["hidden_layers"]), [units] if isinstance(units, int) else list(map(int, units)))
        # a few bytes of hyper-parameters must not allocate gigabytes: the weights have to be there, too
        needed = sum(before * after for before, after in pairwise(sizes))
        stored = sum(value.numel() for value in checkpoint["state_dict"].values() if isinstance(value, Tensor))
        if min(sizes) < 1 or needed > stored:
            raise refusal(f"it describes a net of {needed:,} weights and holds {stored:,}")
        return DigitClassifier.from_checkpoint(checkpoint)
    except UserError as error:
        raise error if str(path) in str(error) else refusal(error) from None
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise refusal(error) from None


Matrix = NDArray[np.float64]


class Dense(NamedTuple):
    """weights: (units, inputs); biases: (units,)."""

    weights: Matrix
    biases: Matrix


@dataclass(frozen=True)
class DenseNet:
    """Linear layers with one activation between them. Inputs: pixels (0 to 255) * scale + shift, flattened by rows."""

    scale: float
    shift: float
    activation: str
    layers: tuple[Dense, ...]

    @property
    def sizes(self) -> list[int]:
        """From input to output."""
        return [self.layers[0].weights.shape[1], *(len(layer.biases) for layer in self.layers)]

    def on_unit_pixels(self) -> tuple[Dense, ...]:
        """The layers, with the input scaling worked into the first: for pixels in [0, 1]."""
        first, *others = self.layers
        shifted = first.biases + self.shift * first.weights.sum(1)
        return (Dense(first.weights * (255 * self.scale), shifted), *others)


def dense_net(model: DigitClassifier) -> DenseNet:
    """The net as it predicts: batch norm with its running statistics, no dropout.

    Raises:
        UserError: it has other layers.
    """
    if not isinstance(model.mlp, MLP):
        raise UserError(f"a {type(model.mlp).__name__} of your own cannot be exported: only plain MLPs can")
    layers: list[nn.Linear] = []
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    activation = "relu"
    for layer in copy.deepcopy(model.mlp).double().cpu().eval().layers:
        if isinstance(layer, nn.Linear):
            layers.append(layer)
        elif isinstance(layer, nn.BatchNorm1d):
            layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
        elif type(layer) in names:
            activation = names[type(layer)]
        elif not isinstance(layer, (nn.Dropout, GaussianNoise)):
            raise UserError(f"a net with a layer {type(layer).__name__} cannot be exported: only plain MLPs can")
    dense = (Dense(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers)
    return DenseNet(float(model.scale), float(model.shift), activation, tuple(dense))


INPUT = "uint8 (n, 28, 28): handwritten digits, 0 background to 255 ink, framed as MNIST's (mnist_mlp.prepare)"
OUTPUT = "float32 (n, 10): probabilities of the digits 0 to 9"


def model_card(net: TrainedNet, model: DigitClassifier, dense: DenseNet) -> dict[str, str]:
    """Facts by name, as texts. A checkpoint alone has fewer: accuracy and origin are in its run folder."""
    parameters = sum(weights.numel() for weights in model.parameters())
    sizes = "-".join(map(str, dense.sizes))
    facts = {
        "name": net.name,
        "net": f"MLP {sizes}, {dense.activation}, {parameters:,} parameters",
        "input": INPUT,
        "output": OUTPUT,
        "input scaling": f"{model.hparams['normalization']} (part of the net)",
    }
    result = net.result()
    if result is not None:
        test, data = result.metrics.get("test/accuracy"), result.data
        facts["test accuracy"] = f"{percent(test)} of {data['test']:,} images ({data['source']})"
        facts["trained on"] = (
            f"{data['train']:,} images ({data['source']}), {result.epochs} epochs, seed {result.config['seed']}"
        )
        facts["fingerprint"] = result.fingerprint
        facts["commit"] = str(result.environment.get("commit") or "unknown")
    return {**facts, "made by": f"mnist_mlp {__version__}"}


STRENGTH = 0.5
"""The fraction of the strengths in training by which views are distorted."""
VIEWS_MEANING = (
    "Mean of the log-probabilities of each image and of {} distorted views of it "
    f"({100 * STRENGTH:.0f} % of the strength in training):"
)
MAX_VIEWS = 1_000


def log_probabilities_of_views(model: DigitClassifier, images: Tensor, views: int, seed: int = 0) -> Tensor:
    """Test-time augmentation: the mean of the log-probabilities of each image and of distorted views of it.

    Each view is drawn by the net's own augmentation at STRENGTH of its strengths (multi-column averaging over distorted
    inputs: Ciresan, Meier and Schmidhuber 2012).

    Args:
        images: (n, 28, 28) uint8.
        views: how many views of each image, at most MAX_VIEWS.
        seed: the same seed draws the same views.

    Returns:
        (n, 10), not normalised.

    Raises:
        UserError: the net was trained without distortions. Their kind and strength would be an invention, and be
            chosen on test.
    """
    if not 1 <= views <= MAX_VIEWS:
        raise UserError(f"views={views} is out of range: allowed is 1 to {MAX_VIEWS:,}")
    trained = model.augmentation.strengths()
    if not trained:
        raise UserError(
            "views are distorted as a net's training images were, and this one was trained without augment.*: "
            "evaluate it without --augment"
        )
    weaker = {name: value * (1.0 if name == "elastic_sigma" else STRENGTH) for name, value in trained.items()}
    total = model.logits(images).log_softmax(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(views):
            total += model.logits(augment(images, **weaker)).log_softmax(1)
    return total / (views + 1)
