"""The LightningModule: input scaling, loss, metrics, optimizer and learning rate."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import CatMetric

from mnist_mlp.config import FIXED_LENGTH_SCHEDULES, AugmentConfig, Config, ModelConfig, OptimConfig
from mnist_mlp.data.module import EVAL_BATCH, as_pixels, random_seed, to_device_async
from mnist_mlp.datasets import DIGITS, MNIST_STATISTICS
from mnist_mlp.errors import UserError
from mnist_mlp.model import MLP
from mnist_mlp.options import from_dict, to_dict
from mnist_mlp.training.average import SavedAverage, WeightAverage, pop_from
from mnist_mlp.training.checkpoint import read_checkpoint
from mnist_mlp.training.metrics import MeanLoss, class_metrics, evaluation_metrics, in_file_order, training_metrics
from mnist_mlp.training.optimizer import make_optimizer
from mnist_mlp.training.step import Objective, StepLambdaLR, Teacher, schedule_factor

if TYPE_CHECKING:
    from typing_extensions import Self

NORMALIZATIONS = {"raw": (0.0, 1.0), "symmetric": (0.5, 0.5)}
"""Mean and standard deviation of pixels in [0, 1]; `standard` has those of the training images."""

CACHED_IMAGES = 1_000
"""Images per forward pass in evaluation: their activations fit into a CPU's cache (25 % faster than 2,000)."""


class DigitClassifier(pl.LightningModule):
    """A network with its input scaling, loss, metrics and optimizer, for any `pl.Trainer`.

    A batch is `(images, labels)`: (b, 28, 28) uint8 and (b,) int64, as `DigitData` serves them. Other formats that
    `as_pixels` accepts, such as torchvision's ToTensor, are converted.

    Args:
        network: A module from normalized images (n, 28, 28) float to logits (n, classes). Default: `MLP` from `model`.
        model: The options of the MLP; ignored if `network` is passed.
        normalization: "raw" (pixels in [0, 1]), "symmetric" ([-1, 1]) or "standard" (zero mean, unit variance).
        optim: Optimizer, learning rate schedule, regularization and weight averaging.
        augment: Random distortions of training images.
        seed: Seeds the random state of each training epoch, together with the epoch's number.
        classes: Names of the classes.
        statistics: Mean and standard deviation of the training pixels in [0, 1], for "standard".
        teacher: The teacher of distillation that `optim.teacher` names; `fit` loads it.

    Raises:
        KeyError: `normalization` is unknown.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module | None = None,
        *,
        model: ModelConfig | None = None,
        normalization: str = "standard",
        optim: OptimConfig | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        classes: Sequence[str] = DIGITS,
        statistics: Sequence[float] = MNIST_STATISTICS,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        model, optim, augment = model or ModelConfig(), optim or OptimConfig(), augment or AugmentConfig()
        architecture = to_dict(model) if network is None else {"network": type(network).__name__}
        options = {"model": architecture, "optim": to_dict(optim)}
        options |= {"augment": to_dict(augment), "normalization": normalization, "seed": seed}
        options |= {"classes": list(classes), "statistics": list(statistics)}
        self.save_hyperparameters(options)
        self.class_names, count = tuple(map(str, classes)), len(classes)
        self.mlp = network if network is not None else MLP(**model.mlp_arguments(), classes=count)
        mean, std = {**NORMALIZATIONS, "standard": statistics}[normalization]
        self.register_buffer("scale", torch.tensor(1 / (255 * std)))
        self.register_buffer("shift", torch.tensor(-mean / std))
        self._scale = float(np.float32(1 / (255 * std)))  # eight times as fast as the tensor
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.train_metrics = training_metrics(count)
        self.val_metrics, self.test_metrics = evaluation_metrics("val", count), evaluation_metrics("test", count)
        self.val_class_metrics, self.test_class_metrics = class_metrics(count), class_metrics(count)
        self._gathered_logits = CatMetric(nan_strategy="disable")
        self._optim, self._augment, self._seed, self._teacher = optim, augment, seed, teacher
        self._objective = Objective(self, augment.strengths(), optim.label_smoothing, optim.vat, teacher)
        self._average: WeightAverage | None = None
        self._saved_average: SavedAverage | None = None
        self.class_results: dict[str, dict[str, Tensor]] = {}
        """Per-class metrics of the latest "val" and "test" epoch by name, on the CPU; see `class_metrics`."""
        self.test_logits: Tensor | None = None
        """Logits (n, classes) of the latest test, float32 on the CPU, images in file order."""
        self.compile_seconds: float | None = None
        """Compile time of the training step so far; None unless it is compiled."""

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        network: nn.Module | None = None,
        classes: Sequence[str] = DIGITS,
        statistics: Sequence[float] = MNIST_STATISTICS,
        teacher: Teacher | None = None,
    ) -> "Self":
        """Build an untrained classifier; the MLP's initial weights come from torch's current random state.

        Args:
            config: Its `model`, `optim`, `augment`, `seed` and `data.normalization` apply.
            network: A module that replaces the MLP.
            classes: Names of the classes, as in `Digits.classes`.
            statistics: Mean and standard deviation of the training pixels, as in `Digits.statistics`.
            teacher: The teacher of distillation that `optim.teacher` names.

        Returns:
            The classifier, in training mode.
        """
        return cls(
            network,
            model=config.model,
            normalization=config.data.normalization.value,
            optim=config.optim,
            augment=config.augment,
            seed=config.seed,
            classes=classes,
            statistics=statistics,
            teacher=teacher,
        )

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = "cpu",
        strict: bool = True,
        network: nn.Module | None = None,
        **options: Any,
    ) -> "Self":
        """Load a trained classifier; only tensors and primitives are unpickled (`weights_only=True`).

        Args:
            checkpoint_path: A checkpoint written by `fit` or by Lightning's ModelCheckpoint.
            map_location: As in `torch.load`.
            strict: Raise an error for missing or unexpected weights, as in `load_state_dict`.
            network: A module of the class that was trained, if it was not the MLP.
            **options: Constructor arguments that replace the saved ones, such as `seed=3`.

        Returns:
            The classifier, in evaluation mode.

        Raises:
            UserError: The file is missing or damaged, or holds a custom network and `network` is missing.
        """
        checkpoint = read_checkpoint(Path(checkpoint_path), map_location)
        if (custom := checkpoint["hyper_parameters"]["model"].get("network")) and network is None:
            raise UserError(f"{checkpoint_path} holds weights of a custom network, {custom}: pass network=...")
        return cls.from_checkpoint(checkpoint, strict, network, **options)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Mapping[str, Any], strict: bool = True, network: nn.Module | None = None, **options: Any
    ) -> "Self":
        """Build a classifier from a loaded checkpoint; see `load_from_checkpoint`.

        Args:
            checkpoint: Content of the file.
            strict: Whether missing and unexpected weights are an error.
            network: The custom module it was trained with, if any.
            **options: Replacements of saved constructor arguments.

        Returns:
            The classifier in evaluation mode.
        """
        saved: Mapping[str, Any] = checkpoint["hyper_parameters"]
        groups = {"model": ModelConfig, "optim": OptimConfig, "augment": AugmentConfig}
        values = dict(saved) | {name: from_dict(group, saved[name]) for name, group in groups.items()}
        with torch.random.fork_rng(devices=[]):  # drawing initial weights must not advance the caller's random state
            classifier = cls(network, **{**values, **options})
        classifier.load_state_dict(checkpoint["state_dict"], strict=strict)
        return classifier.eval()

    @property
    def augmentation(self) -> AugmentConfig:
        """Random distortions of training images."""
        return self._augment

    @property
    def lr(self) -> float:
        """The learning rate `optim.lr`; Lightning's learning rate finder sets it."""
        return self._optim.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._optim = replace(self._optim, lr=value)
        self.hparams["optim"]["lr"] = value

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits as a differentiable function, in the current mode.

        Args:
            images: (n, 28, 28) uint8 on the module's device; in training also floats from 0 to 255.

        Returns:
            Logits (n, classes).

        Raises:
            UserError: `images` are floats in evaluation mode; their scale would be ambiguous.
        """
        if images.is_floating_point() and not self.training:
            raise UserError("forward takes uint8 images: use probabilities or predict for floats in [0, 1]")
        return self._forward_unchecked(images)

    def predict(self, images: Any) -> Tensor:
        """Predict classes.

        Args:
            images: As for `probabilities`.

        Returns:
            The most probable classes (n,), int64 on the CPU.

        Raises:
            UserError: The format of `images` is ambiguous.
        """
        return self.probabilities(images).argmax(1)

    def probabilities(self, images: Any) -> Tensor:
        """Predict class probabilities.

        Args:
            images: numpy or torch, uint8 or floats in [0, 1]; (28, 28) or (n, 28, 28), with or without a channel axis.

        Returns:
            Probabilities (n, classes), float32 on the CPU; n is 1 for a single image.

        Raises:
            UserError: The format of `images` is ambiguous; see `as_pixels`.
        """
        return self.logits(as_pixels(images)).softmax(1)

    predict_proba = probabilities  # its name in scikit-learn

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Compute logits in evaluation mode, without gradients; with `optim.ema`, of the averaged weights.

        Args:
            images: (n, 28, 28) uint8, or floats from 0 to 255, on any device.

        Returns:
            Logits (n, classes), float32 on the CPU.
        """
        was_training = self.training
        self.eval()
        with self._averaged():
            batches = [self._forward_unchecked(b.to(self.device)).float().cpu() for b in images.split(EVAL_BATCH)]
        self.train(was_training)
        return torch.cat(batches)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean loss () of a batch, with the options of `augment` and `optim`."""
        images, labels = _unpack(batch)
        loss, logits = self._objective(images, labels)
        self._log_training(loss.detach()[None], [len(labels)], logits.detach(), labels)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics, with averaged weights if `optim.ema` is set."""
        with self._averaged():
            self._evaluate(batch, self.val_loss, self.val_metrics, self.val_class_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics and collect the logits."""
        logits = self._evaluate(batch, self.test_loss, self.test_metrics, self.test_class_metrics)
        self._gathered_logits.update(logits)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the probabilities (b, classes) of a batch of images, with or without labels."""
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        return self.probabilities(images)

    def configure_optimizers(self) -> Any:
        """Return the optimizer of `optim` and its learning rate schedule, updated every step."""
        trainer = self._trainer  # None in a training loop without Lightning
        total, per_epoch = self._count_steps(trainer) if trainer is not None else (0, 0)
        # Lightning cannot clip gradients under mixed precision with fused optimizers
        optimizer = make_optimizer(self._optim, self.parameters(), fused=not (trainer and trainer.gradient_clip_val))
        factor = partial(schedule_factor, self._optim, total=total, per_epoch=per_epoch)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": StepLambdaLR(optimizer, factor), "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip the gradients if `optim.gradient_clip_val` is set; the trainer's own argument applies afterwards."""
        if self._optim.gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), self._optim.gradient_clip_val)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make an optimizer step, and update the weight average."""
        super().optimizer_step(*args, **kwargs)
        if self._average is not None:
            self._average.update()

    def on_train_start(self) -> None:
        """Prepare the teacher, the weight average and the schedule."""
        if self._optim.teacher and self._teacher is None:
            raise UserError(f"optim.teacher={self._optim.teacher} is not loaded: pass teacher=, or use mnist_mlp.fit")
        if self._teacher is not None:
            is_mixed = self.trainer.precision == "bf16-mixed"
            self._teacher.to(self.device, self.scale.dtype, torch.bfloat16 if is_mixed else None)
        if self._optim.ema:
            self._average = WeightAverage(self.mlp, self._optim.ema, prefix="mlp.")
            if self._saved_average is not None:
                self._average.restore(self._saved_average)
                self._saved_average = None
        self._set_schedule()

    def on_train_epoch_start(self) -> None:
        """Seed the epoch by (seed, epoch, rank): a resumed run has the results of an uninterrupted one."""
        torch.manual_seed(random_seed(self._seed, self.current_epoch, self.global_rank))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Synchronize batch norm's running statistics: checkpoints hold those of rank 0."""
        if self.trainer.world_size > 1 and self.trainer.is_last_batch:
            averages = self._average.shared_statistics() if self._average else ()
            for buffer in (*self.mlp.buffers(), *averages):
                torch.distributed.broadcast(buffer, src=0)

    def on_train_epoch_end(self) -> None:
        """Update the schedule `plateau`; Lightning would do so after saving the checkpoint."""
        scheduler, optim = self.lr_schedulers(), self._optim
        if optim.schedule.value == "plateau" and isinstance(scheduler, StepLambdaLR):
            if (loss := self.trainer.callback_metrics.get("val/loss")) is None:
                raise UserError("optim.schedule=plateau needs a validation loss in each epoch: pass validation images")
            scheduler.reduce_on_plateau(loss.item(), optim.gamma, optim.plateau_patience)
            self._set_schedule()

    def on_train_end(self) -> None:
        """Replace the trained weights by their average."""
        if self._average is not None:
            self._average.swap()
            self._average = None

    def on_validation_epoch_end(self) -> None:
        """Log the metrics and fill `class_results["val"]`."""
        self._log("val", self.val_loss, self.val_metrics)
        self.class_results["val"] = _compute_and_reset(self.val_class_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics, and fill `class_results["test"]` and `test_logits`."""
        self._log("test", self.test_loss, self.test_metrics)
        self.class_results["test"] = _compute_and_reset(self.test_class_metrics)
        self.test_logits = in_file_order(self._gathered_logits.compute().cpu(), self.trainer.world_size)
        self._gathered_logits.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the averaged weights, with the trained ones next to them."""
        if self._average is not None:
            self._average.save_to(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the trained weights; `on_train_start` restores the average."""
        self._saved_average = pop_from(checkpoint)

    def lr_at(self, step: int) -> float:
        """Look up the schedule.

        Args:
            step: Optimizer step of this training, from 0.

        Returns:
            Its learning rate.
        """
        scheduler: Any = self.lr_schedulers()
        return float(scheduler.lr_at(step))

    def _normalized(self, images: Tensor) -> Tensor:
        """Return the network's inputs (n, 28, 28) for images of any dtype on the scale 0 to 255."""
        return torch.add(self.shift, images.to(self.scale.dtype), alpha=self._scale)

    def _forward_unchecked(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, 28, 28) of any dtype on the scale 0 to 255."""
        logits: Tensor = self.mlp(self._normalized(images))
        return logits

    def _count_steps(self, trainer: pl.Trainer) -> tuple[int, int]:
        """Return the number of optimizer steps, of the training and of an epoch; 1 if it is unknown and not needed."""
        trainer.fit_loop.setup_data()  # the loader may not exist yet
        total, schedule, warmup = trainer.estimated_stepping_batches, self._optim.schedule, self._optim.warmup_epochs
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        unknown = total if schedule in FIXED_LENGTH_SCHEDULES else 0.0
        unknown += per_epoch if warmup or schedule.value in ("step", "multi_step") else 0.0
        if math.isinf(unknown):
            raise UserError(
                f"optim.schedule={schedule} optim.warmup_epochs={warmup} needs a known number of steps: "
                "set the trainer's max_epochs or max_steps, and use a loader with a length"
            )
        total, per_epoch = (1 if math.isinf(count) else max(math.ceil(count), 1) for count in (total, per_epoch))
        return total, per_epoch

    def _set_schedule(self) -> None:
        """Move the schedule to `global_step`: Lightning does not count the steps of a chunk."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, StepLambdaLR):  # a subclass may configure another one
            scheduler.move_to(self.global_step)

    def _averaged(self) -> AbstractContextManager[None]:
        return self._average.applied() if self._average is not None else nullcontext()

    def _log_training(self, losses: Tensor, sizes: list[int], logits: Tensor, labels: Tensor) -> None:
        """Update and log the training metrics. losses: (k,) mean losses of mini-batches of these `sizes`."""
        self.train_loss.update(losses, to_device_async(torch.tensor(sizes), losses.device))
        self.train_metrics.update(logits, labels)
        if self.train_loss.update_count == 1:  # logging once per epoch suffices: Lightning keeps the metric objects
            self._log("train", self.train_loss, self.train_metrics)

    def _evaluate(self, batch: Any, loss: MeanLoss, metrics: Any, class_metrics: Any) -> Tensor:
        """Update the metrics; return the logits (b, classes)."""
        images, labels = _unpack(batch)
        chunks = images.split(CACHED_IMAGES)
        logits = torch.cat([self._forward_unchecked(chunk) for chunk in chunks]).float()
        loss.update(cross_entropy(logits, labels)[None], to_device_async(torch.tensor([len(labels)]), labels.device))
        metrics.update(logits, labels)
        class_metrics.update(logits, labels)
        return logits

    def _log(self, split: str, loss: MeanLoss, metrics: Any) -> None:
        """Log metric objects, which Lightning computes and resets at the end of the epoch."""
        self.log(f"{split}/loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)


def _unpack(batch: Any) -> tuple[Tensor, Tensor]:
    """Return images (b, 28, 28) on the scale 0 to 255, and labels (b,)."""
    images, labels = batch
    return (images if images.dtype == torch.uint8 and images.ndim == 3 else as_pixels(images)), labels


def _compute_and_reset(metrics: Any) -> dict[str, Tensor]:
    values = {name: value.cpu() for name, value in metrics.compute().items()}
    metrics.reset()
    return values
