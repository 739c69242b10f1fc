"""Callbacks for metrics.csv, progress on the console, TensorBoard, divergence and signals."""

import math
import os
import statistics
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.console import bar, can_redraw, columns, is_unicode, shortened, styled
from mnist_mlp.runs.files import sync_file, to_csv, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import tag_of
from mnist_mlp.startup import without_tensorflow
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.metrics import to_float

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


REFRESH_SECONDS = 0.2
MAX_BAR_CELLS = 30
CLEAR = "\r\x1b[2K"
"""Erases the current line of a terminal."""


class RunProgress:
    """Console output of a run: a line per epoch and, on a terminal, a bar; a sweep's job (`label`) has only the bar.

    ends_early: whether the run may stop early; the remaining time is then an upper bound.
    """

    def __init__(self, shown: bool, label: str | None = None) -> None:
        self.ends_early = False
        self._label = label
        self._prints_epochs = shown and label is None
        self._shows_bar = shown and can_redraw()
        self._last_refresh = 0.0
        self._is_compiling = False
        self._epoch_seconds: list[float] = []

    def begin(self, validates: bool) -> None:
        """Print the column headers."""
        if self._prints_epochs:
            val = f"{'val loss':>10} {'val acc':>9}" if validates else ""
            print(f"{'epoch':>9} {'train loss':>11} {'train acc':>10} {val} {'lr':>9} {'time':>8}", flush=True)

    def compiling(self) -> None:
        """Report that compilation starts."""
        if self._prints_epochs:
            self._is_compiling = True
            print("compiling the step ...", end="", flush=True)

    def compiled(self, seconds: float) -> None:
        """Report the compile time."""
        if self._is_compiling:
            self._is_compiling = False
            print(f" {seconds:.1f} s; cached for later runs", flush=True)

    def within(self, epoch: int, max_epochs: int, fraction: float, elapsed: float, limit: float = math.inf) -> None:
        """Refresh the progress bar.

        fraction: of the epoch (from 1), in (0, 1]; elapsed: seconds since its start; limit: maximum seconds left.
        """
        now = time.perf_counter()
        if not self._shows_bar or now - self._last_refresh < REFRESH_SECONDS:
            return
        self._last_refresh = now
        per_epoch = statistics.median(self._epoch_seconds) if self._epoch_seconds else elapsed / fraction
        remaining = min(limit, max(0.0, per_epoch - elapsed) + per_epoch * (max_epochs - epoch))
        status = f"{100 * fraction:3.0f} %, {'at most' if self.ends_early else 'about'} {_clock(remaining)} left"
        counter = f"{epoch:>4}/{max_epochs:<4} "
        width = columns() - 1
        if self._label is not None:
            label_width = max(0, width - len(counter) - len(status) - 1)
            label = shortened(self._label, label_width, "…" if is_unicode() else "...")
            print(f"{CLEAR}{f'{label}{counter}{status}'[:width]}", end="", flush=True)
            return
        cells = min(MAX_BAR_CELLS, width - len(counter) - len(status) - 2)
        line = f"{counter}{status}"[:width] if cells < 5 else f"{counter}{bar(fraction, cells)}  {status}"
        print(f"{CLEAR}{line}", end="", flush=True)

    def epoch(self, row: Mapping[str, float], max_epochs: int, is_best: bool, seconds: float) -> None:
        """Print the line of an epoch. row: of metrics.csv; is_best: on validation so far; seconds: with validation."""
        self._epoch_seconds.append(seconds)
        if not self._prints_epochs:
            return
        val = f"{row['val/loss']:10.4f} {100 * row['val/accuracy']:7.2f} %" if "val/loss" in row else ""
        print(
            f"{CLEAR if self._shows_bar else ''}{row['epoch']:>4.0f}/{max_epochs:<4} {row['train/loss']:11.4f} "
            f"{100 * row['train/accuracy']:8.2f} % {val} {row['lr']:9.3g} {seconds:6.1f} s"
            f"{' ' + styled('best', 'green') if is_best else ''}",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


CURVES = ("accuracy", "loss")
CONFUSION_MATRIX_EPOCHS = frozenset(4**power for power in range(16))


class TestSetMonitor(pl.Callback):
    """Loss and accuracy on test after each epoch, in `curve`: for plots, never for model selection."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images, labels
        self.curve: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the test set, in the precision of validation and of the final test."""
        assert isinstance(pl_module, DigitClassifier)
        with trainer.precision_plugin.forward_context():
            logits = pl_module.logits(self._images)
        loss = cross_entropy(logits.double(), self._labels.cpu())
        accuracy = (logits.argmax(1) == self._labels.cpu()).double().mean()
        self.curve = {"test/loss": loss.item(), "test/accuracy": accuracy.item()}


class EpochLog(pl.Callback):
    """Callback that collects a row of metrics per epoch, writes metrics.csv and prints progress.

    `epoch_seconds` is the training time of an epoch, without validation; `elapsed_seconds` is the time of fit so far,
    without interruptions. Both exclude compile time. When `elapsed_seconds` reaches `max_seconds` (0: never), training
    stops, and `stopped_at_epoch` is the number of epochs, with a fraction.
    """

    stopped_at_epoch: float | None = None

    def __init__(
        self,
        folder: RunFolder,
        progress: bool = True,
        job_label: str | None = None,
        monitor: TestSetMonitor | None = None,
        max_seconds: float = 0.0,
    ) -> None:
        self.rows: list[dict[str, float]] = []
        self._max_seconds = max_seconds or math.inf
        self._folder, self._monitor = folder, monitor
        self._progress = RunProgress(progress, job_label)
        self._image_count, self._fraction = 0, 1.0
        self._seconds_before = self._train_seconds = self._compile_seconds = 0.0
        self._fit_start = self._epoch_start = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows and the elapsed time."""
        self.rows = list(state_dict["rows"])
        self._seconds_before = self.rows[-1]["elapsed_seconds"] if self.rows else 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a resumed run stopped that has no time left."""
        self._stop_in_time(trainer, self._seconds_before, len(self.rows))

    def _stop_in_time(self, trainer: pl.Trainer, seconds: float, epochs: float) -> None:
        """Stop training if `max_seconds` have passed on rank 0."""
        if self._max_seconds < math.inf and trainer.strategy.broadcast(seconds >= self._max_seconds):
            if not trainer.should_stop and epochs < (trainer.max_epochs or 0):
                self.stopped_at_epoch = epochs
            trainer.should_stop = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock and print the column headers."""
        self._fit_start = time.perf_counter()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._image_count = len(data.split.train)
        if trainer.is_global_zero:
            self._progress.ends_early = bool(trainer.early_stopping_callbacks) or self._max_seconds < math.inf
            self._progress.begin(bool(trainer.num_val_batches))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_start = time.perf_counter()
        assert isinstance(pl_module, DigitClassifier)
        if pl_module.compile_seconds == 0:
            self._progress.compiling()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Exclude compile time from the clocks and refresh the progress bar."""
        if self._max_seconds < math.inf and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # steps are only queued
        now = time.perf_counter()
        assert isinstance(pl_module, DigitClassifier)
        compile_seconds = (pl_module.compile_seconds or 0.0) - self._compile_seconds
        if compile_seconds:
            self._compile_seconds += compile_seconds
            self._epoch_start += compile_seconds
            self._fit_start += compile_seconds
            self._progress.compiled(compile_seconds)
        elapsed, total = now - self._epoch_start, self._seconds_before + now - self._fit_start
        fraction = (batch_idx + 1) / trainer.num_training_batches
        self._stop_in_time(trainer, total, trainer.current_epoch + fraction)
        if trainer.is_last_batch or trainer.should_stop:
            self._train_seconds, self._fraction = elapsed, fraction
        if trainer.is_global_zero:
            left = max(0.0, self._max_seconds - total)
            self._progress.within(trainer.current_epoch + 1, trainer.max_epochs or 0, fraction, elapsed, left)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row, write metrics.csv and print the epoch."""
        now = time.perf_counter()
        assert isinstance(pl_module, DigitClassifier)
        items, splits = trainer.callback_metrics.items(), ("train/", "val/")  # each access collects the metrics anew
        metrics = {name: to_float(value) for split in splits for name, value in items if name.startswith(split)}
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **metrics,
            **(self._monitor.curve if self._monitor else {}),
            "lr": pl_module.lr_at(trainer.global_step - 1),
            "epoch_seconds": self._train_seconds,
            "images_per_second": self._fraction * self._image_count / self._train_seconds,
            "elapsed_seconds": self._seconds_before + now - self._fit_start,
        }
        self.rows.append(row)
        self._stop_in_time(trainer, row["elapsed_seconds"], len(self.rows))
        if not trainer.is_global_zero:
            return
        write_text(self._folder.metrics_file, to_csv(list(self.rows[0]), [list(r.values()) for r in self.rows]))
        # the checkpoint, too, is the first of equal epochs
        is_best = "val/accuracy" in row and all(r["val/accuracy"] < row["val/accuracy"] for r in self.rows[:-1])
        self._progress.epoch(row, trainer.max_epochs or 0, is_best, now - self._epoch_start)


class TensorBoardLog(pl.Callback):
    """Callback that logs scalars per epoch (step = epoch, from 1) and, if `figures`, validation confusion matrices.

    The matrices are drawn after epochs 1, 4, 16, 64, ..., since the matrix changes most in early epochs.
    """

    def __init__(self, folder: RunFolder, log: EpochLog, figures: bool) -> None:
        self._folder, self._log, self._figures = folder, log, figures
        self._purge_step: int | None = None
        self._sizes: dict[str, int] = {}
        self._previous_files: set[str] = set()

    @cached_property
    def writer(self) -> "SummaryWriter":
        """The event writer, opened on first use; only the main process may use it."""
        with without_tensorflow():
            from torch.utils.tensorboard import SummaryWriter  # deferred: training can start without tensorboard

        writer = SummaryWriter(self._folder.tensorboard, purge_step=self._purge_step)
        if not self._previous_files:
            writer.add_custom_scalars(layout(self._log.rows[-1]))
        return writer

    def state_dict(self) -> dict[str, Any]:
        """Return the sizes of the event files."""
        return {"sizes": self._sizes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the sizes of the event files."""
        self._sizes = dict(state_dict["sizes"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the events of epochs that are repeated, in the files and in a TensorBoard that is running."""
        self._purge_step = len(self._log.rows) + 1 if self._log.rows else None
        if not trainer.is_global_zero:
            return
        for path in self._folder.event_files():
            size = self._sizes.get(path.name, 0)
            if size:
                os.truncate(path, min(size, path.stat().st_size))
            else:
                path.unlink()
        self._previous_files = {path.name for path in self._folder.event_files()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's scalars and confusion matrix."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DigitClassifier)
        row, val = self._log.rows[-1], pl_module.class_results.get("val")
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name not in ("epoch", "step", "elapsed_seconds"):
                self.writer.add_scalar(tag_of(name), value, epoch)
        for name, f1 in zip(pl_module.class_names, val["f1"] if val else (), strict=False):
            self.writer.add_scalar(f"val_f1_per_class/{name}", f1.item(), epoch)
        if val and self._figures and epoch in CONFUSION_MATRIX_EPOCHS:
            from mnist_mlp.plots.run import confusion  # deferred: training can start without matplotlib
            from mnist_mlp.training.artifacts import add_figure

            title = f"Validation after epoch {epoch}, accuracy {100 * row['val/accuracy']:.2f} %"
            figure = confusion(val["confusion_matrix"].numpy(), title, 0.01, pl_module.class_names)
            add_figure(self.writer, "val/confusion_matrix", figure, epoch)
        self.writer.flush()
        for path in self._folder.event_files():
            if path.name not in self._previous_files:
                sync_file(path)
            self._sizes[path.name] = path.stat().st_size


def layout(row: Mapping[str, float]) -> dict[str, dict[str, list[Any]]]:
    """Lay out TensorBoard's custom scalars for a row of metrics.csv.

    TensorBoard has one color per run, so curves of one chart differ only by their markers. Validation has separate
    charts, in which colors identify runs.
    """
    validation: dict[str, list[Any]] = {name: ["Multiline", [f"val/{name}"]] for name in CURVES if f"val/{name}" in row}
    splits = [split for split in ("train", "val", "test") if f"{split}/loss" in row]
    combined: dict[str, list[Any]] = {name: ["Multiline", [f"{split}/{name}" for split in splits]] for name in CURVES}
    title = "training against validation" if validation else "training"
    return {**({"validation": validation} if validation else {}), title: combined}


class StopOnDivergence(pl.Callback):
    """Callback that stops after an epoch with a NaN or infinite loss, and sets `diverged`."""

    diverged = False

    def state_dict(self) -> dict[str, Any]:
        """Return whether the run has diverged."""
        return {"diverged": self.diverged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore whether the run has diverged."""
        self.diverged = state_dict["diverged"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a resumed run stopped if it had diverged or stopped early."""
        if self.diverged or any(callback.stopped_epoch for callback in trainer.early_stopping_callbacks):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop training if a loss is not finite."""
        metrics = trainer.callback_metrics
        if not all(math.isfinite(metrics[name].item()) for name in ("train/loss", "val/loss") if name in metrics):
            self.diverged = trainer.should_stop = True
