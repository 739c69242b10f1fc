"""How the steps of a block are run: one after the other, or recorded as a CUDA graph and replayed."""

from collections.abc import Callable
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


class CUDAGraphRunner:
    """Replays recorded blocks, so that a block is one launch. There is a recording per sequence of mini-batch sizes.

    The first block of its kind runs eagerly, which lets libraries initialise; the second is recorded, and from then on
    replayed. What changes from block to block, indices and learning rates, is copied into the recording's own tensors.
    The results are overwritten by the next block of the same kind.
    """

    def __init__(self, eager: BlockRunner, capture: Capture = cuda_graph) -> None:
        self._eager, self._capture = eager, capture
        self._recordings: dict[tuple[int, ...], _Recording | None] = {}

    def __call__(self, block: BatchBlock, rates: Tensor) -> tuple[Tensor, Tensor]:
        kind = (block.images.data_ptr(), *map(len, block.batches))
        if kind not in self._recordings:
            self._recordings[kind] = None
            return self._eager(block, rates)
        recording = self._recordings[kind] or self._record(block, rates)
        self._recordings[kind] = recording
        recording.indices.copy_(torch.cat(block.batches))
        recording.rates.copy_(rates)
        recording.replay()
        return recording.results

    def _record(self, block: BatchBlock, rates: Tensor) -> _Recording:
        indices, own_rates = torch.cat(block.batches), rates.clone()
        own = BatchBlock(block.images, block.labels, indices.split([len(batch) for batch in block.batches]))
        results, replay = self._capture(lambda: self._eager(own, own_rates))
        return _Recording(indices, own_rates, results, replay)
