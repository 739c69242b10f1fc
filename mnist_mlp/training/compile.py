"""The optimizer step as one torch.compile graph, and its cache on disk for later runs.

It uses private interfaces of torch; tests/training/test_compile.py fails if they change.
"""

import hashlib
import itertools
import os
import secrets
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor

from mnist_mlp.console import error_summary
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import cache_folder
from mnist_mlp.runs.folder import FolderLock
from mnist_mlp.training.step import Step, TrainingStep

MAX_SHAPES = 64
"""Network shapes in the in-memory cache of the step; with torch's limit of 8 the ninth run would fail."""


def forget_compiled(function: Callable[..., object]) -> None:
    """Clear torch.compile's in-memory cache of a function, or the whole cache in versions that cannot clear one."""
    reset_code = getattr(torch._dynamo, "reset_code", None)
    if reset_code is None:
        torch.compiler.reset()
    else:
        reset_code(function.__code__)


def default_compile_cache() -> str | None:
    """Return torch's default cache folder for compiled code; None if unknown."""
    try:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    except ImportError:
        return None
    return default_cache_dir()


def forget_compile_cache() -> None:
    """Clear torch's in-memory index of the files in its compile cache, if this version can."""
    from torch._inductor import utils

    clear = getattr(utils, "clear_caches", None) or getattr(utils, "clear_inductor_caches", None)
    if clear is not None:
        clear()


COMPILED_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable for torch's cache folder of compiled code."""


def keep_compiled_code() -> None:
    """Cache compiled code in the user's cache folder; torch's default is /tmp, which a reboot clears."""
    folder = cache_folder()
    if folder is None or os.environ.get(COMPILED_FOLDER) not in (None, default_compile_cache()):
        return
    with suppress(OSError):
        (folder / "compiled").mkdir(parents=True, exist_ok=True)
        os.environ[COMPILED_FOLDER] = str(folder / "compiled")


def forget_compiled_code() -> None:
    """Clear the disk cache in the user's cache folder; renamed first, since other runs may be reading it."""
    folder = cache_folder()
    cache = folder and folder / "compiled"
    if cache is None or os.environ.get(COMPILED_FOLDER) != str(cache):
        return
    renamed = cache.with_name(f"compiled-{secrets.token_hex(8)}.tmp")
    with suppress(OSError):
        cache.rename(renamed)
        cache.mkdir()
    shutil.rmtree(renamed, ignore_errors=True)


@contextmanager
def compile_once(key: str) -> Iterator[None]:
    """Make other processes of this machine that compile the same step wait, and then load the compiled code.

    They do not wait if the step was compiled before, or if the cache folder is not writable. `key` identifies
    everything that the compiled code depends on.
    """
    cache = os.environ.get(COMPILED_FOLDER) or default_compile_cache()
    if cache is None:
        yield
        return
    folder = Path(cache) / "steps" / key
    marker, lock = folder / "compiled", FolderLock(folder)
    try:
        if not marker.exists():
            lock.acquire(lambda holder: None)
        if marker.exists():
            lock.release()
    except OSError:  # the lock only avoids duplicate work
        lock.release()
    try:
        yield
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)  # the cache may have been cleared since
            marker.touch()
    finally:
        lock.release()


CXX = {"darwin": ("clang++",), "win32": ("cl",)}.get(sys.platform, ("g++",))
"""The C++ compiler that torch uses if $CXX is not set."""
_runs = itertools.count()


class CompiledStep:
    """A compiled step with the random generators of eager execution: a seed gives the same draws.

    It is compiled for the size of the first mini-batch; the last, shorter one of an epoch runs eagerly, which is
    cheaper than compiling for it. Compiled code is cached on disk for later runs, and in memory for other networks of
    the same shape. seconds: the compile time, 0 until then.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._batch_size, self.seconds = 0, 0.0
        if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
            warnings.warn(f"torch {torch.__version__} cannot compile a whole step: running eagerly", stacklevel=2)
            self._compiled: Step = step
            return
        keep_compiled_code()
        if next(_runs) % MAX_SHAPES == 0:
            forget_compiled(TrainingStep.__call__)
        self._compiled = torch.compile(step.__call__, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Make one step, as `TrainingStep`; the first call compiles."""
        if self._batch_size:
            run = self._compiled if len(batch) == self._batch_size else self._step
            return run(images, labels, batch, lr)
        self._batch_size = len(batch)
        start = time.perf_counter()
        with torch._dynamo.config.patch(
            trace_autograd_ops=True, recompile_limit=MAX_SHAPES, issue_3_13_0_warning=False
        ):
            result = self._compile_and_run(images, labels, batch, lr)
        self.seconds = time.perf_counter() - start
        return result

    def _compile_and_run(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Compile; on failure, which a damaged cache may cause, clear the cache and try again."""
        key = self._key(images, batch)
        for attempt in range(2):
            try:
                with compile_once(key):
                    return self._compiled(images, labels, batch, lr)
            except Exception as error:  # torch, the C++ compiler and the loader raise many types
                if attempt:
                    raise UserError(
                        f"torch.compile failed ({shorten(error_summary(error), 300, placeholder=' ...')}): fix the "
                        f"compiler (CXX={os.environ.get('CXX', CXX[0])}), or use trainer.compile=false"
                    ) from error
                forget_compiled_code()
                forget_compile_cache()
                forget_compiled(TrainingStep.__call__)
        raise AssertionError

    def _key(self, images: Tensor, batch: Tensor) -> str:
        """Hash everything that the compiled code depends on: versions, shapes and constants."""
        device = images.device.type
        dependencies = (
            torch.__version__, device, torch.get_num_threads(), torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device), tuple(images.shape), len(batch), self._step.description(),
        )  # fmt: skip
        return hashlib.sha256(repr(dependencies).encode()).hexdigest()[:32]


def check_compiler(accelerator: str) -> None:
    """Raise UserError if torch.compile lacks a compiler: C++ for "cpu", C for "gpu" (Triton's launchers)."""
    variable, names = ("CXX", CXX) if accelerator == "cpu" else ("CC", ("gcc", "clang"))
    commands = names = (os.environ[variable],) if variable in os.environ else names
    with suppress(ValueError):  # quotes that do not match
        if accelerator == "cpu":  # unlike Triton, torch allows arguments: ccache g++
            commands = (*names, *(word for name in names for word in shlex.split(name)[:1]))
    if not any(map(shutil.which, commands)):
        raise UserError(
            f"trainer.compile=true on {accelerator} needs a compiler, but {' or '.join(names)} was not found: "
            "install one (Debian: apt install g++), or use trainer.compile=false"
        )
