"""The LightningModule: input scaling, blocks of optimiser steps, metrics, learning rate."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.config import AugmentConfig, Config, ModelConfig, OptimConfig
from mnist_mlp.data.module import EVAL_BATCH, BatchBlock, BlockLoader, random_seed, send
from mnist_mlp.data.picture import as_pixels
from mnist_mlp.errors import UserError
from mnist_mlp.model import MLP
from mnist_mlp.options import from_dict, to_dict
from mnist_mlp.training.average import SavedAverage, WeightAverage, out_of
from mnist_mlp.training.checkpoint import read_checkpoint
from mnist_mlp.training.fast import BlockRunner, CompiledStep, CUDAGraphRunner, run_eager
from mnist_mlp.training.metrics import KeptLogits, MeanLoss, evaluation_metrics, training_metrics
from mnist_mlp.training.optimizer import FunctionalOptimizer, make_optimizer
from mnist_mlp.training.step import Teacher, TrainingStep, schedule_factor
from mnist_mlp.training.trainer import count_optimizer_steps

NORMALIZATIONS = {"raw": (0.0, 1.0), "symmetric": (0.5, 0.5), "standard": (0.1307, 0.3081)}
"""Mean and standard deviation, of pixels in [0, 1]; those of `standard` are the training images' own."""


class DigitClassifier(pl.LightningModule):
    """A network and all that is needed to train it.

    A Lightning batch is a `BatchBlock`; each of its mini-batches is one optimiser step and counts as one `global_step`.

    network: from scaled images to logits; model: the options it was made from, which a checkpoint needs to rebuild it;
    normalization: "raw", "symmetric" or "standard"; compile_step: compile the step; cuda_graphs: record blocks on
    a GPU (neither is a hyper-parameter, since they change rounding alone); teacher: what `optim.teacher` names.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: MLP,
        *,
        model: ModelConfig,
        normalization: str,
        optim: OptimConfig,
        augment: AugmentConfig,
        seed: int,
        compile_step: bool = False,
        cuda_graphs: bool = True,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        groups = {"model": to_dict(model), "optim": to_dict(optim), "augment": to_dict(augment)}
        self.save_hyperparameters({**groups, "normalization": normalization, "seed": seed})
        self.mlp = network
        mean, deviation = NORMALIZATIONS[normalization]
        self.register_buffer("scale", torch.tensor(1 / (255 * deviation)))
        self.register_buffer("shift", torch.tensor(-mean / deviation))
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.train_metrics = training_metrics()
        self.val_metrics, self.test_metrics = evaluation_metrics(), evaluation_metrics(calibration=True)
        self._kept_logits = KeptLogits()
        self._optim, self._augment, self._seed, self._compile = optim, augment, seed, compile_step
        self._graphs, self._total_steps, self._teacher = cuda_graphs, 0, teacher
        self._runner: BlockRunner | None = None
        self._average: WeightAverage | None = None
        self._saved_average: SavedAverage | None = None
        self.compiled: CompiledStep | None = None
        """The compiled step of this training, where it was asked for."""
        self.results: dict[str, dict[str, Tensor]] = {}
        """Latest value of every metric of each split, on the CPU: by split and by name."""
        self.test_logits: Tensor | None = None
        """The logits (n, 10) from which the latest test took its metrics, float32 on the CPU, images in file order."""

    @classmethod
    def from_config(cls, config: Config, teacher: Teacher | None = None) -> "DigitClassifier":
        """The classifier of a configuration, with weights drawn from the current random state."""
        return cls(
            MLP(**config.model.mlp_arguments()),
            model=config.model,
            normalization=config.data.normalization.value,
            optim=config.optim,
            augment=config.augment,
            seed=config.seed,
            compile_step=config.trainer.compile,
            cuda_graphs=config.trainer.cuda_graphs == "auto",
            teacher=teacher,
        )

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = "cpu", **_: Any) -> "DigitClassifier":  # type: ignore[override]
        """The classifier that a checkpoint holds, in evaluation mode. Only tensors and primitives are unpickled.

        UserError where it cannot be read, or is damaged.
        """
        checkpoint = read_checkpoint(Path(checkpoint_path), map_location)
        with torch.random.fork_rng(devices=[]):  # new weights would be drawn from the caller's random state
            made = cls._from_hyper_parameters(checkpoint["hyper_parameters"])
        made.load_state_dict(checkpoint["state_dict"])
        return made.eval()

    @classmethod
    def _from_hyper_parameters(cls, saved: Mapping[str, Any]) -> "DigitClassifier":
        model = from_dict(ModelConfig, saved["model"])
        return cls(
            MLP(**model.mlp_arguments()),
            model=model,
            normalization=saved["normalization"],
            optim=from_dict(OptimConfig, saved["optim"]),
            augment=from_dict(AugmentConfig, saved["augment"]),
            seed=saved["seed"],
        )

    @property
    def augmentation(self) -> AugmentConfig:
        """The distortions of its training images."""
        return self._augment

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) uint8 -> logits: (n, 10). Of floats, training alone gives some, on the scale 0 to 255."""
        if images.is_floating_point() and not self.training:
            raise UserError("the classifier itself takes uint8 images: probabilities and predict take floats in [0, 1]")
        return self.scores(images)

    def predict(self, images: Any) -> Tensor:
        """The most probable digits (n,), int64 on the CPU. images: as for `probabilities`."""
        return self.probabilities(images).argmax(1)

    def probabilities(self, images: Any) -> Tensor:
        """The probabilities of the ten digits (n, 10), float32 on the CPU; n is 1 for a single image.

        images: numpy or torch, uint8 or floats in [0, 1], (28, 28) or (n, 28, 28), with or without a channel; UserError
        where that is ambiguous (`as_pixels`).
        """
        return self.logits(as_pixels(images)).softmax(1)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The logits (n, 10) without dropout, float32 on the CPU. images: (n, 28, 28) on the scale 0 to 255.

        In training they are those of the averaged weights, where there are such (`optim.ema`).
        """
        was_training = self.training
        self.eval()
        with self._averaged():
            parts = [self.scores(part.to(self.device)).float().cpu() for part in images.split(EVAL_BATCH)]
        self.train(was_training)
        return torch.cat(parts)

    def scores(self, images: Tensor) -> Tensor:
        """As `forward`, unchecked. images: (n, 28, 28) of any number type, on the scale 0 to 255 -> logits: (n, 10)."""
        logits: Tensor = self.mlp(torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale))
        return logits

    def training_step(self, block: BatchBlock) -> None:
        assert self._runner is not None
        first = self.global_step
        rates = [self.lr_at(step) for step in range(first, first + len(block.batches))]
        losses, logits = self._runner(block, send(torch.tensor(rates), self.device))
        self._optimizer().param_groups[0]["lr"] = rates[-1]
        count_optimizer_steps(self, len(rates))
        self.train_loss.update(losses, self._sizes(block))
        self.train_metrics.update(logits, block.labels[torch.cat(block.batches)])
        if self.trainer.is_last_batch:  # not on_train_epoch_end, which comes after most callbacks
            self._share_buffers()
            self._log("train", self.train_loss, self.train_metrics)

    def _share_buffers(self) -> None:
        """Give every rank rank 0's running statistics, which checkpoints hold: so a resumed run validates alike."""
        if self.trainer.world_size > 1:
            for buffer in self.mlp.buffers():
                torch.distributed.broadcast(buffer, src=0)
            for buffer in self._average.shared_statistics() if self._average else ():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, block: BatchBlock) -> None:
        with self._averaged():
            self._evaluate(block, self.val_loss, self.val_metrics)

    def test_step(self, block: BatchBlock) -> None:
        logits = self._evaluate(block, self.test_loss, self.test_metrics)
        self._kept_logits.update(torch.cat(block.batches), logits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self._optim, self.parameters())

    def on_train_start(self) -> None:
        loader = self.trainer.train_dataloader
        assert isinstance(loader, BlockLoader)
        assert self.trainer.max_epochs is not None
        self._total_steps = loader.steps * self.trainer.max_epochs
        self._average = self._make_average()
        self._runner = self._make_runner()

    def on_train_end(self) -> None:
        self._runner = None
        if self._average is not None:
            self._average.swap()
            self._average = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._average is not None:
            self._average.into(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._saved_average = out_of(checkpoint)

    def on_train_epoch_start(self) -> None:
        # every draw of an epoch is a function of (seed, epoch): a resumed run equals an unbroken one
        torch.manual_seed(random_seed(self._seed, self.current_epoch, self.global_rank))

    def on_validation_epoch_end(self) -> None:
        self._log("val", self.val_loss, self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self.test_logits = self._kept_logits.compute().cpu()
        self._kept_logits.reset()
        self._log("test", self.test_loss, self.test_metrics)

    def lr_at(self, step: int) -> float:
        """The learning rate of an optimiser step, from 0."""
        return self._optim.lr * schedule_factor(self._optim.schedule.value, step, self._total_steps)

    def _averaged(self) -> AbstractContextManager[None]:
        return self._average.in_use() if self._average is not None else nullcontext()

    def _make_average(self) -> WeightAverage | None:
        """The running average of the weights, where there is to be one; a resumed one where a checkpoint had it."""
        if not self._optim.ema:
            return None
        made = WeightAverage(self.mlp, self._optim.ema, prefix="mlp.")
        if self._saved_average is not None:
            made.restore(self._saved_average)
            self._saved_average = None
        return made

    def _make_runner(self) -> BlockRunner:
        """Blocks run as CUDA graphs on one GPU, else step by step; the step is compiled where that was asked for."""
        alone = self.trainer.world_size == 1
        step = TrainingStep(
            self,
            FunctionalOptimizer(self._optimizer()),
            self._augment.strengths(),
            self._optim.label_smoothing,
            torch.autograd.grad if alone else self._averaged_gradients,
            self._average,
            self._optim.vat,
            self._present_teacher(),
        )
        if self._compile:
            self.compiled = CompiledStep(step)
        runner = run_eager(self.compiled or step)
        return self._captured(runner) if self._graphs and alone and self.device.type == "cuda" else runner

    def _present_teacher(self) -> Teacher | None:
        if self._optim.teacher and self._teacher is None:
            raise UserError(f"optim.teacher={self._optim.teacher} is not here: give teacher=, as fit does")
        return self._teacher.to(self.device, self.scale.dtype) if self._teacher else None

    def _captured(self, runner: BlockRunner) -> CUDAGraphRunner:
        states = self._optimizer().state.values()
        moments = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        averages = self._average.state() if self._average else []
        return CUDAGraphRunner(runner, [*self.parameters(), *self.buffers(), *moments, *averages])

    def _averaged_gradients(self, loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """By a backward pass that DDP sees, and so averages over the devices."""
        self._optimizer().zero_grad()
        self.manual_backward(loss)
        return [weights.grad for weights in parameters if weights.grad is not None]

    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def _evaluate(self, block: BatchBlock, loss: MeanLoss, metrics: Any) -> Tensor:
        """The logits (images in the block, 10), after counting them."""
        kept = []
        for batch in block.batches:
            labels, logits = block.labels[batch], self(block.images[batch]).float()
            loss.update(cross_entropy(logits, labels)[None], self._sizes(block))
            metrics.update(logits, labels)
            kept.append(logits)
        return torch.cat(kept)

    @staticmethod
    def _sizes(block: BatchBlock) -> Tensor:
        return send(torch.tensor([len(batch) for batch in block.batches]), block.labels.device)

    def _log(self, split: str, loss: MeanLoss, metrics: Any) -> None:
        """Scalars go where checkpoints and early stopping look; the rest waits in `results`."""
        values = {"loss": loss.compute(), **metrics.compute()}
        loss.reset()
        metrics.reset()
        self.results[split] = {name: value.cpu() for name, value in values.items()}
        scalars = {f"{split}/{name}": value.float() for name, value in values.items() if value.ndim == 0}
        # torchmetrics has already summed over the ranks; sync_dist keeps Lightning from warning about it
        self.log_dict(scalars, logger=False, sync_dist=self.trainer.world_size > 1)
