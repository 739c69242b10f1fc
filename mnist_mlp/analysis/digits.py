"""Test digits over all runs of a sweep: missed by every net, telling settings apart, with doubtful labels."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Row, Summary, row_label
from mnist_mlp.runs.files import to_csv, write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels

NEARLY_ALL = 0.9
"""So many of the runs have to agree on another label before a given one is called doubtful."""
FEWEST_RUNS = 3


@dataclass(frozen=True)
class Votes:
    """What the runs of each row predicted for the same n test images, in file order.

    truth: (n,) given labels; counts: (rows, n, 10) runs by predicted label; names: of the rows; left_out: runs without
    predictions, or with those of other images.
    """

    truth: NDArray[np.uint8]
    counts: NDArray[np.int64]
    names: list[str]
    left_out: int

    @property
    def runs(self) -> int:
        return int(self.counts[:, 0].sum())

    @property
    def missed(self) -> NDArray[np.int64]:
        """(n,) runs that are wrong."""
        total = self.counts.sum(0)
        return np.asarray(self.runs - total[np.arange(len(self.truth)), self.truth])

    @property
    def missed_part(self) -> NDArray[np.float64]:
        """(rows, n) part of a row's runs that are wrong."""
        right = self.counts[:, np.arange(len(self.truth)), self.truth]
        return np.asarray(1 - right / self.counts[:, 0].sum(1, keepdims=True))

    @property
    def favourite(self) -> NDArray[np.int64]:
        """(n,) the label that most runs predict."""
        return np.asarray(self.counts.sum(0).argmax(1))

    @property
    def favoured(self) -> NDArray[np.int64]:
        """(n,) runs that predict it."""
        return np.asarray(self.counts.sum(0).max(1))

    @property
    def doubtful(self) -> NDArray[np.bool_]:
        """(n,) where nearly all runs agree on another label than the given one."""
        return np.asarray((self.favourite != self.truth) & (self.favoured >= NEARLY_ALL * self.runs))

    @property
    def missed_by_all(self) -> NDArray[np.int64]:
        """Places in the test set."""
        return np.flatnonzero(self.missed == self.runs)

    @property
    def most_telling(self) -> NDArray[np.int64]:
        """Places on which rows differ, the part of their runs that miss it differing most first."""
        parts = self.missed_part
        gaps = parts.max(0) - parts.min(0)
        order = np.lexsort((-parts.std(0), -gaps))
        return np.asarray(order[gaps[order] > 0])

    def accuracies(self) -> list[tuple[float, float]]:
        """Mean accuracy of each row's runs: on all images, and without the doubtful ones."""
        right = 1 - self.missed_part
        return [(float(row.mean()), float(row[~self.doubtful].mean())) for row in right]


def votes(summary: Summary) -> Votes | None:
    """Of all finished runs with predictions of the same images; None where there are fewer than three."""
    found = [(row, labels) for row in summary.rows for labels in _labels(row)]
    if not found:
        return None
    truths = Counter(truth.tobytes() for _, (truth, _) in found)
    most = truths.most_common(1)[0][0]
    rows = [row for row in summary.rows if any(one is row and truth.tobytes() == most for one, (truth, _) in found)]
    truth = np.frombuffer(most, dtype=np.uint8)
    if truths[most] < FEWEST_RUNS or truth.max() > 9:
        return None
    counts = np.zeros((len(rows), len(truth), 10), dtype=np.int64)
    for row, (own, predicted) in found:
        if own.tobytes() == most:
            place = next(n for n, one in enumerate(rows) if one is row)
            counts[place, np.arange(len(truth)), predicted] += 1
    names = [row_label(summary, row) for row in rows]
    finished = sum(job.result is not None for job in summary.jobs)
    return Votes(truth, counts, names, finished - truths[most])


def write_digits(sweep: Path, summary: Summary) -> Path | None:
    """Write digits.csv: a line for every test digit that a run misses; None where there is nothing to say."""
    found = votes(summary)
    if found is None:
        return None
    header = ["index", "label", "runs", "missed", "favourite", "favoured", "doubtful"]
    header += [f"missed: {name or 'all'}" for name in found.names]
    missed, parts, favourite, favoured = found.missed, found.missed_part, found.favourite, found.favoured
    doubtful = found.doubtful
    rows = [
        [
            *(int(place), int(found.truth[place]), found.runs, int(missed[place]), int(favourite[place])),
            *(int(favoured[place]), bool(doubtful[place]), *(round(float(part), 4) for part in parts[:, place])),
        ]
        for place in np.flatnonzero(missed)
    ]
    target = sweep / "digits.csv"
    write_text(target, to_csv(header, rows))
    return target


def _labels(row: Row) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    read = [read_labels(RunFolder(job.folder)) for job in row.jobs if job.result is not None]
    return [labels for labels in read if labels is not None and len(labels[0])]
