"""The optimiser step compiled by torch.compile as one graph, and the folder that keeps compiled code for later runs.

The one module that uses torch beyond its public interface; tests/training/test_compile.py fails if a new version no
longer has what is used here.
"""

import hashlib
import itertools
import os
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from mnist_mlp.console import error_summary
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import cache_folder
from mnist_mlp.runs.folder import FolderLock
from mnist_mlp.training.step import Step, TrainingStep

MAX_SHAPES = 64
"""Nets of different shapes that share a compiled step's cache; torch's own limit of 8 makes the ninth run fail."""


def forget_compiled(function: Callable[..., object]) -> None:
    """Drop what torch.compile keeps in memory of this function; of everything, if torch cannot forget one alone."""
    reset_code = getattr(torch._dynamo, "reset_code", None)
    if reset_code is None:
        torch.compiler.reset()
    else:
        reset_code(function.__code__)


def default_compile_cache() -> str | None:
    """Return the folder in which torch keeps compiled code unless configured; None if that cannot be known."""
    try:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    except ImportError:
        return None
    return default_cache_dir()


def forget_compile_cache() -> None:
    """Drop what torch remembers in memory of the files in its compile cache, if it can."""
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
    """Keep other processes of this machine from compiling the same kind of step: they wait, and then load.

    Nobody waits for a kind that was compiled before, or if the folder of compiled code cannot be written.
    kind: identifies all that decides the compiled code. The lock is that of run folders and dies with its process.
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
        if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
            warnings.warn(f"torch {torch.__version__} cannot compile a whole step: it runs eagerly", stacklevel=2)
            self._compiled: Step = step
            return
        keep_compiled_code()
        if next(_runs) % MAX_SHAPES == 0:
            forget_compiled(TrainingStep.__call__)
        self._compiled = torch.compile(step.__call__, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        if self._batch_size:
            run = self._compiled if len(batch) == self._batch_size else self._step
            return run(images, labels, batch, lr)
        self._batch_size = len(batch)
        start = time.perf_counter()
        with torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=MAX_SHAPES):
            result = self._compile_and_run(images, labels, batch, lr)
        self.seconds = time.perf_counter() - start
        return result

    def _compile_and_run(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Compile, and once more without the cached code of earlier runs if that fails: it may be damaged."""
        key = self._key(images, batch)
        for attempt in range(2):
            try:
                with one_compiles(key):
                    return self._compiled(images, labels, batch, lr)
            except Exception as error:  # of torch, of the C++ compiler, of the loader
                if attempt:
                    raise UserError(
                        f"the step cannot be compiled ({error_summary(error)}): fix the "
                        f"compiler (CXX={os.environ.get('CXX', CXX[0])}), or use trainer.compile=false"
                    ) from error
                forget_compiled_code()
                forget_compile_cache()
                forget_compiled(TrainingStep.__call__)
        raise AssertionError

    def _key(self, images: Tensor, batch: Tensor) -> str:
        """Identify all that the compiled code depends on: shapes and constants, but no values that change."""
        device = images.device.type
        parts = (
            torch.__version__, device, torch.get_num_threads(), torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device), tuple(images.shape), len(batch), self._step.description(),
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def check_compiler(accelerator: str) -> None:
    """UserError where torch.compile would find no compiler: of C++ for "cpu", of C for "gpu" (Triton's launchers)."""
    variable, names = ("CXX", CXX) if accelerator == "cpu" else ("CC", ("gcc", "clang"))
    names = (os.environ[variable],) if variable in os.environ else names
    if not any(map(shutil.which, names)):
        raise UserError(
            f"trainer.compile=true on {accelerator} needs a compiler and there is no {' or '.join(names)}: "
            "install one (Debian: apt install g++), or use trainer.compile=false"
        )
