"""What a search over many settings found: the best so far after each run, and which settings mattered.

Importance is the fraction of the variance of the runs' ranks that a setting explains by itself: an analysis of variance
on ranks (Kruskal and Wallis 1952; adjusted for chance as Kelley's epsilon squared, 1935), numbers cut into groups of
equally many runs. It needs no model of the search, is the same under any rescaling of setting or measure, and one
collapsed run has one rank. Optuna's evaluators share all importance among the settings, chance's part too, and go by
raw accuracies: where one run in ten collapses, fANOVA calls the least important setting the most important one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Job
from mnist_mlp.compare.effects import factors, measured
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import value_text

MIN_RUNS = 10
"""Of fewer runs nothing is said on importance."""
MAX_GROUPS = 5
CONTINUOUS = 6
"""A setting with so many numbers or more is a quantity: a scatter with a number axis, no list of categories."""
WIDE = 20
"""A quantity whose largest value is so many times its smallest is read on a logarithmic axis."""


@dataclass(frozen=True)
class Importance:
    """A setting. fraction: of the variance of ranks, in [0, 1]; p_value: of no influence at all, uncorrected."""

    key: str
    fraction: float
    p_value: float


@dataclass(frozen=True)
class Step:
    """A run in the order in which runs ended. number: from 1; value: its own; best: the best so far."""

    number: int
    job: Job
    value: float
    best: float


def best_so_far(jobs: Sequence[Job], column: str) -> list[Step]:
    """The finished runs in the order in which they ended, each with the highest number so far."""
    ordered = sorted(measured(jobs, column), key=lambda pair: (_ended(pair[0]), str(pair[0].folder)))
    bests = np.maximum.accumulate([value for _, value in ordered]) if ordered else np.zeros(0)
    return [Step(place + 1, job, value, float(bests[place])) for place, (job, value) in enumerate(ordered)]


def is_quantity(jobs: Sequence[Job], key: str) -> bool:
    """Whether a setting was tried at so many numbers that it is to be shown as one axis and not as categories."""
    values = {_number(job, key) for job in jobs if job.settings}
    return len(values) >= CONTINUOUS and None not in values


def is_wide(numbers: Sequence[float]) -> bool:
    """Whether these numbers want a logarithmic axis."""
    return min(numbers) > 0 and max(numbers) >= WIDE * min(numbers)


def importances(jobs: Sequence[Job], column: str) -> list[Importance]:
    """For each setting that varies, the most important first; empty for fewer than ten finished runs."""
    runs = measured(jobs, column)
    if len(runs) < MIN_RUNS:
        return []
    ranks = _ranks([number for _, number in runs])
    chosen = [job for job, _ in runs]
    found = [_importance(key, ranks, _groups(chosen, key)) for key in factors(chosen)]
    return sorted((one for one in found if one is not None), key=lambda one: -one.fraction)


def _importance(key: str, ranks: NDArray[np.float64], groups: NDArray[np.int64]) -> Importance | None:
    """None where the runs do not tell the setting from every other one: a group for each run, or one for all."""
    from scipy.special import chdtrc  # deferred: only the page of a search needs it

    n, sizes = len(ranks), np.bincount(groups)
    sizes, sums = sizes[sizes > 0], np.bincount(groups, ranks)[sizes > 0]
    total = float(((ranks - ranks.mean()) ** 2).sum())
    count = len(sizes)
    if not 1 < count < n or not total:
        return None
    between = float((sums**2 / sizes).sum()) - n * float(ranks.mean()) ** 2
    part = 1 - (total - between) / (n - count) / (total / (n - 1))
    return Importance(key, max(part, 0.0), float(chdtrc(count - 1, (n - 1) * between / total)))


def _ranks(numbers: Sequence[float]) -> NDArray[np.float64]:
    """From 1; equal numbers share the mean of theirs."""
    _, places, times = np.unique(numbers, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(times) - (times - 1) / 2)[places])


def _groups(jobs: Sequence[Job], key: str) -> NDArray[np.int64]:
    """Runs by value; the values of a quantity in groups of about equally many runs."""
    if not is_quantity(jobs, key):
        texts = [value_text(job.settings.get(key)) for job in jobs]
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return np.array([places[text] for text in texts])
    numbers = np.array([_number(job, key) for job in jobs], dtype=float)
    count = min(MAX_GROUPS, len(jobs) // MAX_GROUPS)
    edges = np.quantile(numbers, np.arange(1, count) / count)
    return np.searchsorted(edges, numbers, side="right")


def _number(job: Job, key: str) -> float | None:
    value = job.settings.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _ended(job: Job) -> float:
    try:
        return RunFolder(job.folder).result_file.stat().st_mtime
    except OSError:
        return 0.0
