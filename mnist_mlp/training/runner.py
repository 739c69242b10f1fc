"""How the steps of a block are run: one after the other, or recorded as a CUDA graph and replayed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mnist_mlp.data.loader import BatchBlock
from mnist_mlp.training.step import Step

BlockRunner = Callable[[BatchBlock, Tensor], tuple[Tensor, Tensor]]
"""A block of k steps and its learning rates (k,) -> losses (k,) and logits (images in the block, 10)."""
Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
"""Records a function of tensors without running it: what it will return, and how to run it again."""


def run_eager(step: Step) -> BlockRunner:
    """One step after the other."""

    def run(block: BatchBlock, rates: Tensor) -> tuple[Tensor, Tensor]:
        steps = zip(block.batches, rates.unbind(), strict=True)
        losses, logits = zip(*(step(block.images, block.labels, batch, lr) for batch, lr in steps), strict=True)
        return torch.stack(losses), torch.cat(logits)

    return run


def cuda_graph(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """`Capture` by a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


class _Recording(NamedTuple):
    indices: Tensor
    rates: Tensor
    results: tuple[Tensor, Tensor]
    replay: Callable[[], None]

    def run(self, block: BatchBlock, rates: Tensor) -> tuple[Tensor, Tensor]:
        self.indices.copy_(torch.cat(block.batches))
        self.rates.copy_(rates)
        self.replay()
        return self.results


class CUDAGraphRunner:
    """Replays recorded blocks, so that a block is one launch. There is a recording per sequence of mini-batch sizes.

    The first block of its kind runs eagerly, on a side stream as PyTorch's notes on CUDA graphs ask; the second is
    recorded and checked, and from then on replayed. What changes from block to block, indices and learning rates, is
    copied into the recording's own tensors. The results are overwritten by the next block of the same kind.

    A recording that fails, or that does not do what the eager block does, ends in one line, and all goes on eagerly.
    state: every tensor that a block changes in place.
    """

    def __init__(self, eager: BlockRunner, state: Sequence[Tensor], capture: Capture = cuda_graph) -> None:
        self._eager, self._state, self._capture = eager, state, capture
        self._recordings: dict[tuple[int, ...], _Recording | None] = {}
        self.fault = ""
        """Why blocks run eagerly after all; empty while they are replayed."""

    def __call__(self, block: BatchBlock, rates: Tensor) -> tuple[Tensor, Tensor]:
        if self.fault:
            return self._eager(block, rates)
        kind = (block.images.data_ptr(), *map(len, block.batches))
        if kind not in self._recordings:
            self._recordings[kind] = None
            return self._warm_up(block, rates)
        recording = self._recordings[kind]
        return recording.run(block, rates) if recording else self._record_and_check(kind, block, rates)

    def _warm_up(self, block: BatchBlock, rates: Tensor) -> tuple[Tensor, Tensor]:
        if block.images.device.type != "cuda":
            return self._eager(block, rates)
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            results = self._eager(block, rates)
        current.wait_stream(side)
        return results

    def _record_and_check(self, kind: tuple[int, ...], block: BatchBlock, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Record the block, replay it, undo that, and run it eagerly; the eager results count."""
        device = block.images.device
        before, random = self._copies(), _random_state(device)
        replayed: list[Tensor] = []
        try:
            recording = self._record(block, rates)
            replayed = [value.clone() for value in recording.run(block, rates)] + self._copies()
        except RuntimeError as error:
            self.fault = " ".join(str(error).split())
        self._restore(before)
        _set_random_state(device, random)
        results = self._eager(block, rates)
        if not self.fault:
            if _agree([*results, *self._state], replayed):
                self._recordings[kind] = recording
            else:
                self.fault = "the recorded block does not compute what the eager one does"
        if self.fault:
            print(f"CUDA graphs are off: {self.fault}", flush=True)
        return results

    def _record(self, block: BatchBlock, rates: Tensor) -> _Recording:
        indices, own_rates = torch.cat(block.batches), rates.clone()
        own = BatchBlock(block.images, block.labels, indices.split([len(batch) for batch in block.batches]))
        results, replay = self._capture(lambda: self._eager(own, own_rates))
        return _Recording(indices, own_rates, results, replay)

    def _copies(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._state]

    @torch.no_grad()
    def _restore(self, values: Sequence[Tensor]) -> None:
        for tensor, value in zip(self._state, values, strict=True):
            tensor.copy_(value)


def _agree(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Within the rounding of a block of steps; a loss that is not finite in both agrees."""
    pairs = zip(some, others, strict=True)
    return all(torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True) for one, other in pairs)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
