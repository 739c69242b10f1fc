"""The runs of a sweep, read from their folders."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.api import notebook as html
from mnist_mlp.compare.collect import VALUES, Job, Summary, compare, find_jobs, row_label, summarize
from mnist_mlp.compare.statistics import SIGNIFICANCE, mcnemar
from mnist_mlp.compare.tables import as_text, reading_note, shown_cells
from mnist_mlp.config import Config, config_from_dict
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, Predictions, read_curves, read_predictions
from mnist_mlp.runs.result import RunResult, classification_report, closing_table, decimal, percent
from mnist_mlp.runs.settings import value_text

if TYPE_CHECKING:
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
        """The chosen checkpoint on "test", "val" or "train"; see `mnist_mlp.serve.evaluate`."""
        from mnist_mlp.serve.evaluate import evaluate_run

        return evaluate_run(self.path, split, data_root)

    def predict(self, pictures: "Picture | Sequence[Picture]", row: bool = False) -> "list[Prediction]":
        """The digit on each picture (files, their content, PIL images or arrays); with row, on each place of a row.

        A single picture may be given as it is; an array (n, height, width) is n of them. One that cannot be read gets a
        prediction with `error`.
        """
        from mnist_mlp.serve.predict import as_pictures, predict_run

        return predict_run(self.path, as_pictures(pictures), row=row)

    def export(self, format: str, path: str | Path | None = None, weights: str = "auto") -> "Export":
        """Write the net as "onnx", "torch" or "html" (the draw page), checked against the checkpoint on 1,000 images.

        path: default is model.onnx, model.pt2 or draw.html in the run folder. weights: of a page, "float16" or "int8".
        """
        from mnist_mlp.serve.export import export_run

        return export_run(self.path, format, None if path is None else Path(path), weights)

    def report(self) -> str:
        """Precision, recall and F1 of each digit on test, as text."""
        return classification_report(self.result.confusion_matrix)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})\n{closing_table(self.result, self.path)}"

    def _repr_html_(self) -> str:
        rows = [(name, value) for name, value in self._facts() if value]
        return html.card(
            f"Run {self.path}", [html.table((), rows), html.curves_picture(self.curves, self.result.best_epoch)]
        )

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


SHOWN_ROWS = 20
SHOWN_CURVES = 6
HIDDEN_COLUMNS = ("F1", "loss", "parameters")
"""Of the table in a notebook, which is narrow; `table()` has them all."""


@dataclass(frozen=True)
class Comparison:
    """What a has over b in test accuracy: the mean difference, its 95 % interval (None for one seed) and a verdict.

    n: seeds that both have. The interval is over seeds and images where the runs have predictions, else over seeds.
    p_value: of no difference; of one run of each, by McNemar's test over the test images.
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

        A pandas DataFrame where pandas is installed, else a list of dicts.
        """
        keys = [*self.summary.keys, *(["seed"] if self.summary.over_seeds else [])]
        rows = [self._line(job, keys) for job in self.jobs]
        if importlib.util.find_spec("pandas") is None:
            return rows
        import pandas  # type: ignore[import-untyped,unused-ignore]  # deferred, since it is optional

        return pandas.DataFrame(rows)

    def best(self) -> Run:
        """The best run: of the row that is best on average, chosen as the summary says, the seed best on validation."""
        row = next((row for row in self.summary.rows if row.best), None)
        if row is None:
            raise UserError(f"{self.path} holds no finished run")
        finished = [job for job in row.jobs if job.status == "finished"] or row.jobs
        by = "val/accuracy" if self.summary.ranked_by == "val_accuracy" else "test/accuracy"
        best = max(
            (job for job in finished if job.result), key=lambda job: job.result.metric(by) if job.result else 0.0
        )
        return load_run(best.folder)

    def compare(self, a: Mapping[str, Any] | str, b: Mapping[str, Any] | str) -> Comparison:
        """The difference a - b in test accuracy, paired over the seeds that both have.

        a, b: settings by dotted key, such as {"optim.lr": 0.01}, or the name of a job's folder.
        """
        one, other = self._chosen(a), self._chosen(b)
        if len(one) == len(other) == 1:
            return self._compare_two_runs(a, b, one[0], other[0])
        found = compare(one, other)
        if found is None:
            raise UserError(f"{_words(a)} and {_words(b)} have no seed in common: train both with the same seeds")
        gap, words = found.decisive, found.verdict.replace("the best", "b")
        return Comparison(_words(a), _words(b), gap.mean, gap.low, gap.high, gap.n, words, found.p_value)

    @staticmethod
    def _compare_two_runs(a: Mapping[str, Any] | str, b: Mapping[str, Any] | str, one: Job, other: Job) -> Comparison:
        """By McNemar's test over the test images, since one run of each says nothing about seeds."""
        accuracies = [job.result.metric("test/accuracy") for job in (one, other) if job.result is not None]
        first, second = (load_run(job.folder).predictions for job in (one, other))
        p_value, words = None, "one run of each: no verdict"
        if first is not None and second is not None and len(first.truth) == len(second.truth):
            p_value = mcnemar(first.correct.tolist(), second.correct.tolist()).p_value
            words = "distinguishable" if p_value < SIGNIFICANCE else "not distinguishable on these images"
        return Comparison(_words(a), _words(b), accuracies[0] - accuracies[1], None, None, 1, words, p_value)

    def __len__(self) -> int:
        return len(self.jobs)

    def __repr__(self) -> str:
        return f"Sweep({str(self.path)!r}, {len(self.jobs)} jobs)\n{as_text(self.summary)}"

    def _repr_html_(self) -> str:
        header, rows = shown_cells(self.summary)
        more = f"<div>and {len(rows) - SHOWN_ROWS} more rows</div>" if len(rows) > SHOWN_ROWS else ""
        note = f'<div style="opacity:.7;margin-top:4px;max-width:60em">{escape(reading_note(self.summary))}</div>'
        header, rows = _without(HIDDEN_COLUMNS, header, rows)
        body = html.table(header, rows[:SHOWN_ROWS]) + more + note
        return html.card(f"Sweep {self.path}, {len(self.jobs)} jobs", [body, *self._curves()])

    def _curves(self) -> list[str]:
        """The learning curves of the best rows as a picture, if there are any."""
        from mnist_mlp.plots.sweep import learning_curves  # deferred: matplotlib
        from mnist_mlp.reporting.data import Compared
        from mnist_mlp.reporting.sections_charts import groups_of

        names = [row_label(self.summary, row) or "all" for row in self.summary.rows]
        groups = groups_of(Compared(self.summary), names)
        shown = [group for group in groups[:SHOWN_CURVES] if group.curves]
        return [html.picture(learning_curves(shown), "learning curves of the best settings")] if shown else []

    def _line(self, job: Job, keys: Sequence[str]) -> dict[str, Any]:
        settings = {key: _plain(job.settings.get(key)) for key in keys}
        values = {column: read(job.result) if job.result else None for column, read in VALUES.items()}
        return {**settings, **values, "status": job.status, "folder": str(job.folder)}

    def _chosen(self, which: Mapping[str, Any] | str) -> list[Job]:
        def meant(job: Job) -> bool:
            if isinstance(which, str):
                return job.folder.name == which
            return all(value_text(job.settings.get(key)) == value_text(_plain(value)) for key, value in which.items())

        found = [job for job in self.jobs if job.result is not None and meant(job)]
        if found:
            return found
        varying = ", ".join(self.summary.keys) or "nothing but the seed"
        raise UserError(f"{_words(which)} is no finished run of {self.path}: there vary {varying}")


def load_sweep(path: str | Path) -> Sweep:
    """The runs in a folder and below it; UserError where there are none."""
    folder = Path(path)
    jobs = sorted(find_jobs([folder]), key=lambda job: str(job.folder))
    if not jobs:
        raise UserError(f"{path} holds no run: give the folder of a sweep, such as outputs/sweeps/NAME")
    return Sweep(folder, jobs)


def _without(names: Sequence[str], header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [place for place, name in enumerate(header) if name not in names]
    return [header[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _words(which: Mapping[str, Any] | str) -> str:
    if isinstance(which, str):
        return which
    return ", ".join(f"{key}={value_text(_plain(value))}" for key, value in which.items())


def _plain(value: Any) -> Any:
    """A list becomes a tuple of text, so that pandas can group by it."""
    value = getattr(value, "value", value)
    return value_text(value) if isinstance(value, list) else value
