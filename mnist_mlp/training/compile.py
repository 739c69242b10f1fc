"""A step compiled by torch.compile as one graph: forward, loss, backward and update."""

import hashlib
import itertools
import os
import shutil
import sys
import time
import warnings

import torch
from torch import Tensor

from mnist_mlp.errors import UserError
from mnist_mlp.training import torch_adapter
from mnist_mlp.training.compile_cache import forget_compiled_code, keep_compiled_code, one_compiles
from mnist_mlp.training.step import Step, TrainingStep

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
        if not torch_adapter.can_compile_backward():
            warnings.warn(f"torch {torch.__version__} cannot compile a whole step: it runs eagerly", stacklevel=2)
            self._compiled: Step = step
            return
        keep_compiled_code()
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
        kind = self._kind(images, batch)
        try:
            with one_compiles(kind):
                return self._compiled(images, labels, batch, lr)
        except Exception:  # of torch, of the C++ compiler, of the loader
            forget_compiled_code()
            torch_adapter.forget_compile_cache()
            torch_adapter.forget_compiled(TrainingStep.__call__)
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
