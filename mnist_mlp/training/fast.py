"""A step compiled by torch.compile as one graph: forward, loss, backward and update."""

import gc
import hashlib
import itertools
import os
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._dynamo
from torch import Tensor

from mnist_mlp.data.module import BatchBlock
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import cache_folder
from mnist_mlp.runs.folder import FolderLock
from mnist_mlp.training.step import Step, TrainingStep

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


MOST_SHAPES = 64
"""Nets of different shapes that share a compiled step's cache; torch's own limit of 8 makes the ninth run fail."""


def can_compile_backward() -> bool:
    """Whether torch.compile can put the backward pass and the update into the graph of the forward pass."""
    return hasattr(torch._dynamo.config, "trace_autograd_ops")


@contextmanager
def compiling_whole_steps() -> Iterator[None]:
    """While this lasts, torch.compile traces torch.autograd.grad, accepts nets of many shapes, and starts quickly."""
    with torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=MOST_SHAPES), quick_compiler():
        yield


@contextmanager
def quick_compiler() -> Iterator[None]:
    """While this lasts, importing torch's compiler leaves out what the code that is already compiled does not need.

    Of 2.2 s of CPU until a compiled step that is kept on disk, 0.35 s go into a hash of Triton, which nothing on a CPU
    uses, and 0.3 s into templates of GPU kernels and into the garbage collector.
    """
    with ExitStack() as until_end:
        if gc.isenabled():
            gc.disable()
            until_end.callback(gc.enable)
        until_end.enter_context(_templates_made_on_use())
        if not torch.cuda.is_available():
            _name_triton_by_version()
        yield


class TemplateMadeOnUse:
    """A jinja2 template that is compiled when something is asked of it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


@contextmanager
def _templates_made_on_use() -> Iterator[None]:
    """torch makes the templates of all its kernels when its compiler is imported: 27 by jinja2, for GPUs."""
    try:
        from jinja2 import Environment
    except ImportError:
        yield
        return
    from_string: Any = Environment.from_string

    def later(self: Environment, *arguments: Any, **options: Any) -> Any:
        return TemplateMadeOnUse(cache(lambda: from_string(self, *arguments, **options)))

    Environment.from_string = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        Environment.from_string = from_string  # type: ignore[method-assign]


def _name_triton_by_version() -> None:
    """Let the key of what is compiled for a CPU hold Triton's version, in place of a hash of all its files."""
    from torch._inductor import codecache

    set_key = getattr(getattr(codecache, "triton_key", None), "set", None)
    if set_key is not None:
        with suppress(PackageNotFoundError, RuntimeError):  # there is no Triton; the key is set already
            set_key(version("triton"))


def forget_compiled(function: Callable[..., object]) -> None:
    """Drop what torch.compile keeps in memory of this function; of everything, where torch cannot forget one alone."""
    reset_code = getattr(torch._dynamo, "reset_code", None)
    if reset_code is None:
        torch.compiler.reset()
    else:
        reset_code(function.__code__)


def default_compile_cache() -> str | None:
    """The folder in which torch keeps compiled code unless told otherwise; None where that cannot be known."""
    try:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    except ImportError:
        return None
    return default_cache_dir()


def forget_compile_cache() -> None:
    """Drop what torch remembers in memory of the files in its compile cache; nothing where it cannot be told to."""
    from torch._inductor import utils

    clear = getattr(utils, "clear_caches", None) or getattr(utils, "clear_inductor_caches", None)
    if clear is not None:
        clear()


COMPILED_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable for the folder in which torch keeps compiled code."""


def keep_compiled_code() -> None:
    """Keep compiled code in the user's cache folder; torch's default is /tmp, which a restart clears."""
    folder = cache_folder()
    if folder is None or os.environ.get(COMPILED_FOLDER) not in (None, default_compile_cache()):
        return
    try:
        (folder / "compiled").mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ[COMPILED_FOLDER] = str(folder / "compiled")


def forget_compiled_code() -> None:
    """Remove what earlier runs kept, if it is in our folder: first renamed, since other runs may be reading it."""
    folder = cache_folder()
    kept = folder and folder / "compiled"
    if kept is None or os.environ.get(COMPILED_FOLDER) != str(kept):
        return
    aside = kept.with_name(f"compiled-{secrets.token_hex(8)}.tmp")
    with suppress(OSError):
        kept.rename(aside)
        kept.mkdir()
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def one_compiles(kind: str) -> Iterator[None]:
    """While this lasts, no other process of this machine compiles the same kind of step: it waits, and then loads.

    Nobody waits for a kind that was compiled before, nor where the folder of compiled code cannot be written.
    kind: a name of all that decides the compiled code. The lock is that of run folders and dies with its process.
    """
    kept = os.environ.get(COMPILED_FOLDER) or default_compile_cache()
    if kept is None:
        yield
        return
    folder = Path(kept) / "steps" / kind
    done, lock = folder / "compiled", FolderLock(folder)
    try:
        if not done.exists():
            lock.acquire(lambda holder: None)
        if done.exists():
            lock.release()
    except OSError:  # the lock only spares work
        lock.release()
    try:
        yield
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)  # a damaged cache was removed meanwhile
            done.touch()
    finally:
        lock.release()


CXX = ("clang++",) if sys.platform == "darwin" else ("g++",)
"""The C++ compiler that torch uses where $CXX names none."""
_runs = itertools.count()


class CompiledStep:
    """A compiled step. Its random numbers are drawn by the eager generators, so the same seed gives the same draws.

    It is compiled for the size of the first mini-batch; the short last one of an epoch runs eagerly, since compiling
    for it would cost more than it could save. Compiled code is kept on disk for later runs, and in the process for
    other nets of the same shape. seconds: the time that compiling took, 0 until then.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._batch_size, self.seconds = 0, 0.0
        if not can_compile_backward():
            warnings.warn(f"torch {torch.__version__} cannot compile a whole step: it runs eagerly", stacklevel=2)
            self._compiled: Step = step
            return
        keep_compiled_code()
        if next(_runs) % MOST_SHAPES == 0:
            forget_compiled(TrainingStep.__call__)
        self._compiled = torch.compile(step.__call__, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        if self._batch_size:
            run = self._compiled if len(batch) == self._batch_size else self._step
            return run(images, labels, batch, lr)
        self._batch_size = len(batch)
        start = time.perf_counter()
        with compiling_whole_steps():
            result = self._compile_and_run(images, labels, batch, lr)
        self.seconds = time.perf_counter() - start
        return result

    def _compile_and_run(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """What was kept from earlier runs may be damaged: where compiling fails it is done once more without."""
        kind = self._kind(images, batch)
        try:
            with one_compiles(kind):
                return self._compiled(images, labels, batch, lr)
        except Exception:  # of torch, of the C++ compiler, of the loader
            forget_compiled_code()
            forget_compile_cache()
            forget_compiled(TrainingStep.__call__)
        try:
            with one_compiles(kind):
                return self._compiled(images, labels, batch, lr)
        except Exception as error:
            raise UserError(
                f"the step cannot be compiled ({_reason(error)}): "
                f"mend the compiler (CXX={os.environ.get('CXX', CXX[0])}), or use trainer.compile=false"
            ) from error

    def _kind(self, images: Tensor, batch: Tensor) -> str:
        """A name of all that the compiled code depends on: shapes and constants, but no values that change."""
        device = images.device.type
        parts = (
            torch.__version__, device, torch.get_num_threads(), torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device), tuple(images.shape), len(batch), self._step.description(),
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_compiler(accelerator: str) -> None:
    """UserError where torch.compile would find no compiler: of C++ for "cpu", of C for "gpu" (Triton's launchers)."""
    variable, names = ("CXX", CXX) if accelerator == "cpu" else ("CC", ("gcc", "clang"))
    names = (os.environ[variable],) if variable in os.environ else names
    if not any(map(shutil.which, names)):
        raise UserError(
            f"trainer.compile=true on {accelerator} needs a compiler and there is no {' or '.join(names)}: "
            "install one (Debian: apt install g++), or use trainer.compile=false"
        )
