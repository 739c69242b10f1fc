"""One row per run, finished or not: as runs.csv with all that is known of it, and as a table for readers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_mlp.analysis.collect import Job, Summary, display_names
from mnist_mlp.runs.files import to_csv
from mnist_mlp.runs.settings import short_names, short_values, value_text

FIRST = ("row", "best_row", "run", "display_name", "status", "reason", "fingerprint")
FIGURES = ("parameters", "epochs", "best_epoch")
SHOWN = {
    "val acc %": ("val/accuracy", 100, 2), "test acc %": ("test/accuracy", 100, 2), "F1": ("test/f1_macro", 1, 4),
    "loss": ("test/loss", 1, 4),
}  # fmt: skip
"""Columns for readers: metric, factor, digits."""


def runs_csv(summary: Summary, base: Path | None = None) -> str:
    """Every run once, the rows of the comparison in their order: place, folder, settings that vary, figures, the rest.

    row: place of its setting in the comparison, from 1; run: its folder, seen from `base` where it lies below it. Times
    are in seconds, accuracies in parts of one; what a run does not have is empty.
    """
    results = [job.result for job in summary.jobs if job.result is not None]
    metrics = dict.fromkeys(name for result in results for name in result.metrics)
    times = dict.fromkeys(name for result in results for name in result.timing)
    places = dict.fromkeys(name for result in results for name in result.environment)
    first, names = varied(summary), display_names(summary)
    rest = [key for key in dict.fromkeys(key for job in summary.jobs for key in job.settings) if key not in first]

    def line(place: int, best: bool, job: Job) -> list[Any]:
        start = [place, best, _relative(job.folder, base), names[job.folder], job.status, job.reason, job.fingerprint]
        measured: list[Any] = [None] * (len(metrics) + len(FIGURES) + len(times) + len(places))
        if (result := job.result) is not None:
            measured = [*map(result.metrics.get, metrics), result.parameters, result.epochs, result.best_epoch]
            measured += [*map(result.timing.get, times), *map(result.environment.get, places)]
        settings = (map(value_text, map(job.settings.get, keys)) for keys in (first, rest))
        return [*start, *next(settings), *measured, *next(settings)]

    header = [*FIRST, *first, *metrics, *FIGURES, *times, *places, *rest]
    return to_csv(header, [line(place, best, job) for place, best, job in _placed(summary)])


def shown_runs(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The table for readers: header and rows of text, "-" for what a run does not have; the folder's name is last."""
    keys = varied(summary)
    named = short_names(keys)
    shown = {key: short_values(job.settings.get(key) for job in summary.jobs) for key in keys}
    header = ["row", *named.values(), *SHOWN, "parameters", "best epoch", "fit s", "status", "run"]
    rows = []
    for place, _, job in _placed(summary):
        cells = [str(place), *(shown[key][value_text(job.settings.get(key))] for key in keys)]
        rows.append([*cells, *_figures(job), job.status, job.folder.name])
    return header, rows


def varied(summary: Summary) -> list[str]:
    """The settings in which runs differ, and the seed where it varies."""
    return [*summary.keys, *(["seed"] if summary.over_seeds else [])]


def _placed(summary: Summary) -> Iterator[tuple[int, bool, Job]]:
    for place, row in enumerate(summary.rows, 1):
        for job in row.jobs:
            yield place, row.best, job


def _figures(job: Job) -> list[str]:
    result = job.result
    if result is None:
        return ["-"] * (len(SHOWN) + 3)
    metrics = [(result.metrics.get(name), scale, digits) for name, scale, digits in SHOWN.values()]
    texts = ["-" if number is None else f"{scale * number:.{digits}f}" for number, scale, digits in metrics]
    epochs, seconds = f"{result.best_epoch} of {result.epochs}", f"{result.timing['fit_seconds']:.1f}"
    return [*texts, f"{result.parameters:,}", epochs, seconds]


def _relative(folder: Path, base: Path | None) -> str:
    return folder.relative_to(base).as_posix() if base is not None and folder.is_relative_to(base) else str(folder)
