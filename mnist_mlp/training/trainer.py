"""The Lightning Trainer of a configuration: device, checkpoints, early stopping, profiler."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.strategies.launchers import subprocess_script
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import Logger
from torch import nn

from mnist_mlp.config import PIXELS, Config, layer_sizes
from mnist_mlp.data.module import EVAL_BATCH, DigitData
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.checkpoint import DurableCheckpointIO, PortableCheckpoint
from mnist_mlp.training.processes import cores_of_job, launched_by_slurm


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling SIGTERM: on several devices its handler waits for ranks that do not answer.

    Where that cannot be done, its handler calls ours as well.
    """
    connector = getattr(trainer, "_signal_connector", None)
    if connector is not None:
        connector.register_signal_handlers = lambda: None


def end_other_ranks(trainer: pl.Trainer) -> None:
    """End the processes that this one has started for the other devices; they wait for it otherwise."""
    kill = getattr(trainer.strategy.launcher, "kill", None)
    if kill is not None:
        kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def end_in_a_line(trainer: pl.Trainer, say: Callable[[], None]) -> None:
    """Where a process that this one has started is gone, end with a line; Lightning would kill this one without."""
    observer = getattr(subprocess_script, "_ChildProcessObserver", None)
    if observer is None or trainer.world_size == 1:
        return

    def terminate_all(self: Any) -> None:
        end_other_ranks(trainer)
        say()
        os._exit(1)

    observer._terminate_all = terminate_all


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


def threads_of(config: Config, network: nn.Module | None = None) -> int:
    """Threads that a process of this run takes if `trainer.threads` leaves it open. Its processes share the cores.

    Those that srun started have an allocation each. network: of the user's own, instead of the configuration's.
    """
    sizes = layer_sizes(config.model.hidden_layers, config.model.hidden_units)
    if network is not None:
        sizes = [1, sum(weights.numel() for weights in network.parameters())]
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


MONITOR = "val/accuracy"


def choose_accelerator(config: Config) -> str:
    """ "cpu" or "gpu"; UserError where fewer GPUs are there than were asked for."""
    asked, gpus = config.trainer.accelerator.value, torch.cuda.device_count()
    accelerator = ("gpu" if gpus else "cpu") if asked == "auto" else asked
    if accelerator == "gpu" and gpus < config.trainer.devices:
        raise UserError(
            f"trainer.accelerator={asked} trainer.devices={config.trainer.devices} but PyTorch sees {gpus} GPUs: "
            "use fewer devices, or trainer.accelerator=cpu"
        )
    return accelerator


def build_trainer(
    config: Config,
    folder: RunFolder,
    accelerator: str,
    data: DigitData,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger] = (),
) -> pl.Trainer:
    """A silent trainer that keeps last.ckpt and best.ckpt: by validation accuracy, or the last epoch without any."""
    has_val = len(data.split.val) > 0
    callbacks = list(callbacks)
    options: dict[str, Any] = {
        "dirpath": folder.checkpoints,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    if has_val:
        callbacks.append(PortableCheckpoint(filename="best", monitor=MONITOR, mode="max", **options))
        callbacks.append(PortableCheckpoint(filename="last", **options))
    else:
        callbacks.append(PortableCheckpoint(filename="best", save_last=True, **options))
    patience = config.trainer.early_stopping
    if patience:
        callbacks.append(EarlyStopping(MONITOR, mode="max", patience=patience, check_on_train_epoch_end=True))
    many = config.trainer.devices > 1
    trainer = pl.Trainer(
        default_root_dir=folder.path,
        accelerator=accelerator,
        devices=config.trainer.devices,
        strategy=config.trainer.strategy.value if many else "auto",
        precision=config.trainer.precision,  # type: ignore[arg-type]  # checked by config
        max_epochs=config.trainer.max_epochs,
        limit_val_batches=None if has_val else 0,
        num_sanity_val_steps=0,
        logger=list(loggers) or False,  # TensorBoard's files are TensorBoardLog's
        callbacks=callbacks,
        # the environment is named, or Lightning would take any SLURM on the machine for its own, even with one device
        plugins=[DurableCheckpointIO(), _cluster(config.trainer.devices)],
        profiler=_profiler(config.trainer.profiler.value, folder),
        log_every_n_steps=min(50, len(data.train_dataloader())),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    leave_signals_alone(trainer)
    return trainer


def _cluster(devices: int) -> ClusterEnvironment:
    return SLURMEnvironment(auto_requeue=False) if launched_by_slurm(devices) else LightningEnvironment()


def _profiler(name: str, folder: RunFolder) -> pl.profilers.Profiler | None:
    """Lightning's profiler of that name, writing profile*.txt (pytorch also a trace) into the run folder."""
    kinds: dict[str, type[pl.profilers.Profiler]] = {
        "simple": pl.profilers.SimpleProfiler,
        "advanced": pl.profilers.AdvancedProfiler,
        "pytorch": pl.profilers.PyTorchProfiler,
    }
    return kinds[name](dirpath=folder.path, filename="profile") if name in kinds else None
