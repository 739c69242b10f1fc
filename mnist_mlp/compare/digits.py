"""Test digits over all runs of a sweep: missed by every net, telling settings apart, with doubtful labels."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Row, Summary, row_label
from mnist_mlp.compare.comparison import Labels, labels_of
from mnist_mlp.runs.files import to_csv, write_text

NEARLY_ALL = 0.9
"""So many of the runs have to agree on another label before a given one is called doubtful."""
MIN_RUNS = 3
MAX_COLUMNS = 50
"""Rows of the comparison that digits.csv has a column for."""


@dataclass(frozen=True)
class Votes:
    """What the runs of each row predicted for the same n test images, in file order.

    truth: (n,) given labels; counts: (n, 10) runs by predicted label; wrong: (rows, n) runs of each row that are wrong,
    of sizes (rows,); names: of the rows; left_out: runs without predictions, or with those of other images.
    """

    truth: NDArray[np.uint8]
    counts: NDArray[np.int64]
    wrong: NDArray[np.int32]
    sizes: NDArray[np.int32]
    names: list[str]
    left_out: int

    @property
    def runs(self) -> int:
        return int(self.sizes.sum())

    @property
    def missed(self) -> NDArray[np.int64]:
        """(n,) runs that are wrong."""
        return np.asarray(self.wrong.sum(0))

    @property
    def missed_fraction(self) -> NDArray[np.float64]:
        """(rows, n) part of a row's runs that are wrong."""
        return np.asarray(self.wrong / self.sizes[:, None])

    @property
    def favourite(self) -> NDArray[np.int64]:
        """(n,) the label that most runs predict."""
        return np.asarray(self.counts.argmax(1))

    @property
    def favoured(self) -> NDArray[np.int64]:
        """(n,) runs that predict it."""
        return np.asarray(self.counts.max(1))

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
        parts = self.missed_fraction
        gaps = parts.max(0) - parts.min(0)
        order = np.lexsort((-parts.std(0), -gaps))
        return np.asarray(order[gaps[order] > 0])

    def accuracies(self) -> list[tuple[float, float]]:
        """Mean accuracy of each row's runs: on all images, and without the doubtful ones."""
        right = 1 - self.missed_fraction
        return [(float(row.mean()), float(row[~self.doubtful].mean())) for row in right]


def votes(summary: Summary) -> Votes | None:
    """Of all finished runs with predictions of the same images; None where there are fewer than three."""
    found = [(row, labels) for row in summary.rows for labels in _labels(row)]
    truths = Counter(truth for _, (truth, _) in found)
    most, times = truths.most_common(1)[0] if truths else (b"", 0)
    truth = np.frombuffer(most, dtype=np.uint8)
    if times < MIN_RUNS or truth.max() > 9:
        return None
    own = [(row, predicted) for row, (given, predicted) in found if given == most]
    places = {name: place for place, name in enumerate(dict.fromkeys(id(row) for row, _ in own))}
    counts = np.zeros((len(truth), 10), dtype=np.int64)
    wrong, sizes = np.zeros((len(places), len(truth)), dtype=np.int32), np.zeros(len(places), dtype=np.int32)
    for row, predicted in own:
        counts[np.arange(len(truth)), predicted] += 1
        wrong[places[id(row)]] += predicted != truth
        sizes[places[id(row)]] += 1
    names = [row_label(summary, row) for row in summary.rows if id(row) in places]
    finished = sum(job.result is not None for job in summary.jobs)
    return Votes(truth, counts, wrong, sizes, names, finished - times)


def write_digits(sweep: Path, summary: Summary) -> Path | None:
    """Write digits.csv: a line for every test digit that a run misses; None where there is nothing to say.

    It has a column for each row of the comparison, of the best MAX_COLUMNS where there are more.
    """
    found = votes(summary)
    if found is None:
        return None
    shown = found.names[:MAX_COLUMNS]
    header = ["index", "label", "runs", "missed", "favourite", "favoured", "doubtful"]
    header += [f"missed: {name or 'all'}" for name in shown]
    chosen = np.flatnonzero(found.missed)
    whole: list[NDArray[Any]] = [chosen, found.truth[chosen], np.full(len(chosen), found.runs), found.missed[chosen]]
    whole += [found.favourite[chosen], found.favoured[chosen], found.doubtful[chosen]]
    parts = np.round(found.wrong[: len(shown), chosen] / found.sizes[: len(shown), None], 4)
    columns = [column.tolist() for column in [*whole, *parts]]
    target = sweep / "digits.csv"
    write_text(target, to_csv(header, zip(*columns, strict=True)))
    return target


def _labels(row: Row) -> list[Labels]:
    read = [labels_of(job.folder) for job in row.jobs if job.result is not None]
    return [labels for labels in read if labels is not None]
