"""The LightningModule: input scaling, the step, blocks of steps, metrics, optimiser and schedule."""

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.blocks import EVAL_BATCH, Block, BlockLoader, random_seed, send
from mnist_mlp.execution import Captured, CompiledStep, Execute, Step, in_turn
from mnist_mlp.metrics import MeanLoss, evaluation_metrics, training_metrics
from mnist_mlp.mlp import MLP
from mnist_mlp.step import TrainingStep
from mnist_mlp.update import Update

NORMALIZATIONS = {"raw": (0.0, 1.0), "symmetric": (0.5, 0.5), "standard": (0.1307, 0.3081)}
"""Mean and standard deviation, of pixels in [0, 1]; those of `standard` are the training images' own."""


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`, relative to `optim.lr`.

    Agrees with torch's CosineAnnealingLR, LinearLR (to 0) and OneCycleLR (its defaults, momentum not cycled).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total))
    if schedule == "linear":
        return 1 - step / total
    if schedule == "one_cycle":
        start, end, peak = 1 / 25, 1 / 25e4, 0.3 * total - 1
        low, part = (start, step / peak - 1) if step <= peak else (end, (step - peak) / (total - 1 - peak))
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part))
    return 1.0


class DigitClassifier(pl.LightningModule):
    """An MLP and all that is needed to train it; loads from its checkpoint without further arguments.

    normalization: "raw", "symmetric" or "standard"; optimizer: "sgd", "adam" or "adamw"; augmentation: the keyword
    arguments of `augment`. A Lightning batch is a `Block`; each of its mini-batches is one optimiser step and counts as
    one `global_step`. compile_step: run the step compiled; no hyper-parameter, since it changes rounding alone.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        hidden_layers: int = 3,
        hidden_units: Sequence[int] = (256,),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        normalization: str = "standard",
        optimizer: str = "sgd",
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        label_smoothing: float = 0.0,
        augmentation: dict[str, float] | None = None,
        seed: int = 0,
        compile_step: bool = False,
    ) -> None:
        super().__init__()
        hidden_units = list(hidden_units)
        augmentation = dict(augmentation or {})
        self.save_hyperparameters(ignore=["compile_step"])
        self.automatic_optimization = False
        self.mlp = MLP(hidden_layers, hidden_units, activation, dropout, batch_norm)
        mean, deviation = NORMALIZATIONS[normalization]
        self.register_buffer("scale", torch.tensor(1 / (255 * deviation)))
        self.register_buffer("shift", torch.tensor(-mean / deviation))
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.train_metrics = training_metrics()
        self.val_metrics, self.test_metrics = evaluation_metrics(), evaluation_metrics(calibration=True)
        self._augments = any(strength for name, strength in augmentation.items() if name != "elastic_sigma")
        self._total_steps = 0
        self._compile = compile_step
        self._execute: Execute | None = None
        self.compiled: CompiledStep | None = None
        """The compiled step of this training, where it was asked for."""
        self.results: dict[str, dict[str, Tensor]] = {}
        """Latest value of every metric of each split, on the CPU: by split and by name."""

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) uint8 -> logits: (n, 10)."""
        logits: Tensor = self.mlp(torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale))
        return logits

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """images: (n, 28, 28) uint8 on any device -> probabilities: (n, 10) float32 on the CPU."""
        was_training = self.training
        self.eval()
        parts = [self(part.to(self.device)).float().softmax(1).cpu() for part in images.split(EVAL_BATCH)]
        self.train(was_training)
        return torch.cat(parts)

    def training_step(self, block: Block) -> None:
        assert self._execute is not None
        first = self.global_step
        rates = [self.lr_at(step) for step in range(first, first + len(block.batches))]
        losses, logits = self._execute(block, send(torch.tensor(rates), self.device))
        self._count_steps(rates)
        self.train_loss.update(losses, self._sizes(block))
        self.train_metrics.update(logits, block.labels[torch.cat(block.batches)])
        if self.trainer.is_last_batch:  # not on_train_epoch_end, which comes after most callbacks
            self._log("train", self.train_loss, self.train_metrics)

    def validation_step(self, block: Block) -> None:
        self._evaluate(block, self.val_loss, self.val_metrics)

    def test_step(self, block: Block) -> None:
        self._evaluate(block, self.test_loss, self.test_metrics)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options = self.hparams
        rest: dict[str, Any] = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
        # holds settings and state; `Update` makes the steps. fused: the state of Adam is all on the parameters' device
        if options["optimizer"] == "sgd":
            return torch.optim.SGD(self.parameters(), momentum=options["momentum"], **rest)
        adam = torch.optim.Adam if options["optimizer"] == "adam" else torch.optim.AdamW
        return adam(self.parameters(), betas=(options["momentum"], 0.999), fused=True, **rest)

    def on_train_start(self) -> None:
        loader = self.trainer.train_dataloader
        assert isinstance(loader, BlockLoader)
        assert self.trainer.max_epochs is not None
        self._total_steps = loader.steps * self.trainer.max_epochs
        self._execute = self._execution()

    def on_train_end(self) -> None:
        self._execute = None

    def on_train_epoch_start(self) -> None:
        # every draw of an epoch is a function of (seed, epoch): a resumed run equals an unbroken one
        torch.manual_seed(random_seed(self.hparams["seed"], self.current_epoch, self.global_rank))

    def on_validation_epoch_end(self) -> None:
        self._log("val", self.val_loss, self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._log("test", self.test_loss, self.test_metrics)

    def lr_at(self, step: int) -> float:
        """The learning rate of an optimiser step, from 0."""
        return float(self.hparams["lr"]) * schedule_factor(self.hparams["schedule"], step, self._total_steps)

    def _execution(self) -> Execute:
        """How this run's blocks are run: on one GPU as CUDA graphs, compiled if asked for."""
        alone = self.trainer.world_size == 1
        step: Step = TrainingStep(
            self,
            Update(self._optimizer()),
            self.hparams["augmentation"] if self._augments else {},
            self.hparams["label_smoothing"],
            torch.autograd.grad if alone else self._averaged_gradients,
        )
        if self._compile:
            step = self.compiled = CompiledStep(step)
        execute = in_turn(step)
        return Captured(execute) if alone and self.device.type == "cuda" else execute

    def _averaged_gradients(self, loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """By a backward pass that DDP sees, and so averages over the devices."""
        self._optimizer().zero_grad()
        self.manual_backward(loss)
        return [weights.grad for weights in parameters if weights.grad is not None]

    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def _count_steps(self, rates: list[float]) -> None:
        """Tell Lightning of steps it cannot see: its global_step drives checkpoints and logs."""
        self._optimizer().param_groups[0]["lr"] = rates[-1]
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for tracker in (progress.total, progress.current):
            tracker.ready += len(rates)
            tracker.completed += len(rates)

    def _evaluate(self, block: Block, loss: MeanLoss, metrics: Any) -> None:
        for batch in block.batches:
            labels, logits = block.labels[batch], self(block.images[batch]).float()
            loss.update(cross_entropy(logits, labels)[None], self._sizes(block))
            metrics.update(logits, labels)

    @staticmethod
    def _sizes(block: Block) -> Tensor:
        return send(torch.tensor([len(batch) for batch in block.batches]), block.labels.device)

    def _log(self, split: str, loss: MeanLoss, metrics: Any) -> None:
        """Scalars go where checkpoints and early stopping look; the rest waits in `results`."""
        values = {"loss": loss.compute(), **metrics.compute()}
        loss.reset()
        metrics.reset()
        self.results[split] = {name: value.cpu() for name, value in values.items()}
        scalars = {f"{split}/{name}": value.float() for name, value in values.items() if value.ndim == 0}
        # torchmetrics has already added up the ranks; sync_dist only keeps Lightning from doubting it
        self.log_dict(scalars, logger=False, sync_dist=self.trainer.world_size > 1)
