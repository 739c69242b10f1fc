"""How many CPU threads a run takes: a function of the work in a step and of the cores, of nothing that varies.

The same command thus gives the same rounding on one machine. The figures behind the rule are in docs/speed.md.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch

from mnist_mlp.config import Config
from mnist_mlp.models.sizes import layer_sizes
from mnist_mlp.training.processes import cores_of_job, launched_by_slurm

WORK_PER_THREAD = 250e6
"""Floating-point operations of a step that keep one thread busy. Below, more threads wait for each other instead."""


def step_work(sizes: Sequence[int], batch_size: int) -> float:
    """Floating-point operations of the matrix products in an optimiser step: 6 per weight and image.

    sizes: of the layers, from input to output.
    """
    return 6.0 * batch_size * sum(before * after for before, after in pairwise(sizes))


def threads_for(work: float, cores: int) -> int:
    """Threads for a step of this work on so many cores."""
    return int(min(cores, max(1, work // WORK_PER_THREAD)))


def threads_of(config: Config) -> int:
    """Threads that a process of this run takes where `trainer.threads` leaves it open. Its processes share the cores.

    Those that srun started have an allocation each.
    """
    sizes = layer_sizes(config.model.hidden_layers, config.model.hidden_units)
    cores, devices = cores_of_job(), config.trainer.devices
    share = cores if launched_by_slurm(devices) else max(1, cores // devices)
    return threads_for(step_work(sizes, config.data.batch_size), share)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many CPU threads while this lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
