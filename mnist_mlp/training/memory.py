"""How much memory a training takes, and how much is free: what cannot fit is refused before it is allocated."""

from itertools import pairwise
from pathlib import Path

import torch

from mnist_mlp.config import Config
from mnist_mlp.data.loader import EVAL_BATCH
from mnist_mlp.errors import UserError
from mnist_mlp.models.mlp import PIXELS, layer_sizes

GIB = 2**30


def check_memory(config: Config, accelerator: str) -> None:
    """UserError where a training of this configuration would need more memory than is free now."""
    processes = config.trainer.devices if accelerator == "cpu" else 1
    needed, free = processes * needed_bytes(config), free_bytes(accelerator)
    if free is None or needed <= free:
        return
    raise UserError(
        f"model.hidden_layers={config.model.hidden_layers} model.hidden_units={config.model.hidden_units} "
        f"data.batch_size={config.data.batch_size} need about {needed / GIB:,.1f} GiB of memory but {free / GIB:,.1f} "
        "GiB are free: choose fewer or narrower layers, or a smaller batch"
    )


def needed_bytes(config: Config) -> int:
    """A lower estimate: weights, gradients and optimiser state, a copy of them in a checkpoint, activations."""
    sizes = layer_sizes(config.model.hidden_layers, config.model.hidden_units)
    number = 8 if config.trainer.precision == "64-true" else 4
    parameters = sum((before + 1) * after for before, after in pairwise(sizes))
    adaptive = config.optim.name.value != "sgd"
    state = 2 if adaptive else int(config.optim.momentum > 0)
    training = config.data.batch_size * (PIXELS + 2 * sum(sizes[1:]))  # outputs before and after each activation
    evaluation = EVAL_BATCH * (PIXELS + 2 * max(sizes[1:]))
    return number * (parameters * (3 + 2 * state) + max(training, evaluation))


def free_bytes(accelerator: str) -> int | None:
    """Memory that can be had now, on the GPU or for this process's control group; None where nobody says."""
    if accelerator == "gpu":
        return int(torch.cuda.mem_get_info()[0])
    known = [limit for limit in (_available(), _left_in_group()) if limit is not None]
    return min(known, default=None)


def _available() -> int | None:
    """Linux's own estimate of what can be allocated without swapping."""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def _left_in_group() -> int | None:
    """What the control group (version 2) of a container has left."""
    folder = Path("/sys/fs/cgroup")
    limit, used = (_lines(folder / name) for name in ("memory.max", "memory.current"))
    return int(limit[0]) - int(used[0]) if limit and used and limit[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return []
