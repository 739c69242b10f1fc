"""Test digits over all runs of a sweep: missed by every net, on which settings differ, with doubtful labels."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Summary, labels_of, row_label
from mnist_mlp.runs.files import to_csv, write_text

NEARLY_ALL = 0.9  # a label is doubtful if this fraction of the runs agrees on another one
MIN_RUNS = 3
MAX_COLUMNS = 50  # rows of the comparison that digits.csv has a column for


@dataclass(frozen=True)
class Votes:
    """What the runs of each row predicted for the same n test images, in file order.

    missed: (n,) runs that are wrong; missed_fraction: (rows, n) fraction of a row's runs that are wrong.
    favourite, favoured: (n,) the label that most runs predict, and runs that predict it.
    doubtful: (n,) whether nearly all runs agree on another label than the true one.
    names: of the rows; left_out: runs without predictions, or with those of other images.
    """

    truth: NDArray[np.uint8]
    missed: NDArray[np.int64]
    missed_fraction: NDArray[np.float64]
    favourite: NDArray[np.int64]
    favoured: NDArray[np.int64]
    doubtful: NDArray[np.bool_]
    runs: int
    names: list[str]
    left_out: int

    @property
    def missed_by_all(self) -> NDArray[np.int64]:
        """Indices of test images."""
        return np.flatnonzero(self.missed == self.runs)

    @property
    def most_telling(self) -> NDArray[np.int64]:
        """Indices of test images on which rows differ, those with the widest range of `missed_fraction` first."""
        fractions = self.missed_fraction
        gaps = fractions.max(0) - fractions.min(0)
        order = np.lexsort((-fractions.std(0), -gaps))
        return np.asarray(order[gaps[order] > 0])

    def accuracies(self) -> list[tuple[float, float]]:
        """Mean accuracy of each row's runs: on all images, and without the doubtful ones."""
        return [(float(row.mean()), float(row[~self.doubtful].mean())) for row in 1 - self.missed_fraction]


def votes(summary: Summary) -> Votes | None:
    """Count the predictions of all finished runs on the same images; None if there are fewer than three."""
    finished = [(row, job) for row in summary.rows for job in row.jobs if job.result is not None]
    labels = [(row, pair) for row, job in finished if (pair := labels_of(job.folder)) is not None]
    most = Counter(truth for _, (truth, _) in labels).most_common(1)
    if not most or most[0][1] < MIN_RUNS:
        return None
    truth = np.frombuffer(most[0][0], dtype=np.uint8)
    own = [(row, predicted) for row, (true, predicted) in labels if true == most[0][0]]
    names = {id(row): row_label(summary, row) for row, _ in own}
    wrong: dict[int, list[NDArray[np.bool_]]] = {row: [] for row in names}
    counts = np.zeros((len(truth), 10), dtype=np.int64)
    for row, predicted in own:
        counts[np.arange(len(truth)), predicted] += 1
        wrong[id(row)].append(predicted != truth)
    favourite, favoured = counts.argmax(1), counts.max(1)
    return Votes(
        truth=truth,
        missed=len(own) - counts[np.arange(len(truth)), truth],
        missed_fraction=np.stack([np.mean(misses, 0) for misses in wrong.values()]),
        favourite=favourite,
        favoured=favoured,
        doubtful=(favourite != truth) & (favoured >= NEARLY_ALL * len(own)),
        runs=len(own),
        names=list(names.values()),
        left_out=len(finished) - len(own),
    )


def write_digits(sweep: Path, summary: Summary) -> Path | None:
    """Write digits.csv: a line for every test digit that a run misses; None if `votes` has none.

    It has a column for each row of the comparison, for the best MAX_COLUMNS if there are more.
    """
    if (counted := votes(summary)) is None:
        return None
    shown = counted.names[:MAX_COLUMNS]
    header = ["index", "label", "runs", "missed", "favourite", "favoured", "doubtful"]
    header += [f"missed: {name or 'all'}" for name in shown]
    shared: list[NDArray[Any]] = [counted.truth, np.full(len(counted.truth), counted.runs), counted.missed]
    shared += [counted.favourite, counted.favoured, counted.doubtful, *counted.missed_fraction[: len(shown)].round(4)]
    chosen = np.flatnonzero(counted.missed)
    columns = [chosen.tolist(), *(column[chosen].tolist() for column in shared)]
    target = sweep / "digits.csv"
    write_text(target, to_csv(header, zip(*columns, strict=True)))
    return target
