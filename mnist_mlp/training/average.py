"""The exponential moving average of a net's weights, kept beside the weights that are trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

KEY = "average"
"""In a checkpoint: the trained weights and the number of updates; its `state_dict` holds the averages."""


class SavedAverage(NamedTuple):
    """averages: by name in the checkpoint; updates: (), how many there were."""

    averages: Mapping[str, Tensor]
    updates: Tensor


class WeightAverage:
    """The mean of a net's weights over all updates, each counting `decay` times as much as the one after it.

    Polyak averaging, with the bias correction of Kingma and Ba (2015, section 7.2): the random initial weights are
    not in it. Batch norm's running mean and variance are averaged like weights. All is changed in place, so that a
    CUDA graph can hold it.
    """

    def __init__(self, net: nn.Module, decay: float, prefix: str = "") -> None:
        """prefix: names in a checkpoint begin with it."""
        self.decay, self._prefix = decay, prefix
        self._net = {name: value for name, value in _tensors(net) if value.is_floating_point()}
        self._kept = {name: value.detach().clone() for name, value in self._net.items()}
        self._swapped = False
        self._updates = torch.zeros((), device=next(iter(self._net.values())).device)

    def update(self) -> None:
        """Take up the net's present weights."""
        with torch.no_grad():
            self._updates += 1
            part = (1 - self.decay) / (1 - self.decay ** self._updates.double())
            for name, value in self._net.items():
                self._kept[name].lerp_(value, part.to(value.dtype))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The net has the averages as its weights, for as long as this lasts; also where it is nested."""
        if self._swapped:
            yield
            return
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the net's weights and those kept here."""
        for name, value in self._net.items():
            other = value.clone()
            value.copy_(self._kept[name])
            self._kept[name].copy_(other)
        self._swapped = not self._swapped

    def state(self) -> list[Tensor]:
        """Every tensor that an update changes."""
        return [*self._kept.values(), self._updates]

    def shared_statistics(self) -> list[Tensor]:
        """The averages of what is no parameter: batch norm's running mean and variance."""
        return [value for name, value in self._kept.items() if not isinstance(self._net[name], nn.Parameter)]

    def save_to(self, checkpoint: dict[str, Any]) -> None:
        """Make the averages a checkpoint's `state_dict`, and keep the trained weights under KEY."""
        trained, averages = (self._kept, self._net) if self._swapped else (self._net, self._kept)
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._named(averages)}
        checkpoint[KEY] = {"trained": self._named(trained), "updates": self._updates}

    @torch.no_grad()
    def restore(self, saved: SavedAverage) -> None:
        """Go on from what `pop_from` took from a checkpoint."""
        for name, value in self._named(self._kept).items():
            value.copy_(saved.averages[name])
        self._updates.copy_(saved.updates)

    def _named(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {self._prefix + name: value.detach() for name, value in values.items()}


def pop_from(checkpoint: dict[str, Any]) -> SavedAverage | None:
    """Put a checkpoint's trained weights back into its `state_dict`; its averages, None where it has none."""
    if KEY not in checkpoint:
        return None
    kept = checkpoint[KEY]
    averages = {name: checkpoint["state_dict"][name] for name in kept["trained"]}
    checkpoint["state_dict"] = {**checkpoint["state_dict"], **kept["trained"]}
    return SavedAverage(averages, kept["updates"])


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()
