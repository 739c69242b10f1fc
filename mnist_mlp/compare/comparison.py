"""One setting against another: both intervals, the correction, the verdict and what could have been seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.statistics import (
    SIGNIFICANCE,
    Interval,
    Variance,
    crossed_difference,
    detectable_difference,
    holm,
    paired_difference,
    pairs,
)
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels

Labels = tuple[bytes, NDArray[np.uint8]]
"""The given labels (n,) as bytes, the same object for all runs on the same images, and the predicted ones (n,)."""


def labels_of(folder: Path) -> Labels | None:
    """Of the run in this folder; None where it has no predictions of two images or more that can be read."""
    file = RunFolder(folder).predictions_file
    try:
        status = file.stat()
    except OSError:
        return None
    return _read(folder, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=4096)  # a sweep compares again after every job
def _read(folder: Path, inode: int, modified: int) -> Labels | None:
    labels = read_labels(RunFolder(folder))
    return None if labels is None or len(labels[0]) < 2 else (_the_same(labels[0].tobytes()), labels[1])


@lru_cache(maxsize=16)
def _the_same(truth: bytes) -> bytes:
    return truth


@dataclass(frozen=True)
class Outcome:
    """A finished run: test accuracy in [0, 1], and its folder, None where it stands for several runs."""

    accuracy: float
    folder: Path | None


@dataclass(frozen=True)
class PairedComparison:
    """The difference of two settings in test accuracy, paired by seed.

    seeds: over seeds, on these images; images: over seeds and images like these, None where runs have no predictions of
    the same images; variance: where the decisive one's error comes from; comparisons: how many it is one of;
    p_value: corrected for them.
    """

    seeds: Interval
    images: Interval | None
    variance: Variance
    comparisons: int = 1
    p_value: float | None = None

    @property
    def decisive(self) -> Interval:
        """The interval that the verdict uses: over seeds and images, where there is one."""
        return self.images or self.seeds

    @property
    def is_significant(self) -> bool:
        """Whether a difference is claimed."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    @property
    def is_inconclusive(self) -> bool:
        """Whether no difference is claimed although there are seeds enough to look for one."""
        return self.p_value is not None and not self.is_significant

    @property
    def detectable_difference(self) -> float | None:
        """The smallest difference, in parts of one, that this comparison resolves with power 0.8."""
        if self.decisive.error is None:
            return None
        return detectable_difference(self.variance, self.decisive.images, self.decisive.n, self.comparisons)

    @property
    def verdict(self) -> str:
        """In words."""
        if self.decisive.n == 1:
            return "one seed in common: no verdict"
        if self.decisive.error is None:
            return "no spread at all among the seeds: no verdict"
        if self.is_significant:
            return "worse than the best" if self.decisive.mean < 0 else "better than the best"
        seen = self.detectable_difference
        assert seen is not None
        return f"not distinguishable from the best ({detectable_text(seen)})"


def detectable_text(gap: float) -> str:
    """What could have been seen, in words; gap in parts of one."""
    return f"{100 * gap:.2f} points would be" if gap < 1 else "no difference would be"


def compare(first: Mapping[int, Outcome], second: Mapping[int, Outcome]) -> PairedComparison | None:
    """first - second over the seeds that both have; None where there is no such seed. Not corrected yet."""
    shared = sorted(first.keys() & second.keys())
    accuracies = [{seed: outcomes[seed].accuracy for seed in shared} for outcomes in (first, second)]
    by_accuracy = paired_difference(*accuracies)
    if by_accuracy is None:
        return None
    rights = _rights(first, second, shared)
    if rights is None:
        spread = (by_accuracy.error or 0.0) ** 2 * by_accuracy.n
        return _single(PairedComparison(by_accuracy, None, Variance(spread, 0.0, 0.0)))
    found = crossed_difference(*rights)
    return _single(PairedComparison(found.seeds, found.images, found.variance))


def correct(comparisons: Sequence[PairedComparison | None]) -> list[PairedComparison | None]:
    """The same comparisons, all with one setting that data have chosen, corrected for how many they are."""
    p_values = [one.decisive.p_value for one in comparisons if one is not None]
    known = [p_value for p_value in p_values if p_value is not None]
    family = pairs(len(known) + 1)
    corrected = iter(holm(known, family))
    return [
        one
        if one is None or one.decisive.p_value is None
        else replace(one, comparisons=family, p_value=next(corrected))
        for one in comparisons
    ]


def _single(one: PairedComparison) -> PairedComparison:
    return replace(one, p_value=one.decisive.p_value)


def _rights(
    first: Mapping[int, Outcome], second: Mapping[int, Outcome], seeds: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Right and wrong, (seeds, images) each; None where a run has no predictions, or of other images."""
    found = [[_labels(outcomes[seed].folder) for seed in seeds] for outcomes in (first, second)]
    known = [[one for one in labels if one is not None] for labels in found]
    truths = {truth for labels in known for truth, _ in labels}
    if len(truths) != 1 or sum(map(len, known)) < 2 * len(seeds):
        return None
    given = np.frombuffer(truths.pop(), dtype=np.uint8)
    one, other = (np.array([predicted for _, predicted in labels]) == given for labels in known)
    return one, other


def _labels(folder: Path | None) -> Labels | None:
    return None if folder is None else labels_of(folder)


def outcomes(runs: Sequence[tuple[int, float, Path]]) -> dict[int, Outcome]:
    """Runs as (seed, accuracy, folder), by seed; several of one seed become their mean, which has no predictions."""
    found: dict[int, list[tuple[float, Path]]] = {}
    for seed, accuracy, folder in runs:
        if math.isfinite(accuracy):
            found.setdefault(seed, []).append((accuracy, folder))
    return {
        seed: Outcome(math.fsum(accuracy for accuracy, _ in same) / len(same), same[0][1] if len(same) == 1 else None)
        for seed, same in found.items()
    }
