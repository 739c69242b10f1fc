"""Run and Sweep: results read from run folders, displayed as text or, in notebooks, as HTML."""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.api import notebook as html
from mnist_mlp.compare.collect import DATASET_KEYS, VALUES, Summary, summarize
from mnist_mlp.compare.difference import Difference, Side, compare_sides
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.compare.locate import locate_folder, locate_path
from mnist_mlp.compare.tables import as_text
from mnist_mlp.config import Config
from mnist_mlp.errors import UserError
from mnist_mlp.options import from_dict
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Predictions, read_curves, read_predictions
from mnist_mlp.runs.result import RunResult, classification_report, closing_table, percent
from mnist_mlp.runs.settings import joined, value_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from mnist_mlp.data.picture import Picture
    from mnist_mlp.serve.evaluate import Evaluation
    from mnist_mlp.serve.export import Export
    from mnist_mlp.serve.predict import Prediction
    from mnist_mlp.training.classifier import DigitClassifier


def _data_frame(data: Any, **options: Any) -> Any:
    """Convert to a pandas DataFrame if pandas is installed, else return the data."""
    if importlib.util.find_spec("pandas") is None:
        return data
    import pandas  # type: ignore[import-untyped,unused-ignore]  # deferred: optional

    return pandas.DataFrame(data, **options)


@dataclass(frozen=True)
class Run:
    """A finished or diverged run.

    Attributes:
        path: Its folder.
        result: The content of its result.json.
    """

    path: Path
    result: RunResult

    @cached_property
    def config(self) -> Config:
        """The run's configuration, with every `auto` resolved."""
        return from_dict(Config, self.result.config)

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Metrics of the best checkpoint by "split/name"; accuracies in [0, 1], None if a value is not finite."""
        return self.result.metrics

    @property
    def status(self) -> str:
        """Either "finished" or "diverged"."""
        return self.result.status

    @cached_property
    def curves(self) -> Any:
        """Columns of metrics.csv by name ("epoch", "train/loss", "val/accuracy", ...), one number per epoch.

        A pandas DataFrame indexed by epoch if pandas is installed, else a dict of lists.
        """
        curves = read_curves(RunFolder(self.path).metrics_file)
        return _data_frame(curves, index=range(1, 1 + max(map(len, curves.values()), default=0)))

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts of test images, (classes, classes) int64; rows are true classes, columns are predicted classes."""
        return np.array(self.result.confusion_matrix, dtype=np.int64)

    @cached_property
    def predictions(self) -> Predictions | None:
        """True and predicted classes (n,), probabilities (n, classes) on test; None without predictions.npz."""
        return read_predictions(RunFolder(self.path), len(self.result.classes))

    def model(self, network: "nn.Module | None" = None) -> "DigitClassifier":
        """Load the classifier from the best checkpoint, in evaluation mode on the CPU.

        Args:
            network: The module passed to `fit`, if the run was trained with one; its weights are replaced.

        Returns:
            A LightningModule from uint8 images (n, 28, 28) to logits (n, classes).

        Raises:
            UserError: The checkpoint is missing, or needs `network`.
        """
        from mnist_mlp.training.classifier import DigitClassifier  # deferred: inspecting a run needs no torch
        from mnist_mlp.training.trainer import default_torch_state

        checkpoint = RunFolder(self.path).best_checkpoint
        if not checkpoint.is_file():
            raise UserError(f"{checkpoint} is missing: train this run again with resume='never'")
        with default_torch_state():
            return DigitClassifier.load_from_checkpoint(checkpoint, network=network)

    def evaluate(self, split: str = "test", data_root: str | None = None) -> "Evaluation":
        """Evaluate the best checkpoint.

        Args:
            split: "test", "val", "train"; for a network trained on MNIST also "qmnist50k", "qmnist60k".
            data_root: Folder with the official files; default: the run's `data.root`.

        Returns:
            Metrics, confusion matrix, and logits (n, classes) float32 of the split's n images.

        Raises:
            UserError: The checkpoint or the images are missing.
        """
        from mnist_mlp.serve.evaluate import evaluate_run

        return evaluate_run(self.path, split, data_root)

    def predict(self, pictures: "Picture | Sequence[Picture]") -> "list[Prediction]":
        """Predict the digit, or class, on each picture.

        Args:
            pictures: Files, their bytes, PIL images or uint8 arrays (height, width[, channels]); one, several, or an
                array (n, height, width).

        Returns:
            One prediction per picture, in order; an unreadable picture has an `error`.
        """
        from mnist_mlp.serve.predict import as_pictures, predict_run

        return predict_run(self.path, as_pictures(pictures))

    def export(self, format: str, path: str | Path | None = None, weights: str = "auto") -> "Export":
        """Export the network, and check the file against the checkpoint on 1,000 images.

        Args:
            format: "onnx", "torch" (a torch.export program) or "html" (a page to draw on).
            path: Default: model.onnx, model.pt2 or draw.html in the run folder.
            weights: For "html": "float16", "int8", or "auto" (int8 if the page would exceed 1 MB).

        Returns:
            The file, and how closely it agrees with the checkpoint.

        Raises:
            UserError: The file cannot be written, or disagrees with the checkpoint.
        """
        from mnist_mlp.serve.export import export_run

        return export_run(self.path, format, None if path is None else Path(path), weights)

    def plot(self) -> "Figure":
        """Draw the learning curves and the confusion matrix on test.

        Returns:
            A matplotlib figure, which notebooks display.
        """
        from mnist_mlp.plots.run import overview  # deferred: matplotlib

        result, title = self.result, f"Test accuracy {percent(self.metrics['test/accuracy'])}"
        return overview(self.curves, result.best_epoch, self.confusion_matrix, title, result.classes)

    def report(self) -> str:
        """Format the test metrics of each class.

        Returns:
            Precision, recall, F1 and support as text, like scikit-learn's classification report.
        """
        return classification_report(self.result.confusion_matrix, self.result.classes)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})\n{closing_table(self.result, self.path)}"

    def _repr_html_(self) -> str:
        text = html.preformatted(closing_table(self.result, self.path))
        return html.card(f"Run {self.path}", [text, html.curves_picture(self.curves, self.result.best_epoch)])


def load_run(path: str | Path) -> Run:
    """Load a finished or diverged run.

    Args:
        path: The run folder, a name under outputs/, or "latest", as in the commands.

    Returns:
        The run; its files are read when they are used.

    Raises:
        UserError: The folder is not a run folder, or its run failed, is unfinished or is damaged.
    """
    folder = RunFolder(path := locate_path(path))
    try:
        result = folder.result()
    except ValueError as error:
        raise UserError(f"{folder.result_file} is damaged ({error}): train it again with resume='never'") from error
    if result is not None:
        return Run(folder.path, result)
    if folder.failure() is not None:
        raise UserError(f"{path}: this run failed: {(folder.failure() or {}).get('reason', 'see error.log')}")
    if folder.run() is not None:
        raise UserError(f"{path}: this run is unfinished: call fit again with the same settings to resume it")
    runs = sorted(file.parent for file in folder.path.glob("*/result.json"))
    hint = f": did you mean load_sweep, or {runs[0]}?" if runs else ""
    raise UserError(f"{path} is not a run folder (no result.json in it){hint}")


class Comparison(Difference):
    """A difference that notebooks display: the verdict, and below it what it rests on."""

    def _repr_html_(self) -> str:
        difference = repr(self).replace(f": {self.verdict}", "", 1)
        return html.card(f"{self.a} vs {self.b}: {self.verdict}", [escape(difference)])


MAX_PLOTTED, NOTEBOOK_COLUMNS = 25, 120


@dataclass(frozen=True)
class Sweep:
    """Runs to compare.

    Attributes:
        path: The folder that contains them.
        jobs: Its jobs, of any status.
    """

    path: Path
    jobs: Sequence[Job]

    @cached_property
    def summary(self) -> Summary:
        """The comparison table: one row per setting over its seeds, best first."""
        return summarize(list(self.jobs))

    @cached_property
    def runs(self) -> list[Run]:
        """All finished and diverged runs."""
        return [Run(job.folder, job.result) for job in self.jobs if job.result is not None]

    def table(self) -> Any:
        """Tabulate the jobs, a row each.

        Returns:
            A pandas DataFrame if pandas is installed, else a list of dicts, with the settings that vary, the seed,
            accuracies and F1 in [0, 1], loss in nats, parameters, seconds, status and folder.
        """
        keys = [*self.summary.keys, *(["seed"] if self.summary.over_seeds else [])]
        rows = []
        for job in self.jobs:
            settings = {key: job.settings.get(key) for key in keys}
            texts = {key: value_text(value) for key, value in settings.items() if isinstance(value, list)}
            values = {column: read(job.result) if job.result else None for column, read in VALUES.items()}
            rows.append({**settings, **texts, **values, "status": job.status, "folder": str(job.folder)})
        return _data_frame(rows)

    def best(self, settings: Mapping[str, Any] | None = None) -> Run:
        """Return the best run of the best setting, both by validation accuracy.

        Without validation images both are chosen by test accuracy, with a warning: their test accuracy is then biased.

        Args:
            settings: Only consider runs with these settings by dotted key; needed to choose one of several datasets,
                such as {"data.name": "fashion_mnist"}.

        Returns:
            The run with the highest accuracy among the seeds of the best setting.

        Raises:
            UserError: No run has finished, or the runs have different datasets, which have no common best.
        """
        if settings:
            return Sweep(self.path, self._matching_jobs(settings)).best()
        rows = [row for row in self.summary.rows if row.best]
        if len(rows) > 1:
            names = [str({key: row.settings[key] for key in DATASET_KEYS if key in row.settings}) for row in rows]
            raise UserError(f"{self.path} has a best run on each dataset: call best with {joined(names, 'or')}")
        row = next(iter(rows), None)
        if row is None:
            raise UserError(f"{self.path} has no finished run: train its jobs first")
        finished = [job for job in row.jobs if job.status == "finished"] or row.jobs
        if self.summary.ranked_by != "val_accuracy" and len(self.runs) > 1:
            warnings.warn(f"{self.path}: chosen by test accuracy, as some have no validation images", stacklevel=2)
        metric = "val/accuracy" if self.summary.ranked_by == "val_accuracy" else "test/accuracy"
        return load_run(max(finished, key=lambda job: job.result.metric(metric) if job.result else -1.0).folder)

    def plot(self) -> "Figure":
        """Draw the differences of the first MAX_PLOTTED settings to the best on their dataset, with their verdicts.

        Returns:
            A matplotlib figure, which notebooks display.

        Raises:
            UserError: No run has finished.
        """
        from mnist_mlp.reporting.publish import differences_to_best  # deferred: matplotlib

        rows = [row for row in self.summary.rows if row.values["test_accuracy"]]
        if not rows:
            raise UserError(f"{self.path} has no finished run: train its jobs first")
        return differences_to_best(self.summary, rows[:MAX_PLOTTED], with_verdicts=True)

    def compare(
        self, a: Mapping[str, Any] | str, b: Mapping[str, Any] | str, margin: float = 0.0, tries: int = 1
    ) -> Comparison:  # fmt: skip
        """Compare the test accuracy of two settings, like for like, or of two single runs, by McNemar's test.

        Only runs that have a counterpart are compared: with the same seed, and with the same value of every other
        setting that varies. P-values are Holm-adjusted for all pairs of settings, as in the table; of two values of a
        factor, for all pairs of values of each factor, as in the effects.

        Args:
            a: Settings by dotted key, such as {"optim.lr": 0.01}, or the name of a job's folder.
            b: What to compare with, specified like `a`.
            margin: The difference that `a` has to exceed for the decision "better", in [-1, 1].
            tries: Number of comparisons that are planned, if this is one of several; p-values are adjusted for all.

        Returns:
            The difference a - b, with the verdict and the decision of `python -m mnist_mlp.compare`.

        Raises:
            UserError: No finished run matches `a` or `b`, they share runs, or no runs match.
        """
        return Comparison(**vars(compare_sides(self.summary, self._side(a), self._side(b), margin, tries)))

    def _side(self, selection: Mapping[str, Any] | str) -> Side:
        self._matching_jobs(selection)  # raises if none is tested
        return Side(_text(selection), self._settings(selection), self._matching_jobs(selection, tested=False))

    def _settings(self, selection: Mapping[str, Any] | str) -> dict[str, str]:
        """The settings that a selection fixes, as text by dotted key."""
        if isinstance(selection, str):
            return {key: self._matching_jobs(selection)[0].text(key) for key in self.summary.keys}
        return {key: value_text(value) for key, value in selection.items()}

    def __len__(self) -> int:
        return len(self.jobs)

    def __repr__(self) -> str:
        return f"Sweep({str(self.path)!r}, {len(self.jobs)} jobs)\n{as_text(self.summary)}"

    def _repr_html_(self) -> str:
        panels = [html.preformatted(as_text(self.summary, NOTEBOOK_COLUMNS))]
        if len(self.runs) > 1:
            panels.insert(0, html.picture(self.plot(), "differences of the settings to the best"))
        return html.card(f"Sweep {self.path}, {len(self.jobs)} jobs", panels)

    def _matching_jobs(self, selection: Mapping[str, Any] | str, tested: bool = True) -> list[Job]:
        if isinstance(selection, str):
            jobs = [job for job in self.jobs if job.folder.name == selection]
        else:
            wanted = self._settings(selection).items()
            jobs = [job for job in self.summary.jobs if all(job.text(key) == text for key, text in wanted)]
        jobs = [job for job in jobs if job.result is not None or not tested]
        if not jobs:
            keys = ", ".join(self.summary.keys) or "only the seed"
            raise UserError(f"{_text(selection)} matches no finished run of {self.path}; settings that vary: {keys}")
        return jobs


def load_sweep(path: str | Path) -> Sweep:
    """Load all runs in a folder and its subfolders.

    Args:
        path: The sweep's folder, or any folder that contains run folders; also a name under outputs/, or "latest".

    Returns:
        Its jobs, of any status, in the order of their folders.

    Raises:
        UserError: The folder contains no run folder.
    """
    folder = locate_folder(path)
    jobs = sorted(find_jobs([folder]), key=lambda job: str(job.folder))
    if not jobs:
        raise UserError(f"{folder} contains no runs: use the folder of a sweep, such as outputs/sweeps/NAME")
    return Sweep(folder, jobs)


def _text(selection: Mapping[str, Any] | str) -> str:
    texts = [selection] if isinstance(selection, str) else [f"{key}={value_text(selection[key])}" for key in selection]
    return ", ".join(texts)
