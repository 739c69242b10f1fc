"""Several optimiser steps per Lightning batch, eager, compiled or as a CUDA graph: `fit` as fast as a bare loop.

A private matter of `fit`: the steps are those of `DigitClassifier` under any trainer, with the same bits on a CPU.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.data.module import DigitData, DigitLoader, to_device_async
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.compile import CompiledStep
from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.step import Step, TrainingStep


class Chunk:
    """Several mini-batches, as a Lightning batch. No collection, so that Lightning does not look into it.

    images: (n, 28, 28) uint8, the whole data set; labels: (n,) int64; batches: index tensors, one per optimiser step.
    """

    def __init__(self, images: Tensor, labels: Tensor, batches: tuple[Tensor, ...]) -> None:
        self.images, self.labels, self.batches = images, labels, batches


class ChunkLoader:
    """Serves the mini-batches of a loader in chunks of `steps`."""

    def __init__(self, loader: DigitLoader, steps: int) -> None:
        self.loader, self._steps = loader, steps

    @property
    def sampler(self) -> DigitLoader:
        """Lightning looks for `set_epoch` here."""
        return self.loader

    def __len__(self) -> int:
        return -(-len(self.loader) // self._steps)

    def __iter__(self) -> Iterator[Chunk]:
        batches = self.loader.batches()
        for start in range(0, len(batches), self._steps):
            yield Chunk(self.loader.images, self.loader.labels, batches[start : start + self._steps])


class ChunkedData(DigitData):
    """`DigitData` that serves training in chunks of `steps_per_execution` mini-batches."""

    steps_per_execution = 1

    def train_dataloader(self) -> ChunkLoader:  # type: ignore[override]
        return ChunkLoader(super().train_dataloader(), self.steps_per_execution)


class FastClassifier(DigitClassifier):
    """`DigitClassifier` that makes its optimiser steps itself, a chunk of them per Lightning batch, on one device.

    Set `compile_step` to compile the step, and unset `cuda_graphs` to record none on a GPU, before training starts.
    """

    compile_step = False
    cuda_graphs = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        self._run_chunk: ChunkRunner | None = None
        self._compiled: CompiledStep | None = None

    def on_train_start(self) -> None:
        super().on_train_start()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        step = TrainingStep(self._objective, FunctionalOptimizer(optimizer), self._average)
        if self.compile_step:
            self._compiled, self.compile_seconds = CompiledStep(step), 0.0
        self._run_chunk = run_eagerly(self._compiled or step)
        if self.cuda_graphs and self.device.type == "cuda":
            moments = [value for state in optimizer.state.values() for value in state.values()]
            averages = self._average.state() if self._average else []
            changed = [*self.parameters(), *self.buffers(), *moments, *averages]
            self._run_chunk = CUDAGraphRunner(
                self._run_chunk, [value for value in changed if isinstance(value, Tensor)]
            )

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:  # type: ignore[override]
        assert self._run_chunk is not None
        first, count = self.global_step, len(chunk.batches)
        rates = torch.tensor([self.lr_at(step) for step in range(first, first + count)])
        losses, logits = self._run_chunk(chunk, to_device_async(rates, self.device))
        count_steps(self, count)
        self._set_schedule()
        if self._compiled is not None:
            self.compile_seconds = self._compiled.seconds
        labels = chunk.labels[torch.cat(chunk.batches)]
        self._log_training(losses, [len(batch) for batch in chunk.batches], logits, labels)

    def on_train_end(self) -> None:
        super().on_train_end()
        self._run_chunk = None

    def _count_steps(self, trainer: pl.Trainer) -> int:
        trainer.fit_loop.setup_data()  # the loader may not be there yet
        loader, epochs = trainer.train_dataloader, trainer.max_epochs
        assert isinstance(loader, ChunkLoader)
        assert epochs is not None
        return len(loader.loader) * epochs


def count_steps(module: DigitClassifier, count: int) -> None:
    """Let `trainer.global_step` and the loggers' step advance by steps that Lightning did not make itself."""
    epoch_loop = module.trainer.fit_loop.epoch_loop
    progress = epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += count
        tracker.completed += count
    epoch_loop._batches_that_stepped += count - 1  # Lightning adds one for the chunk


ChunkRunner = Callable[[Chunk, Tensor], tuple[Tensor, Tensor]]
"""A chunk of k mini-batches and its learning rates (k,) -> losses (k,) and logits (images in the chunk, 10)."""
Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
"""Records a function of tensors without running it: what it will return, and how to run it again."""


def run_eagerly(step: Step) -> ChunkRunner:
    """One step after the other."""

    def run(chunk: Chunk, rates: Tensor) -> tuple[Tensor, Tensor]:
        steps = zip(chunk.batches, rates.unbind(), strict=True)
        losses, logits = zip(*(step(chunk.images, chunk.labels, batch, lr) for batch, lr in steps), strict=True)
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

    def run(self, chunk: Chunk, rates: Tensor) -> tuple[Tensor, Tensor]:
        self.indices.copy_(torch.cat(chunk.batches))
        self.rates.copy_(rates)
        self.replay()
        return self.results


class CUDAGraphRunner:
    """Replays recorded chunks, so that a chunk is one launch. There is a recording per sequence of mini-batch sizes.

    The first chunk of its kind runs eagerly, on a side stream as PyTorch's notes on CUDA graphs ask; the second is
    recorded and checked, and from then on replayed. What changes from chunk to chunk, indices and learning rates, is
    copied into the recording's own tensors. The results are overwritten by the next chunk of the same kind.

    A recording that fails, or that does not do what the eager chunk does, ends in one line, and all goes on eagerly.
    state: every tensor that a chunk changes in place.
    """

    def __init__(self, eager: ChunkRunner, state: Sequence[Tensor], capture: Capture = cuda_graph) -> None:
        self._eager, self._state, self._capture = eager, state, capture
        self._recordings: dict[tuple[int, ...], _Recording | None] = {}
        self.fault = ""
        """Why chunks run eagerly after all; empty while they are replayed."""

    def __call__(self, chunk: Chunk, rates: Tensor) -> tuple[Tensor, Tensor]:
        if self.fault:
            return self._eager(chunk, rates)
        kind = (chunk.images.data_ptr(), *map(len, chunk.batches))
        if kind not in self._recordings:
            self._recordings[kind] = None
            return self._warm_up(chunk, rates)
        recording = self._recordings[kind]
        return recording.run(chunk, rates) if recording else self._record_and_check(kind, chunk, rates)

    def _warm_up(self, chunk: Chunk, rates: Tensor) -> tuple[Tensor, Tensor]:
        if chunk.images.device.type != "cuda":
            return self._eager(chunk, rates)
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            results = self._eager(chunk, rates)
        current.wait_stream(side)
        return results

    def _record_and_check(self, kind: tuple[int, ...], chunk: Chunk, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Record the chunk, replay it, undo that, and run it eagerly; the eager results count."""
        device = chunk.images.device
        before, random = self._copies(), _random_state(device)
        replayed: list[Tensor] = []
        try:
            recording = self._record(chunk, rates)
            replayed = [value.clone() for value in recording.run(chunk, rates)] + self._copies()
        except RuntimeError as error:
            self.fault = " ".join(str(error).split())
        self._restore(before)
        _set_random_state(device, random)
        results = self._eager(chunk, rates)
        if not self.fault:
            if _agree([*results, *self._state], replayed):
                self._recordings[kind] = recording
            else:
                self.fault = "the recorded chunk does not compute what the eager one does"
        if self.fault:
            print(f"CUDA graphs are off: {self.fault}", flush=True)
        return results

    def _record(self, chunk: Chunk, rates: Tensor) -> _Recording:
        indices, own_rates = torch.cat(chunk.batches), rates.clone()
        own = Chunk(chunk.images, chunk.labels, indices.split([len(batch) for batch in chunk.batches]))
        results, replay = self._capture(lambda: self._eager(own, own_rates))
        return _Recording(indices, own_rates, results, replay)

    def _copies(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._state]

    @torch.no_grad()
    def _restore(self, values: Sequence[Tensor]) -> None:
        for tensor, value in zip(self._state, values, strict=True):
            tensor.copy_(value)


def _agree(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Within the rounding of a chunk of steps; a loss that is not finite in both agrees."""
    pairs = zip(some, others, strict=True)
    return all(torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True) for one, other in pairs)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
