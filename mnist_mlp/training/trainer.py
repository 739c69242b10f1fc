"""The Lightning Trainer of a configuration: device, checkpoints, early stopping, profiler."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import EarlyStopping

from mnist_mlp.config import Config
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.checkpoint import DurableCheckpointIO, PortableCheckpoint
from mnist_mlp.training.lightning_adapter import leave_signals_alone
from mnist_mlp.training.processes import launched_by_slurm

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
    config: Config, folder: RunFolder, accelerator: str, has_val: bool, callbacks: Sequence[pl.Callback]
) -> pl.Trainer:
    """A silent trainer that keeps last.ckpt and best.ckpt: by validation accuracy, or the last epoch without any."""
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
        logger=False,  # TensorBoardLog writes per epoch, whatever the block size
        callbacks=callbacks,
        # the environment is named, or Lightning would take any SLURM on the machine for its own, even with one device
        plugins=[DurableCheckpointIO(), _cluster(config.trainer.devices)],
        profiler=_profiler(config.trainer.profiler.value, folder),
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
