"""A plain multi-layer perceptron of any depth."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mnist_mlp.config import layer_sizes
from mnist_mlp.datasets import DIGITS

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class GaussianNoise(nn.Module):
    """Additive Gaussian noise of standard deviation `deviation` in training, the identity in evaluation."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, values: Tensor) -> Tensor:
        """Return values of any shape, with noise added in training."""
        return values + self.deviation * torch.randn_like(values) if self.training else values

    def extra_repr(self) -> str:
        """Return the text that `repr` shows in parentheses."""
        return f"deviation={self.deviation}"


class MLP(nn.Module):
    """Fully connected network from images to logits.

    Each hidden block is linear, batch norm, noise, activation, dropout; all but linear and activation are optional.
    Initialization is that of `nn.Linear`.

    Args:
        hidden_layers: 0 is the linear classifier 784-k for k classes, 1 is 784-h-k, 2 is 784-h-h-k.
        hidden_units: One width for all hidden layers, or one width per layer.
        activation: A key of `ACTIVATIONS`.
        dropout: Probability of zeroing a hidden activation.
        batch_norm: Whether hidden blocks have batch norm.
        noise: Standard deviation of Gaussian noise added in training to the inputs and to each hidden pre-activation.
        classes: Number of outputs.

    Raises:
        ValueError: `hidden_units` has neither one width nor one per hidden layer.
        KeyError: `activation` is unknown.
    """

    def __init__(
        self,
        hidden_layers: int,
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        noise: float = 0.0,
        classes: int = len(DIGITS),
    ) -> None:
        super().__init__()
        *hidden, output = pairwise(layer_sizes(hidden_layers, hidden_units, classes))
        layers: list[nn.Module] = [GaussianNoise(noise)] if noise else []
        for in_features, out_features in hidden:
            layers.append(nn.Linear(in_features, out_features))
            if batch_norm:
                layers.append(nn.BatchNorm1d(out_features))
            if noise:
                layers.append(GaussianNoise(noise))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(*output))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of float images (n, 28, 28) or (n, 784)."""
        logits: Tensor = self.layers(images.flatten(1))
        return logits
