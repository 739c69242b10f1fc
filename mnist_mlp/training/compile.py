"""A step compiled by torch.compile as one graph: forward, loss, backward and update."""

import itertools
import os
import secrets
import shutil
import sys
import time
import warnings
from contextlib import suppress

import torch
from torch import Tensor

from mnist_mlp.cache import cache_folder
from mnist_mlp.errors import UserError
from mnist_mlp.training import torch_adapter
from mnist_mlp.training.step import Step, TrainingStep

CXX = ("clang++",) if sys.platform == "darwin" else ("g++",)
"""The C++ compiler that torch uses where $CXX names none."""
COMPILED_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable for the folder in which torch keeps compiled code."""
_runs = itertools.count()


class CompiledStep:
    """A compiled step. Its random numbers are drawn by the eager generators, so the same seed gives the same draws.

    It is compiled for the size of the first mini-batch; the short last one of an epoch runs eagerly, since compiling
    for it would cost more than it could save. Compiled code is kept on disk for later runs, and in the process for
    other nets of the same shape. seconds: the time that compiling took, 0 until then.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step: Step = step
        self._batch_size, self.seconds = 0, 0.0
        if not torch_adapter.can_compile_backward():
            warnings.warn(f"torch {torch.__version__} cannot compile a whole step: it runs eagerly", stacklevel=2)
            self._compiled: Step = step
            return
        _keep_compiled_code()
        if next(_runs) % torch_adapter.MOST_SHAPES == 0:
            torch_adapter.forget_compiled(TrainingStep.__call__)
        self._compiled = torch.compile(step.__call__, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        if self._batch_size:
            run = self._compiled if len(batch) == self._batch_size else self._step
            return run(images, labels, batch, lr)
        self._batch_size = len(batch)
        start = time.perf_counter()
        with torch_adapter.compiling_whole_steps():
            result = self._compile_and_run(images, labels, batch, lr)
        self.seconds = time.perf_counter() - start
        return result

    def _compile_and_run(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """What was kept from earlier runs may be damaged: where compiling fails it is done once more without."""
        try:
            return self._compiled(images, labels, batch, lr)
        except Exception:  # of torch, of the C++ compiler, of the loader
            _forget_compiled_code()
            torch_adapter.forget_compile_cache()
            torch_adapter.forget_compiled(TrainingStep.__call__)
        try:
            return self._compiled(images, labels, batch, lr)
        except Exception as error:
            raise UserError(
                f"the step cannot be compiled ({_reason(error)}): "
                f"mend the compiler (CXX={os.environ.get('CXX', CXX[0])}), or use trainer.compile=false"
            ) from error


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _forget_compiled_code() -> None:
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


def _keep_compiled_code() -> None:
    """Keep compiled code in the user's cache folder; torch's default is /tmp, which a restart clears."""
    folder = cache_folder()
    if folder is None or os.environ.get(COMPILED_FOLDER) not in (None, torch_adapter.default_compile_cache()):
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
