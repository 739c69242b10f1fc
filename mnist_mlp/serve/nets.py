"""Test-time augmentation: what a net says of an image and of distorted views of it, together."""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_mlp import __version__
from mnist_mlp.config import layer_sizes
from mnist_mlp.data.augment import augment
from mnist_mlp.errors import UserError
from mnist_mlp.model import ACTIVATIONS, GaussianNoise
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.training.classifier import DigitClassifier

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Dense:
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
    """The net as it predicts: batch norm with its running statistics, no dropout. UserError on other layers."""
    layers: list[Dense] = []
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    used = set()
    for layer in model.mlp.layers:
        if isinstance(layer, nn.Linear):
            layers.append(Dense(_array(layer.weight), _array(layer.bias)))
        elif isinstance(layer, nn.BatchNorm1d):
            layers[-1] = _normalized(layers[-1], layer)
        elif type(layer) in names:
            used.add(names[type(layer)])
        elif not isinstance(layer, (nn.Dropout, GaussianNoise)):
            raise UserError(f"a net with a layer {type(layer).__name__} cannot be exported: only plain MLPs can")
    activation = used.pop() if used else "relu"
    return DenseNet(float(model.scale), float(model.shift), activation, tuple(layers))


def _normalized(layer: Dense, norm: nn.BatchNorm1d) -> Dense:
    """A linear layer and the batch norm after it as one linear layer."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    shift = _array(norm.bias) - _array(norm.running_mean) * factor
    return Dense(layer.weights * factor[:, None], layer.biases * factor + shift)


def _array(values: Tensor) -> Matrix:
    return values.detach().double().cpu().numpy()


NEEDED = ("hyper_parameters", "state_dict")


def load_classifier(checkpoint_path: str | Path) -> DigitClassifier:
    """The classifier in a checkpoint, on the CPU and in evaluation mode.

    Only tensors and primitives are unpickled (`weights_only=True`). UserError where the file cannot be read, is cut
    off, is of another project, contains code, or contradicts itself.
    """
    path = Path(checkpoint_path)
    checkpoint = _read(path)
    missing = [
        key for key in NEEDED if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), Mapping)
    ]
    if missing:
        raise _refusal(path, f"it has no {' and no '.join(missing)}")
    _check_size(path, checkpoint)
    try:
        return DigitClassifier.load_from_checkpoint(path)
    except (UserError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refusal(path, _first_line(error)) from None


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on other formats; what counts is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is refused: it is no checkpoint, or holds more than tensors and plain values, which could be "
            "code; nothing in it was run"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a cut-off or forged archive makes torch's readers raise almost anything
        raise UserError(f"{path} is broken or no checkpoint ({_first_line(error)}): copy it again") from None


def _check_size(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """A few bytes of hyper-parameters must not make us allocate gigabytes: the weights have to be there, too."""
    options = checkpoint["hyper_parameters"].get("model")
    if not isinstance(options, Mapping):
        raise _refusal(path, "its hyper_parameters have no model")
    try:
        sizes = layer_sizes(int(options["hidden_layers"]), [int(units) for units in options["hidden_units"]])
    except (KeyError, TypeError, ValueError) as error:
        raise _refusal(path, f"its hyper_parameters describe no net: {_first_line(error)}") from None
    wanted = sum(before * after for before, after in pairwise(sizes))
    stored = sum(value.numel() for value in checkpoint["state_dict"].values() if isinstance(value, torch.Tensor))
    if min(sizes) < 1 or wanted > stored:
        raise _refusal(path, f"it describes a net of {wanted:,} weights and holds {stored:,}")


def _refusal(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no checkpoint of this package ({why}): give one that mnist_mlp.train wrote")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


OUTPUTS = Path("outputs")
LATEST = "latest"
LISTED = 6


@dataclass(frozen=True)
class TrainedNet:
    """A checkpoint, and the run folder that it is from where that is known."""

    name: str
    checkpoint: Path
    folder: RunFolder | None

    @property
    def home(self) -> Path:
        """Where what is made of it goes: the run folder, else the checkpoint's folder."""
        return self.folder.path if self.folder else self.checkpoint.parent

    def config(self) -> JSON | None:
        """The resolved configuration of the run; None for a checkpoint alone."""
        run = self.folder.run() if self.folder else None
        return dict(run["config"]) if run else None

    def result(self) -> RunResult | None:
        """The run's own result; None for a checkpoint alone and for a run that did not finish."""
        return self.folder.result() if self.folder else None


def locate(run: str | Path, outputs: Path = OUTPUTS) -> TrainedNet:
    """The net that `run` means. UserError where there is none, or more than one."""
    if str(run) == LATEST:
        return _latest(outputs)
    for place in (Path(run), *(outputs / part / run for part in ("", "train", "sweeps"))):
        if place.is_file():
            return _of_checkpoint(place)
        if place.is_dir():
            return _of_folder(place)
    raise UserError(
        f"no run {str(run)!r}: give a run folder, a checkpoint, a name under {outputs}/, or latest{_known(outputs)}"
    )


def _of_checkpoint(path: Path) -> TrainedNet:
    folder = RunFolder(path.resolve().parent.parent)
    if path.resolve().parent == folder.checkpoints and folder.run() is not None:
        return TrainedNet(_short(folder.path), path, folder)
    return TrainedNet(path.name, path, None)


def _of_folder(path: Path) -> TrainedNet:
    folder = RunFolder(path)
    if folder.best_checkpoint.is_file():
        return TrainedNet(_short(path), folder.best_checkpoint, folder)
    if any((path / mark).is_file() for mark in RunFolder.MARKER_FILES):
        raise UserError(f"{path} has no {folder.best_checkpoint.relative_to(path)}: that run has not finished an epoch")
    inside = sorted({found.parent.parent for found in path.glob("*/checkpoints/best.ckpt")})
    if inside:
        raise UserError(
            f"{path} holds {len(inside)} runs: name one of them{_listed(inside)}, or several for a committee"
        )
    raise UserError(f"{path} is no run folder: there is no checkpoints/best.ckpt in it")


def _latest(outputs: Path) -> TrainedNet:
    finished = [path for path in outputs.glob("**/result.json") if RunFolder(path.parent).best_checkpoint.is_file()]
    if not finished:
        raise UserError(f"latest: no finished run under {outputs}/; train one, or name a run folder or a checkpoint")
    return _of_folder(max(finished, key=lambda path: path.stat().st_mtime).parent)


def _known(outputs: Path) -> str:
    runs = sorted((found.parent.parent for found in outputs.glob("**/checkpoints/best.ckpt")), key=str)
    return f"; there is{_listed(runs)}" if runs else ""


def _listed(runs: list[Path]) -> str:
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    return f" {', '.join(map(str, runs[:LISTED]))}{more}"


def _short(folder: Path) -> str:
    """The folder's name, with that of the sweep before it."""
    parts = folder.resolve().parts
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-3] == "sweeps" else parts[-1]


INPUT = "uint8 (n, 28, 28): handwritten digits, 0 background to 255 ink, framed as MNIST's (mnist_mlp.prepare)"
OUTPUT = "float32 (n, 10): probabilities of the digits 0 to 9"


def model_card(net: TrainedNet, model: DigitClassifier, dense: DenseNet) -> dict[str, str]:
    """Facts by name, as texts. Of a checkpoint alone they are fewer: accuracy and origin are in its run folder."""
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
"""Views are distorted by so much of the strengths that the net was trained with."""
MOST_VIEWS = 1_000


def log_probabilities_of_views(model: DigitClassifier, images: Tensor, views: int, seed: int = 0) -> Tensor:
    """The mean (n, 10) of the log-probabilities of the images (n, 28, 28) uint8 and of `views` views of each.

    Each view is drawn by the net's own augmentation at STRENGTH of its strengths; the same seed draws the same views
    (multi-column averaging over distorted inputs: Ciresan, Meier and Schmidhuber 2012). UserError where the net was
    trained without distortions: their kind and strength would be an invention, and be chosen on test.
    """
    if not 1 <= views <= MOST_VIEWS:
        raise UserError(f"views={views} is out of range: allowed is 1 to {MOST_VIEWS:,}")
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
