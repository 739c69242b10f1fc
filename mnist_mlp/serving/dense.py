"""A net as plain arrays, for other programs to run: its layers, with batch norm worked into the weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_mlp.errors import UserError
from mnist_mlp.models.mlp import ACTIVATIONS, GaussianNoise
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
