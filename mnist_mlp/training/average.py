"""The exponential moving average of a network's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

KEY = "average"
"""Checkpoint key of the trained weights and the number of updates; the averages are in `state_dict`."""


class SavedAverage(NamedTuple):
    """Averages by their names in the checkpoint, and the number of updates ()."""

    averages: Mapping[str, Tensor]
    updates: Tensor


class WeightAverage:
    """Exponential moving average of weights, with the bias correction of Kingma and Ba (2015, section 7.2).

    The bias correction removes the random initial weights. Batch norm's running mean and variance are averaged, too.
    All tensors are updated in place, as CUDA graphs require. prefix: of the names in a checkpoint.
    """

    def __init__(self, network: nn.Module, decay: float, prefix: str = "") -> None:
        self.decay, self._prefix = decay, prefix
        tensors = (*network.named_parameters(), *network.named_buffers())
        self._weights = {name: value for name, value in tensors if value.is_floating_point()}
        self._averages = {name: value.detach().clone() for name, value in self._weights.items()}
        self._is_swapped = False
        self._updates = torch.zeros((), device=next(iter(self._weights.values())).device)

    def update(self) -> None:
        """Update the averages with the current weights."""
        with torch.no_grad():
            self._updates += 1
            fraction = (1 - self.decay) / (1 - self.decay ** self._updates.double())
            for name, value in self._weights.items():
                self._averages[name].lerp_(value, fraction.to(value.dtype))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the network's weights by their averages inside the context; contexts can be nested."""
        if self._is_swapped:
            yield
            return
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and their averages."""
        for name, value in self._weights.items():
            copy = value.clone()
            value.copy_(self._averages[name])
            self._averages[name].copy_(copy)
        self._is_swapped = not self._is_swapped

    def state(self) -> list[Tensor]:
        """Return the tensors that `update` changes."""
        return [*self._averages.values(), self._updates]

    def shared_statistics(self) -> list[Tensor]:
        """Return the averages of buffers: batch norm's running mean and variance."""
        return [value for name, value in self._averages.items() if not isinstance(self._weights[name], nn.Parameter)]

    def save_to(self, checkpoint: dict[str, Any]) -> None:
        """Save the averages in a checkpoint's `state_dict`, and the trained weights under KEY."""
        weights, averages = self._weights, self._averages
        trained, averages = (averages, weights) if self._is_swapped else (weights, averages)
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._named(averages)}
        checkpoint[KEY] = {"trained": self._named(trained), "updates": self._updates}

    @torch.no_grad()
    def restore(self, saved: SavedAverage) -> None:
        """Restore the averages that `pop_from` returned."""
        for name, value in self._named(self._averages).items():
            value.copy_(saved.averages[name])
        self._updates.copy_(saved.updates)

    def _named(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {self._prefix + name: value.detach() for name, value in values.items()}


def pop_from(checkpoint: dict[str, Any]) -> SavedAverage | None:
    """Move a checkpoint's trained weights back to its `state_dict`; return its averages, or None."""
    if KEY not in checkpoint:
        return None
    saved = checkpoint[KEY]
    averages = {name: checkpoint["state_dict"][name] for name in saved["trained"]}
    checkpoint["state_dict"] = {**checkpoint["state_dict"], **saved["trained"]}
    return SavedAverage(averages, saved["updates"])
