"""Run and Sweep: finished runs, read from their folders and shown as text or, in notebooks, as HTML."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.api import notebook as html
from mnist_mlp.compare.collect import VALUES, Job, Summary, compare, find_jobs, row_label, summarize
from mnist_mlp.compare.statistics import SIGNIFICANCE, mcnemar
from mnist_mlp.compare.tables import as_text
from mnist_mlp.config import Config
from mnist_mlp.errors import UserError
from mnist_mlp.options import from_dict
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, Predictions, read_curves, read_predictions
from mnist_mlp.runs.result import RunResult, classification_report, closing_table
from mnist_mlp.runs.settings import value_text

if TYPE_CHECKING:
    from torch import nn

    from mnist_mlp.data.picture import Picture
    from mnist_mlp.serve.evaluate import Evaluation
    from mnist_mlp.serve.export import Export
    from mnist_mlp.serve.predict import Prediction
    from mnist_mlp.training.classifier import DigitClassifier


@dataclass(frozen=True)
class Run:
    """A finished run. path: its folder; result: the content of its result.json."""

    path: Path
    result: RunResult

    @cached_property
    def config(self) -> Config:
        """The configuration it ran with, every `auto` resolved."""
        return from_dict(Config, self.result.config)

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Of the chosen checkpoint, by "split/name"; accuracies in [0, 1], None if a loss was not finite."""
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

    def model(self, network: "nn.Module | None" = None) -> "DigitClassifier":
        """The net of the chosen checkpoint, in evaluation mode.

        Args:
            network: the network of your own with which it was trained.

        Raises:
            UserError: the checkpoint is gone, or needs `network`.
        """
        from mnist_mlp.training.classifier import DigitClassifier  # deferred: a run can be looked at without torch

        checkpoint = RunFolder(self.path).best_checkpoint
        if not checkpoint.is_file():
            raise UserError(f"{checkpoint} is not there: train this run again with resume='never'")
        return DigitClassifier.load_from_checkpoint(checkpoint, network=network)

    def evaluate(self, split: str = "test", data_root: str | None = None) -> "Evaluation":
        """The chosen checkpoint on "test", "val" or "train"; see `mnist_mlp.serve.evaluate`."""
        from mnist_mlp.serve.evaluate import evaluate_run

        return evaluate_run(self.path, split, data_root)

    def predict(self, pictures: "Picture | Sequence[Picture]") -> "list[Prediction]":
        """The digit on each picture.

        Args:
            pictures: files, their content, PIL images or arrays; one, a list, or an array (n, height, width). One that
                cannot be read gets a prediction with `error`.
        """
        from mnist_mlp.serve.predict import as_pictures, predict_run

        return predict_run(self.path, as_pictures(pictures))

    def export(self, format: str, path: str | Path | None = None, weights: str = "auto") -> "Export":
        """Write the net, checked against the checkpoint on 1,000 images.

        Args:
            format: "onnx", "torch" or "html" (the draw page).
            path: by default model.onnx, model.pt2 or draw.html in the run folder.
            weights: of a page, "float16" or "int8".
        """
        from mnist_mlp.serve.export import export_run

        return export_run(self.path, format, None if path is None else Path(path), weights)

    def report(self) -> str:
        """Precision, recall and F1 of each digit on test, as text."""
        return classification_report(self.result.confusion_matrix)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})\n{closing_table(self.result, self.path)}"

    def _repr_html_(self) -> str:
        text = html.preformatted(closing_table(self.result, self.path))
        return html.card(f"Run {self.path}", [text, html.curves_picture(self.curves, self.result.best_epoch)])


def load_run(path: str | Path) -> Run:
    """The finished run in a folder. UserError describes what the folder holds instead."""
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
    inside = sorted(file.parent for file in folder.path.glob("*/result.json"))
    hint = f": did you mean load_sweep, or {inside[0]}?" if inside else ""
    raise UserError(f"{path} holds no run (no result.json in it){hint}")


MAX_CURVES, NOTEBOOK_COLUMNS = 6, 120


@dataclass(frozen=True)
class Difference:
    """Difference a - b in test accuracy, with its 95 % interval (None for one seed) and a verdict.

    Attributes:
        n: seeds that both have. The interval covers seeds and test images if the runs have predictions, else seeds.
        p_value: of no difference; for one run of each, of McNemar's test over the test images.
    """

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    p_value: float | None = None

    def __repr__(self) -> str:
        interval = "" if self.low is None else f" [{100 * self.low:+.2f}, {100 * (self.high or 0):+.2f}]"
        chance = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        return (
            f"{self.a} - {self.b}: {100 * self.difference:+.2f} points{interval}, n = {self.n}{chance}: {self.verdict}"
        )


@dataclass(frozen=True)
class Sweep:
    """Runs to compare. path: the folder that holds them."""

    path: Path
    jobs: Sequence[Job]

    @cached_property
    def summary(self) -> Summary:
        """The rows of the comparison, grouped over seeds, best first."""
        return summarize(list(self.jobs))

    @cached_property
    def runs(self) -> list[Run]:
        """The finished and the diverged runs."""
        return [Run(job.folder, job.result) for job in self.jobs if job.result is not None]

    def table(self) -> Any:
        """One row per job: what varies, seed, status, accuracies, times, folder.

        A pandas DataFrame if pandas is installed, else a list of dicts.
        """
        keys = [*self.summary.keys, *(["seed"] if self.summary.over_seeds else [])]
        rows = []
        for job in self.jobs:
            settings = {key: job.settings.get(key) for key in keys}
            texts = {key: value_text(value) for key, value in settings.items() if isinstance(value, list)}
            values = {column: read(job.result) if job.result else None for column, read in VALUES.items()}
            rows.append({**settings, **texts, **values, "status": job.status, "folder": str(job.folder)})
        if importlib.util.find_spec("pandas") is None:
            return rows
        import pandas  # type: ignore[import-untyped,unused-ignore]  # deferred, since it is optional

        return pandas.DataFrame(rows)

    def best(self) -> Run:
        """The run that is best on validation among those of the best setting, which the summary chooses."""
        row = next((row for row in self.summary.rows if row.best), None)
        if row is None:
            raise UserError(f"{self.path} holds no finished run")
        finished = [job for job in row.jobs if job.status == "finished"] or row.jobs
        metric = "val/accuracy" if self.summary.ranked_by == "val_accuracy" else "test/accuracy"
        return load_run(max(finished, key=lambda job: job.result.metric(metric) if job.result else -1.0).folder)

    def compare(self, a: Mapping[str, Any] | str, b: Mapping[str, Any] | str) -> Difference:
        """The difference a - b in test accuracy, paired over the seeds that both have.

        Args:
            a: settings by dotted key, such as {"optim.lr": 0.01}, or the name of a job's folder.
            b: as a.
        """
        first, second = self._chosen(a), self._chosen(b)
        if len(first) == len(second) == 1:  # McNemar's test over the test images: seeds cannot tell
            one, two = (load_run(job.folder) for job in (*first, *second))
            gap = one.result.metric("test/accuracy") - two.result.metric("test/accuracy")
            p_value, words = None, "one run of each: no verdict"
            left, right = one.predictions, two.predictions
            if left is not None and right is not None and len(left.truth) == len(right.truth):
                p_value = mcnemar(left.correct.tolist(), right.correct.tolist()).p_value
                words = "distinguishable" if p_value < SIGNIFICANCE else "not distinguishable on these images"
            return Difference(_words(a), _words(b), gap, None, None, 1, words, p_value)
        compared = compare(first, second)
        if compared is None:
            raise UserError(f"{_words(a)} and {_words(b)} have no seed in common: train both with the same seeds")
        paired, words = compared.decisive, compared.verdict.replace("the best", "b")
        return Difference(
            *(_words(a), _words(b), paired.mean, paired.low, paired.high, paired.n, words, compared.p_value)
        )

    def __len__(self) -> int:
        return len(self.jobs)

    def __repr__(self) -> str:
        return f"Sweep({str(self.path)!r}, {len(self.jobs)} jobs)\n{as_text(self.summary)}"

    def _repr_html_(self) -> str:
        from mnist_mlp.plots.sweep import learning_curves  # deferred: matplotlib
        from mnist_mlp.reporting.data import PageContext

        parts = [html.preformatted(as_text(self.summary, NOTEBOOK_COLUMNS))]
        names = [row_label(self.summary, row) or "all" for row in self.summary.rows]
        groups = list(zip(names, PageContext(self.summary).group_curves, strict=True))[:MAX_CURVES]
        if shown := [group for group in groups if group[1]]:
            parts.append(html.picture(learning_curves(shown), "learning curves of the best settings"))
        return html.card(f"Sweep {self.path}, {len(self.jobs)} jobs", parts)

    def _chosen(self, which: Mapping[str, Any] | str) -> list[Job]:
        """The finished jobs with these settings, or in this folder."""
        if isinstance(which, str):
            jobs = [job for job in self.jobs if job.folder.name == which]
        else:
            wanted = {key: value_text(value) for key, value in which.items()}
            jobs = [job for job in self.jobs if wanted == {key: value_text(job.settings.get(key)) for key in wanted}]
        jobs = [job for job in jobs if job.result is not None]
        if not jobs:
            varying = ", ".join(self.summary.keys) or "nothing but the seed"
            raise UserError(f"{_words(which)} is not a finished run of {self.path}: settings that vary: {varying}")
        return jobs


def load_sweep(path: str | Path) -> Sweep:
    """The runs in a folder and below it; UserError if there are none."""
    folder = Path(path)
    jobs = sorted(find_jobs([folder]), key=lambda job: str(job.folder))
    if not jobs:
        raise UserError(f"{path} holds no run: give the folder of a sweep, such as outputs/sweeps/NAME")
    return Sweep(folder, jobs)


def _words(which: Mapping[str, Any] | str) -> str:
    if isinstance(which, str):
        return which
    return ", ".join(f"{key}={value_text(value)}" for key, value in which.items())
