"""How the steps of a block are run: in turn, compiled into one program, or recorded as a CUDA graph and replayed."""

import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch._dynamo
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from mnist_mlp.blocks import Block
from mnist_mlp.cache import cache_folder
from mnist_mlp.errors import UserError

Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`TrainingStep.__call__`: images, labels, batch, lr -> loss, logits."""
Execute = Callable[[Block, Tensor], tuple[Tensor, Tensor]]
"""A block of k steps and its learning rates (k,) -> losses (k,) and logits (images in the block, 10)."""
Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
"""Records a function of tensors without running it: what it will return, and how to run it again."""

CXX = ("clang++",) if sys.platform == "darwin" else ("g++",)
"""The C++ compiler that torch takes where $CXX names none."""
COMPILED_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable that says where torch keeps what it compiles."""
COMPILED_NETS = 64
"""Runs of one process that share what is compiled; then it starts over, since torch fails beyond a limit (of 8)."""
_runs = itertools.count()


def in_turn(step: Step) -> Execute:
    """One step after the other."""

    def execute(block: Block, rates: Tensor) -> tuple[Tensor, Tensor]:
        steps = zip(block.batches, rates.unbind(), strict=True)
        losses, logits = zip(*(step(block.images, block.labels, batch, lr) for batch, lr in steps), strict=True)
        return torch.stack(losses), torch.cat(logits)

    return execute


class CompiledStep:
    """A step compiled by torch.compile as one graph: forward, loss, backward and update.

    Random numbers stay those of the eager step. It is compiled for the size of the first mini-batch; an epoch's short
    last one runs eagerly, for its own compilation would cost more than it can win. What was compiled is kept on disk
    for later runs, and in the process for other nets of the same shape. seconds: what compiling took, 0 until then.
    """

    def __init__(self, step: Step) -> None:
        _keep_compiled()
        torch._dynamo.config.trace_autograd_ops = True  # the backward pass in the same graph
        torch._dynamo.config.recompile_limit = COMPILED_NETS
        if next(_runs) % COMPILED_NETS == 0:
            torch.compiler.reset()
        self._step, self._batch_size, self.seconds = step, 0, 0.0
        self._compiled = torch.compile(step, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        if self._batch_size:
            run = self._compiled if len(batch) == self._batch_size else self._step
            return run(images, labels, batch, lr)
        self._batch_size = len(batch)
        start = time.perf_counter()
        result = self._compiled(images, labels, batch, lr)
        self.seconds = time.perf_counter() - start
        return result


def _keep_compiled() -> None:
    """Let what is compiled outlast a restart: torch's own choice, already made when Lightning is imported, is /tmp."""
    folder = cache_folder()
    if folder is None or os.environ.get(COMPILED_FOLDER) not in (None, default_cache_dir()):
        return
    try:
        (folder / "compiled").mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ[COMPILED_FOLDER] = str(folder / "compiled")


def check_compiler(accelerator: str) -> None:
    """UserError where torch.compile would find no compiler: of C++ for "cpu", of C for "gpu" (Triton's launchers)."""
    variable, names = ("CXX", CXX) if accelerator == "cpu" else ("CC", ("gcc", "clang"))
    names = (os.environ[variable],) if variable in os.environ else names
    if not any(map(shutil.which, names)):
        raise UserError(
            f"trainer.compile=true on {accelerator} needs a compiler and there is no {' or '.join(names)}: "
            "install one (Debian: apt install g++), or use trainer.compile=false"
        )


class _Recording(NamedTuple):
    indices: Tensor
    rates: Tensor
    results: tuple[Tensor, Tensor]
    replay: Callable[[], None]


def cuda_graph(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """`Capture` by a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


class Captured:
    """Blocks as recordings, so that a block is one launch; a recording for each sequence of mini-batch sizes.

    The first block of its kind runs as it is, which lets libraries set themselves up; the second is recorded, and from
    then on replayed. What changes from block to block, indices and learning rates, is copied into the recording's own
    tensors. The results are overwritten by the next block of the same kind.
    """

    def __init__(self, execute: Execute, capture: Capture = cuda_graph) -> None:
        self._execute, self._capture = execute, capture
        self._recordings: dict[tuple[int, ...], _Recording | None] = {}

    def __call__(self, block: Block, rates: Tensor) -> tuple[Tensor, Tensor]:
        kind = (block.images.data_ptr(), *map(len, block.batches))
        if kind not in self._recordings:
            self._recordings[kind] = None
            return self._execute(block, rates)
        recording = self._recordings[kind] or self._record(block, rates)
        self._recordings[kind] = recording
        recording.indices.copy_(torch.cat(block.batches))
        recording.rates.copy_(rates)
        recording.replay()
        return recording.results

    def _record(self, block: Block, rates: Tensor) -> _Recording:
        indices, own_rates = torch.cat(block.batches), rates.clone()
        own = Block(block.images, block.labels, indices.split([len(batch) for batch in block.batches]))
        results, replay = self._capture(lambda: self._execute(own, own_rates))
        return _Recording(indices, own_rates, results, replay)
