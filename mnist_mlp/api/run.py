"""A finished run, read from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.api import html
from mnist_mlp.config import Config, config_from_dict
from mnist_mlp.errors import UserError
from mnist_mlp.runs.curves import Curves, read_curves
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Predictions, read_predictions
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.tables import classification_report, closing_table, decimal, percent

if TYPE_CHECKING:
    from mnist_mlp.data.picture import Picture
    from mnist_mlp.serving.evaluation import Evaluation
    from mnist_mlp.serving.export import Export
    from mnist_mlp.serving.prediction import Prediction
    from mnist_mlp.training.classifier import DigitClassifier


@dataclass(frozen=True)
class Run:
    """A finished run. path: its folder; result: the content of its result.json."""

    path: Path
    result: RunResult

    @cached_property
    def config(self) -> Config:
        """The configuration it ran with, every `auto` resolved."""
        return config_from_dict(self.result.config)

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Of the chosen checkpoint, by "split/name"; accuracies in [0, 1], None where a loss was not finite."""
        return self.result.metrics

    @property
    def status(self) -> str:
        """ "finished" or "diverged"."""
        return self.result.status

    @cached_property
    def curves(self) -> Curves:
        """The columns of metrics.csv by name ("epoch", "train/loss", "val/accuracy", ...), a number per epoch."""
        return read_curves(RunFolder(self.path).metrics_file)

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts on test, (10, 10): rows are the truth, columns the prediction."""
        return np.array(self.result.confusion_matrix, dtype=np.int64)

    @cached_property
    def predictions(self) -> Predictions | None:
        """truth, predicted (n,) and probabilities (n, 10) of the test images in file order; None without the file."""
        return read_predictions(RunFolder(self.path))

    def model(self) -> "DigitClassifier":
        """The net of the chosen checkpoint, in evaluation mode. UserError where the checkpoint is gone."""
        from mnist_mlp.training.classifier import DigitClassifier  # deferred: a run can be looked at without torch

        checkpoint = RunFolder(self.path).best_checkpoint
        if not checkpoint.is_file():
            raise UserError(f"{checkpoint} is not there: train this run again with resume='never'")
        return DigitClassifier.load_from_checkpoint(checkpoint)

    def evaluate(self, split: str = "test", data_root: str | None = None) -> "Evaluation":
        """The chosen checkpoint on "test", "val" or "train"; see `mnist_mlp.serving.evaluation`."""
        from mnist_mlp.serving.evaluation import evaluate_run

        return evaluate_run(self.path, split, data_root)

    def predict(self, pictures: "Picture | Sequence[Picture]", row: bool = False) -> "list[Prediction]":
        """The digit on each picture (files, their content, PIL images or arrays); with row, on each place of a row.

        A single picture may be given as it is; an array (n, height, width) is n of them. One that cannot be read gets a
        prediction with `error`.
        """
        from mnist_mlp.serving.prediction import as_pictures, predict_run

        return predict_run(self.path, as_pictures(pictures), row=row)

    def export(self, format: str, path: str | Path | None = None, weights: str = "auto") -> "Export":
        """Write the net as "onnx", "torch" or "html" (the draw page), checked against the checkpoint on 1,000 images.

        path: default is model.onnx, model.pt2 or draw.html in the run folder. weights: of a page, "float16" or "int8".
        """
        from mnist_mlp.serving.export import export_run

        return export_run(self.path, format, None if path is None else Path(path), weights)

    def report(self) -> str:
        """Precision, recall and F1 of each digit on test, as text."""
        return classification_report(self.result.confusion_matrix)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})\n{closing_table(self.result, self.path)}"

    def _repr_html_(self) -> str:
        rows = [(name, value) for name, value in self._facts() if value]
        figures = [html.curves_svg(title, lines, form) for title, lines, form in self._figures()]
        return html.card(f"Run {self.path}", [html.pairs(rows), *figures])

    def _facts(self) -> list[tuple[str, str]]:
        result, metrics = self.result, self.result.metrics
        data = result.data
        diverged = f"in epoch {result.epochs}: try a lower optim.lr" if self.status == "diverged" else ""
        return [
            ("diverged", diverged),
            ("test accuracy", percent(metrics["test/accuracy"])),
            ("test macro F1", decimal(metrics["test/f1_macro"])),
            ("test loss", decimal(metrics["test/loss"])),
            ("validation accuracy", percent(metrics["val/accuracy"]) if "val/accuracy" in metrics else ""),
            ("chosen epoch", f"{result.best_epoch} of {result.epochs}"),
            ("tested on", f"{data['test']:,} images ({data['source']})"),
            ("parameters", f"{result.parameters:,}"),
            ("fit time", f"{result.timing['fit_seconds']:.1f} s"),
        ]

    def _figures(self) -> list[tuple[str, dict[str, Any], str]]:
        return html.standard_figures(self.curves)


def load_run(path: str | Path) -> Run:
    """The finished run in a folder. UserError says what there is instead."""
    folder = RunFolder(Path(path))
    try:
        result = folder.result()
    except ValueError as error:
        raise UserError(f"{folder.result_file} cannot be read ({error}): train it again with resume='never'") from error
    if result is not None:
        return Run(folder.path, result)
    if folder.failure() is not None:
        raise UserError(f"{path} holds a job that failed: {(folder.failure() or {}).get('reason', 'see error.log')}")
    if folder.run() is not None:
        raise UserError(f"{path} holds a run that is not finished: the same fit goes on with it")
    inside = sorted(found.parent for found in folder.path.glob("*/result.json"))
    hint = f": did you mean load_sweep, or {inside[0]}?" if inside else ""
    raise UserError(f"{path} holds no run (no result.json in it){hint}")
