"""Test images over all runs of a sweep: missed by every net, disputed between settings, doubtful labels."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Summary, row_label
from mnist_mlp.compare.load import labels_of
from mnist_mlp.runs.files import to_csv, write_text

DOUBTFUL_FRACTION = 0.9  # a label is doubtful if at least this fraction of the runs agrees on a different one
MIN_RUNS = 3
MAX_COLUMNS = 50  # settings with a column in digits.csv


@dataclass(frozen=True)
class Votes:
    """Predictions of all runs for the same n test images, in file order.

    missed: (n,) number of incorrect runs; missed_fraction: (rows, n) fraction of a row's runs that are incorrect.
    majority_label, majority_votes: (n,) the label that most runs predict, and how many do.
    doubtful: (n,) whether nearly all runs agree on a label other than the true one.
    names: row labels; left_out: number of runs without predictions or with predictions for other images.
    """

    truth: NDArray[np.uint8]
    missed: NDArray[np.int64]
    missed_fraction: NDArray[np.float64]
    majority_label: NDArray[np.int64]
    majority_votes: NDArray[np.int64]
    doubtful: NDArray[np.bool_]
    runs: int
    names: list[str]
    left_out: int

    @property
    def missed_by_all(self) -> NDArray[np.int64]:
        """Indices of the test images that all runs misclassify."""
        return np.flatnonzero(self.missed == self.runs)

    @property
    def most_telling(self) -> NDArray[np.int64]:
        """Indices of the test images on which rows differ, by decreasing range of `missed_fraction`."""
        fractions = self.missed_fraction
        ranges = fractions.max(0) - fractions.min(0)
        order = np.lexsort((-fractions.std(0), -ranges))
        return np.asarray(order[ranges[order] > 0])

    def accuracies(self) -> list[tuple[float, float]]:
        """Mean accuracy of each row, on all images and without the doubtful ones."""
        return [(float(row.mean()), float(row[~self.doubtful].mean())) for row in 1 - self.missed_fraction]


def votes(summary: Summary) -> Votes | None:
    """Count the predictions of all finished runs on the same images; None for fewer than `MIN_RUNS`."""
    finished = [(row, job) for row in summary.rows for job in row.jobs if job.result is not None]
    labels = [(row, job, pair) for row, job in finished if (pair := labels_of(job.folder)) is not None]
    test_sets = Counter((row.dataset, truth) for row, _, (truth, _) in labels).most_common(1)
    if not test_sets or test_sets[0][1] < MIN_RUNS:
        return None
    truth = np.frombuffer(test_sets[0][0][1], dtype=np.uint8)
    chosen = [(row, job, predicted) for row, job, (true, predicted) in labels if (row.dataset, true) == test_sets[0][0]]
    names = {id(row): row_label(summary, row) for row, *_ in chosen}
    errors: dict[int, list[NDArray[np.bool_]]] = {row: [] for row in names}
    counts = np.zeros((len(truth), len(chosen[0][1].classes)), dtype=np.int64)
    for row, _, predicted in chosen:
        counts[np.arange(len(truth)), predicted] += 1
        errors[id(row)].append(predicted != truth)
    majority_label, majority_votes = counts.argmax(1), counts.max(1)
    return Votes(
        truth=truth,
        missed=len(chosen) - counts[np.arange(len(truth)), truth],
        missed_fraction=np.stack([np.mean(row_errors, 0) for row_errors in errors.values()]),
        majority_label=majority_label,
        majority_votes=majority_votes,
        doubtful=(majority_label != truth) & (majority_votes >= DOUBTFUL_FRACTION * len(chosen)),
        runs=len(chosen),
        names=list(names.values()),
        left_out=len(finished) - len(chosen),
    )


def write_digits(sweep: Path, summary: Summary) -> list[Path]:
    """Write digits.csv, or one file per dataset: a line per misclassified test image, a column per setting."""
    tallies = {"_".join(filter(None, ["digits", title])): votes(part) for title, part in summary.by_dataset.items()}
    return [_write_digits(sweep / f"{name}.csv", counted) for name, counted in tallies.items() if counted is not None]


def _write_digits(target: Path, counted: Votes) -> Path:
    """Write a line per misclassified test image, with a column for each of the best MAX_COLUMNS settings."""
    shown = counted.names[:MAX_COLUMNS]
    header = ["index", "label", "runs", "missed", "favourite", "favoured", "doubtful"]
    header += [f"missed: {name or 'all'}" for name in shown]
    columns: list[NDArray[Any]] = [counted.truth, np.full(len(counted.truth), counted.runs), counted.missed]
    columns += [counted.majority_label, counted.majority_votes, counted.doubtful]
    columns += [*counted.missed_fraction[: len(shown)].round(4)]
    missed = np.flatnonzero(counted.missed)
    cells = [missed.tolist(), *(column[missed].tolist() for column in columns)]
    write_text(target, to_csv(header, zip(*cells, strict=True)))
    return target
