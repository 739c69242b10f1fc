"""The network: a plain multi-layer perceptron of any depth."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mnist_mlp.config import layer_sizes

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
    """Adds noise of this standard deviation in training, and nothing else."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, values: Tensor) -> Tensor:
        return values + self.deviation * torch.randn_like(values) if self.training else values

    def extra_repr(self) -> str:
        return f"deviation={self.deviation}"


class MLP(nn.Module):
    """Fully connected network from images to logits.

    hidden_layers=0 is the linear classifier 784-10, 1 is 784-h-10, 2 is 784-h-h-10. Each hidden layer is
    linear, batch norm (if asked for), noise (if any), activation, dropout (if any); noise comes before all, too.
    Weights start as PyTorch's `nn.Linear` draws them.
    """

    def __init__(
        self,
        hidden_layers: int,
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        *hidden, last = pairwise(layer_sizes(hidden_layers, hidden_units))
        layers: list[nn.Module] = [GaussianNoise(noise)] if noise else []
        for before, after in hidden:
            layers.append(nn.Linear(before, after))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            if noise:
                layers.append(GaussianNoise(noise))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(*last))

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) or (n, 784) float -> logits: (n, 10)."""
        logits: Tensor = self.layers(images.flatten(1))
        return logits
