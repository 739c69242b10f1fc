"""What happens after each epoch: metrics.csv, the console, TensorBoard, stopping on divergence."""

import math
import os
import statistics
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.console import bar, can_redraw, columns, is_unicode, shortened, styled
from mnist_mlp.errors import begin_chunk, end_chunk
from mnist_mlp.runs.files import sync_file, to_csv, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import tag_of
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.metrics import to_float

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


PASSING_SECONDS = 0.2
BAR = 30
"""Most cells of the bar."""
CLEAR = "\r\x1b[2K"
"""Erases the line on a terminal."""


class RunProgress:
    """Prints a run's epochs. place: names a job of a sweep, which has no lines but, on a terminal, the passing one.

    ends_early: a run may stop before its last epoch, so that the time left is the longest.
    """

    def __init__(self, shown: bool, place: str | None = None) -> None:
        self.ends_early = False
        self._place = place
        self._lines = shown and place is None
        self._passing = shown and can_redraw()
        self._printed = 0.0
        self._compiles = False
        self._seconds: list[float] = []

    def begin(self, validates: bool) -> None:
        """Print the heads of the columns."""
        if self._lines:
            val = f"{'val loss':>10} {'val acc':>9}" if validates else ""
            print(f"{'epoch':>9} {'train loss':>11} {'train acc':>10} {val} {'lr':>9} {'time':>8}", flush=True)

    def compiling(self) -> None:
        """Say that the wait for the compiler begins."""
        if self._lines:
            self._compiles = True
            print("compiling the step ...", end="", flush=True)

    def compiled(self, seconds: float) -> None:
        """Say that it has ended."""
        if self._compiles:
            self._compiles = False
            print(f" {seconds:.1f} s; kept for later runs", flush=True)

    def within(self, epoch: int, max_epochs: int, part: float, elapsed: float) -> None:
        """Show how far an epoch (from 1) is: the part of it that is done, in (0, 1], and the seconds since it began."""
        now = time.perf_counter()
        if not self._passing or now - self._printed < PASSING_SECONDS:
            return
        self._printed = now
        each = statistics.median(self._seconds) if self._seconds else elapsed / part
        left = max(0.0, each - elapsed) + each * (max_epochs - epoch)
        words = f"{100 * part:3.0f} %, {'at most' if self.ends_early else 'about'} {_clock(left)} left"
        start = f"{epoch:>4}/{max_epochs:<4} "
        room = columns() - 1
        if self._place is not None:
            shown = shortened(self._place, max(0, room - len(start) - len(words) - 1), "…" if is_unicode() else "...")
            print(f"{CLEAR}{f'{shown}{start}{words}'[:room]}", end="", flush=True)
            return
        cells = min(BAR, room - len(start) - len(words) - 2)
        line = f"{start}{words}"[:room] if cells < 5 else f"{start}{bar(part, cells)}  {words}"
        print(f"{CLEAR}{line}", end="", flush=True)

    def epoch(self, row: Mapping[str, float], max_epochs: int, best: bool, seconds: float) -> None:
        """Print an epoch, marked where it is the best on validation so far. row: of metrics.csv; seconds: all of it."""
        self._seconds.append(seconds)
        if not self._lines:
            return
        val = f"{row['val/loss']:10.4f} {100 * row['val/accuracy']:7.2f} %" if "val/loss" in row else ""
        print(
            f"{CLEAR if self._passing else ''}{row['epoch']:>4.0f}/{max_epochs:<4} {row['train/loss']:11.4f} "
            f"{100 * row['train/accuracy']:8.2f} % {val} {row['lr']:9.3g} {seconds:6.1f} s"
            f"{' ' + styled('best', 'green') if best else ''}",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


CURVES = ("accuracy", "loss")
DRAWN = frozenset(4**power for power in range(16))
"""Epochs after which the validation confusion matrix is drawn."""


class TestSetMonitor(pl.Callback):
    """Loss and accuracy on test after each epoch, in `curve`, for plots only: selection never sees them."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images, labels
        self.curve: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DigitClassifier)
        with trainer.precision_plugin.forward_context():  # in the number format of validation and of the final test
            logits = pl_module.logits(self._images)
        loss = cross_entropy(logits.double(), self._labels.cpu())
        accuracy = (logits.argmax(1) == self._labels.cpu()).double().mean()
        self.curve = {"test/loss": loss.item(), "test/accuracy": accuracy.item()}


class EpochLog(pl.Callback):
    """One row per epoch: in metrics.csv and, as `RunProgress` has it, printed.

    `epoch_seconds` is the training part of an epoch, `elapsed_seconds` all of fit so far, interruptions not counted;
    both without compiling.
    """

    def __init__(
        self,
        folder: RunFolder,
        progress: bool = True,
        job_label: str | None = None,
        monitor: TestSetMonitor | None = None,
    ) -> None:
        self.rows: list[dict[str, float]] = []
        self._folder, self._monitor = folder, monitor
        self._progress = RunProgress(progress, job_label)
        self._images = 0
        self._earlier = self._train_seconds = self._compile_seconds = 0.0
        self._fit_start = self._epoch_start = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self._earlier = self.rows[-1]["elapsed_seconds"] if self.rows else 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit_start = time.perf_counter()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._images = len(data.split.train)
        if trainer.is_global_zero:
            self._progress.ends_early = bool(trainer.early_stopping_callbacks)
            self._progress.begin(bool(trainer.num_val_batches))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = time.perf_counter()
        assert isinstance(pl_module, DigitClassifier)
        if pl_module.compile_seconds == 0:
            self._progress.compiling()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        assert isinstance(pl_module, DigitClassifier)
        compiling = (pl_module.compile_seconds or 0.0) - self._compile_seconds
        if compiling:
            self._compile_seconds += compiling
            self._epoch_start += compiling
            self._fit_start += compiling
            self._progress.compiled(compiling)
        if trainer.is_last_batch:
            self._train_seconds = now - self._epoch_start
        if trainer.is_global_zero:
            part = (batch_idx + 1) / trainer.num_training_batches
            self._progress.within(trainer.current_epoch + 1, trainer.max_epochs or 0, part, now - self._epoch_start)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        assert isinstance(pl_module, DigitClassifier)
        computed = trainer.callback_metrics
        metrics = {
            name: to_float(value)
            for split in ("train/", "val/")
            for name, value in computed.items()
            if name.startswith(split)
        }
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **metrics,
            **(self._monitor.curve if self._monitor else {}),
            "lr": pl_module.lr_at(trainer.global_step - 1),
            "epoch_seconds": self._train_seconds,
            "images_per_second": self._images / self._train_seconds,
            "elapsed_seconds": self._earlier + now - self._fit_start,
        }
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        write_text(self._folder.metrics_file, to_csv(list(self.rows[0]), [list(one.values()) for one in self.rows]))
        # as the checkpoint is chosen: of equal ones the first
        best = "val/accuracy" in row and all(one["val/accuracy"] < row["val/accuracy"] for one in self.rows[:-1])
        self._progress.epoch(row, trainer.max_epochs or 0, best, now - self._epoch_start)


class TensorBoardLog(pl.Callback):
    """Scalars of every epoch (step = epoch, from 1) and, with figures, some epochs' validation confusion matrix.

    It is drawn after epochs 1, 4, 16, 64, ...: where the matrix changes, and not for each of a thousand epochs.
    """

    def __init__(self, folder: RunFolder, log: EpochLog, figures: bool) -> None:
        self._folder, self._log, self._figures = folder, log, figures
        self._purge: int | None = None
        self._sizes: dict[str, int] = {}
        self._earlier: set[str] = set()

    @cached_property
    def writer(self) -> "SummaryWriter":
        """Opened on first use, until `close`; on the main process only."""
        from torch.utils.tensorboard import SummaryWriter  # deferred: training can start without tensorboard

        writer = SummaryWriter(self._folder.tensorboard, purge_step=self._purge)
        if not self._earlier:
            writer.add_custom_scalars(layout(self._log.rows[-1]))
        return writer

    def state_dict(self) -> dict[str, Any]:
        return {"sizes": self._sizes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sizes = dict(state_dict["sizes"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # a TensorBoard that is looking on drops the points of epochs that are now repeated
        self._purge = len(self._log.rows) + 1 if self._log.rows else None
        if trainer.is_global_zero:
            self._forget_later_points()

    def _forget_later_points(self) -> None:
        """Cut off what was written after the checkpoint that training goes on from."""
        for path in self._folder.event_files():
            size = self._sizes.get(path.name, 0)
            if size:
                os.truncate(path, min(size, path.stat().st_size))
            else:
                path.unlink()
        self._earlier = {path.name for path in self._folder.event_files()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DigitClassifier)
        row, val = self._log.rows[-1], pl_module.class_results.get("val")
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name not in ("epoch", "step", "elapsed_seconds"):
                self.writer.add_scalar(tag_of(name), value, epoch)
        for digit, f1 in enumerate(val["f1"] if val else ()):
            self.writer.add_scalar(f"val_f1_per_class/{digit}", f1.item(), epoch)
        if val and self._figures and epoch in DRAWN:
            from mnist_mlp.plots.run import confusion  # deferred: training can start without matplotlib
            from mnist_mlp.training.artifacts import add_figure

            title = f"Validation after epoch {epoch}, accuracy {100 * row['val/accuracy']:.2f} %"
            figure = confusion(val["confusion_matrix"].numpy(), title, min_fraction=0.01)
            add_figure(self.writer, "val/confusion_matrix", figure, epoch)
        self.writer.flush()
        for path in self._folder.event_files():
            if path.name not in self._earlier:
                sync_file(path)
            self._sizes[path.name] = path.stat().st_size

    def close(self) -> None:
        """Flush and close the event file."""
        self.writer.close()


def layout(row: Mapping[str, float]) -> dict[str, dict[str, list[Any]]]:
    """TensorBoard's custom-scalars charts for these columns of metrics.csv.

    A run has one colour there, and the columns of a chart differ by their marks alone. So validation has charts of its
    own, in which colours tell runs apart, before those that show it beside training.
    """
    validation: dict[str, list[Any]] = {name: ["Multiline", [f"val/{name}"]] for name in CURVES if f"val/{name}" in row}
    splits = [split for split in ("train", "val", "test") if f"{split}/loss" in row]
    beside: dict[str, list[Any]] = {name: ["Multiline", [f"{split}/{name}" for split in splits]] for name in CURVES}
    title = "training against validation" if validation else "training"
    return {**({"validation": validation} if validation else {}), title: beside}


class StopOnDivergence(pl.Callback):
    """Stops after an epoch whose loss is NaN or infinite, and then sets `diverged`.

    A resumed run that had stopped, by this or by early stopping, stays stopped.
    """

    diverged = False

    def state_dict(self) -> dict[str, Any]:
        return {"diverged": self.diverged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.diverged = state_dict["diverged"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.diverged or any(callback.stopped_epoch for callback in trainer.early_stopping_callbacks):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        losses = [
            value.item() for name, value in trainer.callback_metrics.items() if name in ("train/loss", "val/loss")
        ]
        if not all(map(math.isfinite, losses)):
            self.diverged = trainer.should_stop = True


class FinishChunk(pl.Callback):
    """Lets a signal wait until the running chunk of steps is done."""

    def on_train_batch_start(self, *_: Any) -> None:
        begin_chunk()

    def on_train_batch_end(self, *_: Any) -> None:
        end_chunk()

    def on_exception(self, *_: Any) -> None:
        end_chunk()
