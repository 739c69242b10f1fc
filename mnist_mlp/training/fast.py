"""Several optimizer steps per Lightning batch, eager, compiled or as a CUDA graph: `fit` as fast as a plain loop.

Internal to `fit`. On a CPU the results are bitwise those of `DigitClassifier` in any trainer.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from mnist_mlp.data.module import DigitData, DigitLoader, to_device_async
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.compile import CompiledStep
from mnist_mlp.training.explicit import explicit_objective
from mnist_mlp.training.native import NativeObjective, NativeStep, native_objective
from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.step import Objective, Step, TrainingStep


class Chunk:
    """Several mini-batches as one Lightning batch; not a collection, or Lightning would traverse it.

    images: (n, 28, 28) uint8, the whole training set; labels: (n,) int64; batches: an index tensor per optimizer step.
    """

    def __init__(self, images: Tensor, labels: Tensor, batches: tuple[Tensor, ...]) -> None:
        self.images, self.labels, self.batches = images, labels, batches


class ChunkLoader:
    """A loader's mini-batches in chunks of `steps`."""

    def __init__(self, loader: DigitLoader, steps: int) -> None:
        self.loader, self._steps = loader, steps

    @property
    def sampler(self) -> DigitLoader:
        """Return the object on which Lightning calls `set_epoch`."""
        return self.loader

    def __len__(self) -> int:
        return -(-len(self.loader) // self._steps)

    def __iter__(self) -> Iterator[Chunk]:
        batches = self.loader.batches()
        for start in range(0, len(batches), self._steps):
            yield Chunk(self.loader.images, self.loader.labels, batches[start : start + self._steps])


class ChunkedData(DigitData):
    """`DigitData` with training data in chunks of `steps_per_execution` mini-batches."""

    steps_per_execution = 1

    def train_dataloader(self) -> ChunkLoader:  # type: ignore[override]
        """Return the chunks of an epoch."""
        return ChunkLoader(super().train_dataloader(), self.steps_per_execution)


class FastClassifier(DigitClassifier):
    """`DigitClassifier` with manual optimization, a chunk of steps per Lightning batch, on one device.

    Before training starts, set `compile_step` to compile the step and unset `cuda_graphs` to avoid CUDA graphs.
    """

    compile_step = False
    cuda_graphs = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        self._run_chunk: ChunkRunner | None = None
        self._compiled: CompiledStep | NativeStep | None = None
        self._step: TrainingStep | None = None

    def on_train_start(self) -> None:
        """Choose how chunks run: eagerly, compiled or as CUDA graphs."""
        super().on_train_start()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        update = FunctionalOptimizer(optimizer, self._optim.gradient_clip_val)
        step = self._step = TrainingStep(self._objective, update, self._average)
        if self.compile_step:
            is_native = isinstance(self._fastest_objective(), NativeObjective)
            self._compiled, self.compile_seconds = (NativeStep if is_native else CompiledStep)(step), 0.0
        self._run_chunk = run_eagerly(self._compiled or step)
        if self.cuda_graphs and self.device.type == "cuda":
            moments = [value for state in optimizer.state.values() for value in state.values()]
            averages = self._average.state() if self._average else []
            changed = [*self.parameters(), *self.buffers(), *moments, *averages]
            state = [value for value in changed if isinstance(value, Tensor)]
            self._run_chunk = CUDAGraphRunner(self._run_chunk, state)

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; take faster gradients unless a callback has registered hooks or frozen a layer."""
        super().on_train_epoch_start()
        assert self._step is not None
        if not isinstance(self._compiled, CompiledStep):
            self._step.objective = self._fastest_objective()

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:  # type: ignore[override]
        """Make the steps of a chunk and log their metrics."""
        assert self._run_chunk is not None
        first, count = self.global_step, len(chunk.batches)
        scheduler: Any = self.lr_schedulers()
        lrs = torch.tensor([scheduler.lr_at(step) for step in range(first, first + count)])
        losses, logits = self._run_chunk(chunk, to_device_async(lrs, self.device))
        count_steps(self, count)
        self._set_schedule()
        if self._compiled is not None:
            self.compile_seconds = self._compiled.seconds
        labels = chunk.labels[torch.cat(chunk.batches)]
        self._log_training(losses, [len(batch) for batch in chunk.batches], logits, labels)

    def on_train_end(self) -> None:
        """Release the recorded CUDA graphs."""
        super().on_train_end()
        self._run_chunk = self._step = None

    def _fastest_objective(self) -> Objective:
        if self.compile_step:
            return native_objective(self._objective, self.trainer.precision)
        return explicit_objective(self._objective)

    def _count_steps(self, trainer: pl.Trainer) -> tuple[int, int]:
        trainer.fit_loop.setup_data()  # the loader may not exist yet
        loader, epochs = trainer.train_dataloader, trainer.max_epochs
        assert isinstance(loader, ChunkLoader)
        assert epochs is not None
        return len(loader.loader) * epochs, len(loader.loader)


def count_steps(module: DigitClassifier, count: int) -> None:
    """Advance `trainer.global_step` and the loggers' step by steps that Lightning did not make."""
    epoch_loop = module.trainer.fit_loop.epoch_loop
    progress = epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += count
        tracker.completed += count
    epoch_loop._batches_that_stepped += count - 1  # Lightning adds one for the chunk


ChunkRunner = Callable[[Chunk, Tensor], tuple[Tensor, Tensor]]
"""Runs a chunk of k mini-batches with learning rates (k,); returns losses (k,) and logits
(images in the chunk, classes)."""
Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
"""Records a function without running it; returns its results, filled by each replay, and the replay function."""


def run_eagerly(step: Step) -> ChunkRunner:
    """Return a runner that makes one step after the other."""

    def run(chunk: Chunk, lrs: Tensor) -> tuple[Tensor, Tensor]:
        steps = zip(chunk.batches, lrs.unbind(), strict=True)
        losses, logits = zip(*(step(chunk.images, chunk.labels, batch, lr) for batch, lr in steps), strict=True)
        return torch.stack(losses), torch.cat(logits)

    return run


def cuda_graph(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """Capture a function as a CUDA graph; see `Capture`."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


class _Recording(NamedTuple):
    indices: Tensor
    lrs: Tensor
    results: tuple[Tensor, Tensor]
    replay: Callable[[], None]

    def run(self, chunk: Chunk, lrs: Tensor) -> tuple[Tensor, Tensor]:
        self.indices.copy_(torch.cat(chunk.batches))
        self.lrs.copy_(lrs)
        self.replay()
        return self.results


class CUDAGraphRunner:
    """A `ChunkRunner` that replays recordings: one launch per chunk, one recording per sequence of mini-batch sizes.

    The first chunk of its sizes runs eagerly, on a side stream as PyTorch's notes on CUDA graphs require. The second
    is recorded and compared with an eager run; later ones are replayed, with indices and learning rates copied into
    the recording's tensors. A replay overwrites the results of the one before.

    If a recording fails or computes something else, the runner prints one line and falls back to eager execution.
    state: every tensor that a chunk changes in place.
    """

    def __init__(self, eager: ChunkRunner, state: Sequence[Tensor], capture: Capture = cuda_graph) -> None:
        self._eager, self._state, self._capture = eager, state, capture
        self._recordings: dict[tuple[int, ...], _Recording | None] = {}
        self.fault = ""
        """Reason for falling back to eager execution; empty if there was none."""

    def __call__(self, chunk: Chunk, lrs: Tensor) -> tuple[Tensor, Tensor]:
        """Run a chunk eagerly, record it, or replay it."""
        if self.fault:
            return self._eager(chunk, lrs)
        key = (chunk.images.data_ptr(), *map(len, chunk.batches))
        if key not in self._recordings:
            self._recordings[key] = None
            return self._warm_up(chunk, lrs)
        recording = self._recordings[key]
        return recording.run(chunk, lrs) if recording else self._record_and_check(key, chunk, lrs)

    def _warm_up(self, chunk: Chunk, lrs: Tensor) -> tuple[Tensor, Tensor]:
        if chunk.images.device.type != "cuda":
            return self._eager(chunk, lrs)
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            results = self._eager(chunk, lrs)
        current.wait_stream(side)
        return results

    def _record_and_check(self, key: tuple[int, ...], chunk: Chunk, lrs: Tensor) -> tuple[Tensor, Tensor]:
        """Record the chunk and replay it, then undo that and run it eagerly; return the eager results."""
        device, state_before = chunk.images.device, self._copy_state()
        replayed: list[Tensor] = []
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                recording = self._record(chunk, lrs)
                replayed = [value.clone() for value in recording.run(chunk, lrs)] + self._copy_state()
            except RuntimeError as error:
                self.fault = " ".join(str(error).split())
        with torch.no_grad():
            for tensor, value in zip(self._state, state_before, strict=True):
                tensor.copy_(value)
        results = self._eager(chunk, lrs)
        if not self.fault:
            pairs = zip([*results, *self._state], replayed, strict=True)  # equal up to the rounding of a chunk of steps
            if all(torch.allclose(left, right, rtol=1e-3, atol=1e-5, equal_nan=True) for left, right in pairs):
                self._recordings[key] = recording
            else:
                self.fault = "the recorded chunk does not compute what the eager one does"
        if self.fault:
            print(f"CUDA graphs are off: {self.fault}", flush=True)
        return results

    def _record(self, chunk: Chunk, lrs: Tensor) -> _Recording:
        indices, static_lrs = torch.cat(chunk.batches), lrs.clone()
        static_chunk = Chunk(chunk.images, chunk.labels, indices.split([len(batch) for batch in chunk.batches]))
        results, replay = self._capture(lambda: self._eager(static_chunk, static_lrs))
        return _Recording(indices, static_lrs, results, replay)

    def _copy_state(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._state]
