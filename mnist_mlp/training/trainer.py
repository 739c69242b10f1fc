"""Build Lightning's Trainer from a configuration; choose device and threads, check the memory."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.strategies.launchers import subprocess_script
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import Logger
from torch import nn

from mnist_mlp.config import PIXELS, Config, layer_sizes
from mnist_mlp.data.module import EVAL_BATCH, DigitData
from mnist_mlp.errors import Interrupted, UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.cgroup import memory_left, read_lines
from mnist_mlp.training.checkpoint import DurableCheckpointIO, PortableCheckpoint
from mnist_mlp.training.processes import cores_of_job, launched_by_slurm


def disable_signal_handlers(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling SIGTERM: on several devices its handler waits for ranks that do not answer."""
    connector = getattr(trainer, "_signal_connector", None)  # private; if missing, Lightning's handler calls ours, too
    if connector is not None:
        connector.register_signal_handlers = lambda: None


@contextmanager
def keyboard_interrupts(trainer: pl.Trainer) -> Iterator[None]:
    """Let KeyboardInterrupt pass: Lightning would exit, close stdin and ignore SIGINT from then on."""
    for name in ("_fit_impl", "_test_impl"):  # private; if missing, Lightning exits
        with suppress(AttributeError):
            setattr(trainer, name, partial(_interruptible, getattr(trainer, name)))
    try:
        yield
    except Interrupted as stop:
        kill_other_ranks(trainer)
        if isinstance(stop.__cause__, KeyboardInterrupt):
            raise stop.__cause__ from None
        raise


def _interruptible(action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return action(*args, **kwargs)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(signal.SIGINT) from interrupt


def kill_other_ranks(trainer: pl.Trainer) -> None:
    """Kill the processes that this one started for other devices; otherwise they wait for it."""
    kill = getattr(trainer.strategy.launcher, "kill", None)
    if kill is not None:
        kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def exit_on_lost_rank(trainer: pl.Trainer, report: Callable[[], None]) -> None:
    """Call `report` and exit when another rank has died; Lightning would kill this process without a message."""
    observer = getattr(subprocess_script, "_ChildProcessObserver", None)
    if observer is None or trainer.world_size == 1:
        return

    def terminate_all(self: Any) -> None:
        kill_other_ranks(trainer)
        report()
        os._exit(1)

    observer._terminate_all = terminate_all


FLOPS_PER_THREAD = 250e6
"""Floating-point operations per step that occupy one thread; with fewer, threads wait for each other."""


def step_flops(sizes: Sequence[int], batch_size: int) -> float:
    """Count the floating-point operations of an optimizer step's matrix products: 6 per weight and image."""
    return 6.0 * batch_size * sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))


def threads_for(flops: float, cores: int) -> int:
    """Choose the number of threads for a step of `flops` operations."""
    return int(min(cores, max(1, flops // FLOPS_PER_THREAD)))


def threads_of(config: Config, network: nn.Module | None = None) -> int:
    """Choose the number of CPU threads of each process if `trainer.threads` is 0.

    The processes of a run share its cores, except under srun, which allocates cores to each of them.
    """
    sizes = layer_sizes(config.model.hidden_layers, config.model.hidden_units)
    if network is not None:
        sizes = [1, sum(parameter.numel() for parameter in network.parameters())]
    cores, devices = cores_of_job(), config.trainer.devices
    available = cores if launched_by_slurm(devices) else max(1, cores // devices)
    return threads_for(step_flops(sizes, config.data.batch_size), available)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Set PyTorch's number of CPU threads inside the context."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


@contextmanager
def default_torch_state() -> Iterator[None]:
    """Hide the calling program's global settings of PyTorch, which would change figures, and its random generators."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            stack.enter_context(torch.autocast(device, enabled=False))
        backends: Any = torch.backends
        for backend in (backends.cuda.matmul, backends.mkldnn.matmul):
            stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
        with suppress(RuntimeError):  # unknown if set per backend
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        yield


GIB = 2**30


def check_memory(config: Config, accelerator: str) -> None:
    """Raise UserError if training this configuration needs more memory than is free."""
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
    """Estimate a lower bound: weights, gradients, optimizer state, a checkpoint's copy of them, activations."""
    sizes = layer_sizes(config.model.hidden_layers, config.model.hidden_units)
    item_size = 8 if config.trainer.precision == "64-true" else 4
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    momentum = int(config.optim.momentum > 0)
    moments = {"sgd": momentum, "rmsprop": 1 + momentum}.get(config.optim.name.value, 2)
    training = config.data.batch_size * (PIXELS + 2 * sum(sizes[1:]))  # input and output of each activation
    evaluation = EVAL_BATCH * (PIXELS + 2 * max(sizes[1:]))
    return item_size * (parameters * (3 + 2 * moments) + max(training, evaluation))


def free_bytes(accelerator: str) -> int | None:
    """Return the free memory of the GPU, or of the machine and its control groups; None if unknown."""
    if accelerator == "gpu":
        return int(torch.cuda.mem_get_info()[0])
    known = [limit for limit in (_available_memory(), memory_left()) if limit is not None]
    return min(known, default=None)


def _available_memory() -> int | None:
    """Read Linux's estimate of what can be allocated without swapping."""
    for line in read_lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


MONITOR = "val/accuracy"


def choose_accelerator(config: Config) -> str:
    """Resolve `trainer.accelerator` to "cpu" or "gpu"; raise UserError if there are too few GPUs."""
    requested, gpus = config.trainer.accelerator.value, torch.cuda.device_count()
    accelerator = ("gpu" if gpus else "cpu") if requested == "auto" else requested
    if accelerator == "gpu" and gpus < config.trainer.devices:
        raise UserError(
            f"trainer.accelerator={requested} trainer.devices={config.trainer.devices} but PyTorch sees {gpus} GPUs: "
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
    """Build a silent trainer that saves last.ckpt and best.ckpt (best validation accuracy, or the last epoch)."""
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
    devices = config.trainer.devices
    # without an explicit environment Lightning uses any SLURM variables it detects, even on one device
    environment = SLURMEnvironment(auto_requeue=False) if launched_by_slurm(devices) else LightningEnvironment()
    trainer = pl.Trainer(
        default_root_dir=folder.path,
        accelerator=accelerator,
        devices=devices,
        strategy=config.trainer.strategy.value if devices > 1 else "auto",
        precision=config.trainer.precision,  # type: ignore[arg-type]  # checked by config
        max_epochs=config.trainer.max_epochs,
        limit_val_batches=None if has_val else 0,
        num_sanity_val_steps=0,
        logger=list(loggers) or False,  # TensorBoardLog writes TensorBoard's files
        callbacks=callbacks,
        plugins=[DurableCheckpointIO(), environment],
        profiler=_profiler(config.trainer.profiler.value, folder),
        log_every_n_steps=min(50, len(data.train_dataloader())),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    disable_signal_handlers(trainer)
    return trainer


def _profiler(name: str, folder: RunFolder) -> pl.profilers.Profiler | None:
    """Build Lightning's profiler; it writes profile*.txt (pytorch also a trace) to the run folder."""
    profilers: dict[str, type[pl.profilers.Profiler]] = {
        "simple": pl.profilers.SimpleProfiler,
        "advanced": pl.profilers.AdvancedProfiler,
        "pytorch": pl.profilers.PyTorchProfiler,
    }
    return profilers[name](dirpath=folder.path, filename="profile") if name in profilers else None
