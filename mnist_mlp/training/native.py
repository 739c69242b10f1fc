"""`trainer.compile=true` of an `MLP` on a CPU: native.cpp computes its gradients, compiled once for all networks."""

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from torch import Tensor, nn

from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.model import GaussianNoise
from mnist_mlp.runs.files import scratch_file, sync_file
from mnist_mlp.training.compile import COMPILED_FOLDER, CXX, compile_once, default_compile_cache, keep_compiled_code
from mnist_mlp.training.explicit import explicit_objective, is_plain_mlp
from mnist_mlp.training.step import Objective, TrainingStep

SOURCE = Path(__file__).with_name("native.cpp")
INSTRUCTIONS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
}
"""The compiler's flags by torch's name of the instruction set; other processors take their default."""
FLAGS = (
    *("-O3", "-std=c++20", "-shared", "-fPIC", "-fopenmp"),
    *("-fassociative-math", "-fno-math-errno", "-fno-signed-zeros", "-fno-trapping-math"),  # for loops on vectors
)

OPERANDS: dict[type[nn.Module], Callable[[Any], tuple[Sequence[Tensor], Sequence[float]]]] = {
    nn.Linear: lambda layer: ((layer.weight, layer.bias), ()),
    nn.BatchNorm1d: lambda layer: (
        (layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.num_batches_tracked),
        (layer.momentum, layer.eps),
    ),
    nn.Dropout: lambda layer: ((), (layer.p,)),
    GaussianNoise: lambda layer: ((), (layer.deviation,)),
}
"""From a layer to the tensors and constants that native.cpp takes; other layers have none."""


class NativeObjective(Objective):
    """An objective whose gradients are computed by native.cpp; see `native_objective`."""

    model: Any  # a DigitClassifier with an MLP

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        layers = list(self.model.mlp.layers)
        operands = [OPERANDS.get(type(layer), lambda _: ((), ()))(layer) for layer in layers]
        tensors = [tensor for own_tensors, _ in operands for tensor in own_tensors]
        constants = [constant for _, own_constants in operands for constant in own_constants]
        self._gradients = [torch.empty_like(weights) for weights in self.model.mlp.parameters()]
        self._network = ([type(layer).__name__ for layer in layers], tensors, constants, self._gradients)
        self._normalization = (self.model._scale, float(self.model.shift), self.label_smoothing)

    @torch.no_grad()
    def gradients(self, images: Tensor, labels: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the mean loss (), the logits (b, classes) and the gradient of each parameter, valid until the next."""
        images, targets = self.prepare(images, labels)
        is_mixed = torch.is_autocast_enabled("cpu")
        loss, logits = torch.ops.mnist_mlp.gradients(images, targets, *self._normalization, is_mixed, *self._network)
        return loss, logits, *self._gradients


def native_objective(objective: Objective, precision: str) -> Objective:
    """Return the objective with native gradients if network, precision and machine allow, else the explicit one."""
    instructions = torch.backends.cpu.get_cpu_capability(), torch.cpu.get_capabilities().get("avx512_bf16", False)
    precisions = {"32-true", "bf16-mixed"} if instructions == ("AVX512", True) else {"32-true"}
    if sys.platform == "linux" and precision in precisions and is_plain_mlp(objective):
        return NativeObjective(**vars(objective))
    return explicit_objective(objective)


class NativeStep:
    """A step with native gradients. seconds: the time to compile and load them, 0 until the first call."""

    def __init__(self, step: TrainingStep) -> None:
        self._step, self.seconds = step, 0.0

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Make one step, as `TrainingStep`; the first call compiles."""
        if not self.seconds:
            start = time.perf_counter()
            load_native()
            self.seconds = time.perf_counter() - start
        return self._step(images, labels, batch, lr)


@cache
def load_native() -> None:
    """Load `torch.ops.mnist_mlp.gradients`, compiled for this version of torch and this processor.

    Compiled once: the library stays in the cache folder of compiled code.

    Raises:
        UserError: It cannot be compiled or written.
    """
    keep_compiled_code()
    flags = (*FLAGS, *INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ()))
    dependencies = (torch.__version__, platform.machine(), flags, SOURCE.read_text())
    key = hashlib.sha256(repr(dependencies).encode()).hexdigest()[:32]
    library = Path(os.environ.get(COMPILED_FOLDER) or default_compile_cache() or gettempdir()) / f"native-{key}.so"
    with compile_once(library.stem):
        try:
            torch.ops.load_library(str(library))
        except OSError:  # missing or damaged
            _compile_and_load(library, flags)


def _compile_and_load(library: Path, flags: Sequence[str]) -> None:
    """Compile native.cpp into a library; other processes see it complete or not at all."""
    from torch.utils.cpp_extension import include_paths, library_paths

    compiler, new = os.environ.get("CXX", CXX[0]), scratch_file(library)
    paths = [f"-I{path}" for path in include_paths()] + [f"-L{path}" for path in library_paths()]
    command = [*shlex.split(compiler), *flags, *paths, str(SOURCE), "-o", str(new), "-ltorch_cpu", "-lc10"]
    environment = {**os.environ, "LC_ALL": "C"}  # messages in English
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            sync_file(new)  # a library cut short by a power failure would crash the process that loads it
            new.replace(library)
            torch.ops.load_library(str(library))
            return
        errors = re.findall(r"^.*(?:error: |ld: (?!warning)).*$", result.stderr, re.MULTILINE)
        reason = errors[0] if errors else f"code {result.returncode}"
    except OSError as error:
        reason = error_line(error.__cause__ or error)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
    raise UserError(
        f"trainer.compile=true cannot compile {SOURCE.name} ({reason}): fix the compiler (CXX={compiler}) "
        f"or the folder {library.parent} ({COMPILED_FOLDER}), or use trainer.compile=false"
    )
