"""Settings made into objects: data, classifier, trainer."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from mnist_mlp.classifier import DigitClassifier
from mnist_mlp.config import Config, plain, subset_fraction
from mnist_mlp.data import DigitData
from mnist_mlp.digits import Digits
from mnist_mlp.errors import UserError
from mnist_mlp.runs import RunFolder

MONITOR = "val/accuracy"


def build_data(config: Config, digits: Digits) -> DigitData:
    """The split and order of these settings; UserError where they leave nothing to train on."""
    return DigitData(
        digits,
        batch_size=config.data.batch_size,
        steps_per_execution=config.trainer.steps_per_execution,
        val_size=config.data.val_size,
        subset=subset_fraction(config.data.subset),
        split_seed=config.data.split_seed,
        seed=config.seed,
    )


def build_classifier(config: Config) -> DigitClassifier:
    """The classifier of these settings, with the weights that the current random state draws."""
    return DigitClassifier(
        hidden_layers=config.model.hidden_layers,
        hidden_units=config.model.hidden_units,
        activation=config.model.activation.value,
        dropout=config.model.dropout,
        batch_norm=config.model.batch_norm,
        normalization=config.data.normalization.value,
        optimizer=config.optim.name.value,
        lr=config.optim.lr,
        momentum=config.optim.momentum,
        weight_decay=config.optim.weight_decay,
        schedule=config.optim.schedule.value,
        label_smoothing=config.optim.label_smoothing,
        augmentation=plain(config.augment),
        seed=config.seed,
        compile_step=config.trainer.compile,
    )


def choose_accelerator(config: Config) -> str:
    """cpu or gpu, after a check that enough of them are there."""
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
    """A silent trainer that keeps checkpoints/best.ckpt (by validation accuracy, or the last epoch) and last.ckpt."""
    callbacks = list(callbacks)
    options: dict[str, Any] = {
        "dirpath": folder.checkpoints,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    if has_val:
        callbacks.append(ModelCheckpoint(filename="best", monitor=MONITOR, mode="max", **options))
        callbacks.append(ModelCheckpoint(filename="last", **options))
    else:
        callbacks.append(ModelCheckpoint(filename="best", save_last=True, **options))
    patience = config.trainer.early_stopping
    if patience:
        callbacks.append(EarlyStopping(MONITOR, mode="max", patience=patience, check_on_train_epoch_end=True))
    many = config.trainer.devices > 1
    return pl.Trainer(
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
        # one device needs no cluster; else Lightning takes any SLURM it finds on the machine for its own
        plugins=None if many else [LightningEnvironment()],
        profiler=_profiler(config.trainer.profiler.value, folder),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _profiler(name: str, folder: RunFolder) -> pl.profilers.Profiler | None:
    """Lightning's profiler of that name, writing profile*.txt (pytorch also a trace) into the run folder."""
    kinds: dict[str, type[pl.profilers.Profiler]] = {
        "simple": pl.profilers.SimpleProfiler,
        "advanced": pl.profilers.AdvancedProfiler,
        "pytorch": pl.profilers.PyTorchProfiler,
    }
    return kinds[name](dirpath=folder.path, filename="profile") if name in kinds else None
