"""Custom networks, callbacks and loggers: validation, identity in run.json, built-in loggers."""

import copy
import hashlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, WandbLogger
from torch import Tensor, nn

from mnist_mlp.config import Config
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder

Network = nn.Module | Callable[[], nn.Module]
OBSERVERS = (
    pl.callbacks.DeviceStatsMonitor, pl.callbacks.LearningRateMonitor, pl.callbacks.ModelCheckpoint,
    pl.callbacks.ModelSummary, pl.callbacks.ProgressBar, pl.callbacks.ThroughputMonitor,
)  # fmt: skip
"""Lightning callbacks that cannot change a result."""
LOGGING = (pl.callbacks.DeviceStatsMonitor, pl.callbacks.LearningRateMonitor, pl.callbacks.ThroughputMonitor)
"""Lightning callbacks that need a logger."""
STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_before_zero_grad",
)  # fmt: skip


def as_list(name: str, value: Any, item_type: type) -> list[Any]:
    """Convert an object, a list or a tuple to a list; raise UserError if an item has another type."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    for item in items:
        if not isinstance(item, item_type):
            raise UserError(f"{name}={item!r} is not a Lightning {item_type.__name__}: pass one, or a list of them")
    return items


def build_network(network: Network, config: Config) -> nn.Module:
    """Copy a module, or call a function (such as a class) that builds one after seeding with `config.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = copy.deepcopy(network) if isinstance(network, nn.Module) else network()
    if not isinstance(module, nn.Module):
        raise UserError(f"network= returns a {type(module).__name__}: pass an nn.Module, or a function returning one")
    return module


def check_network(module: nn.Module, classes: int) -> None:
    """Raise UserError unless the module maps normalized images (n, 28, 28) float to logits (n, classes)."""
    training = module.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = module.eval()(torch.zeros(2, 28, 28))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"network= fails for images of shape (2, 28, 28): {reason}") from error
    finally:
        module.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
        raise UserError(f"network= returns {shape} for images (2, 28, 28): expected logits (2, {classes})")


def network_name(network: nn.Module) -> str:
    """Identify an untrained network by its class and a digest of its structure and initial weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return f"{type(network).__name__}@{digest.hexdigest()[:12]}"


def can_change_result(callback: pl.Callback) -> bool:
    """Whether a callback is part of the run's identity; observers and `affects_result = False` are not."""
    declared = getattr(callback, "affects_result", None)
    return not isinstance(callback, OBSERVERS) if declared is None else bool(declared)


def needs_every_step(callback: pl.Callback) -> bool:
    """Whether a callback requires Lightning to make each optimizer step."""
    overrides = any(getattr(type(callback), hook) is not getattr(pl.Callback, hook) for hook in STEP_HOOKS)
    return overrides or can_change_result(callback)


def callback_identity(callbacks: Sequence[pl.Callback]) -> list[str]:
    """Identify the callbacks that can change the result by their state keys and digests of their settings."""
    return [
        f"{callback.state_key}@{hashlib.sha256(_describe(vars(callback)).encode()).hexdigest()[:12]}"
        for callback in callbacks
        if can_change_result(callback)
    ]


def _describe(value: Any) -> str:
    """Describe settings (primitives, containers, closures) identically in every process."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(_describe, value)) + "]"
    if isinstance(value, Tensor):
        return str(value.tolist())
    if inspect.isfunction(value):
        return value.__qualname__ + _describe([cell.cell_contents for cell in value.__closure__ or ()])
    return repr(value) if value is None or isinstance(value, (bool, int, float, str, bytes)) else type(value).__name__


def named_loggers(name: str, folder: RunFolder) -> list[Logger]:
    """Build the logger that `trainer.logger` names; raise UserError if its package is not installed.

    Weights & Biases reads WANDB_PROJECT and WANDB_MODE, MLflow reads MLFLOW_TRACKING_URI (default: a database in the
    run folder).
    """
    if not name:
        return []
    if name == "csv":
        return [CSVLogger(folder.path, name="csv")]
    if importlib.util.find_spec(name) is None:
        raise UserError(f"trainer.logger={name} requires the package {name}: pip install {name}")
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", "mnist_mlp")
        return [WandbLogger(name=folder.path.name, project=project, save_dir=folder.path)]
    tracking_uri, path = os.environ.get("MLFLOW_TRACKING_URI"), folder.path.absolute()
    return [
        MLFlowLogger(
            "mnist_mlp",
            run_name=path.name,
            tracking_uri=tracking_uri or f"sqlite:///{(path / 'mlflow.db').as_posix()}",
            artifact_location=None if tracking_uri else (path / "mlflow").as_uri(),
        )
    ]


def finish_loggers(loggers: Sequence[Logger], named: Sequence[Logger], figures: Sequence[Path]) -> None:
    """Log the figures (PNG files) to loggers that accept images; finalize all loggers and close the `named` ones."""
    for logger in (*loggers, *named):
        if isinstance(logger, WandbLogger):
            logger.log_image("figures", list(map(str, figures)), caption=[path.stem for path in figures])
        elif isinstance(logger, MLFlowLogger):
            for path in figures:
                logger.experiment.log_artifact(logger.run_id, str(path), "figures")
        elif isinstance(logger, pl.loggers.TensorBoardLogger):
            for path in figures:
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")
        logger.finalize("success")
    for logger in named:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()  # otherwise the next run of this process is logged as part of this one
