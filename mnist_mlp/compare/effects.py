"""What each factor of a sweep does, from matched runs; and which settings of a search mattered: docs/statistics.md.

Matched sets are combined on log(error), since settings scale an error rather than shift it, and one run that went
wrong weighs less. Importance is an analysis of variance on ranks (Kruskal and Wallis 1952; adjusted for chance as
Kelley's epsilon squared, 1935), since ranks are the same under any rescaling, and one collapsed run has one rank.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import scipy  # its modules are imported when they are used
from numpy.typing import NDArray

from mnist_mlp.compare.collect import VALUES, Job, varying_keys
from mnist_mlp.config import non_result_keys, subset_fraction
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import is_at_chance

MIN_ERROR = 1e-5  # a tenth of one image in 10,000; stands for an error of zero, which has no logarithm
FAR_OUT = 3.0  # interquartile ranges beyond a quartile from which a number is far out (Tukey 1977)
MIN_RUNS = 10  # fewer runs say nothing about importance
MAX_GROUPS = 5
MIN_QUANTITY = 6
"""A setting with at least so many numbers is a quantity: a scatter with a number axis, not a list of categories."""


MatchedSet = Mapping[str, Sequence[float]]
"""Accuracies of runs above chance level that differ in one factor and the seed alone, by level of the factor."""


@dataclass(frozen=True)
class Level:
    """One value of a factor. numbers: accuracies of its runs that have a match at another level.

    mean: accuracy over all matched sets; None if nothing compares it with the other levels.
    collapsed: further runs, at chance level.
    """

    value: str
    numbers: list[float]
    mean: float | None
    collapsed: int = 0


@dataclass(frozen=True)
class Grid:
    """Means over two factors; without rows if the runs form no grid. cells: [row][column]; None without a run.

    at: the other settings that vary, if all cells have the same; else each cell is the mean over the same ones.
    """

    keys: tuple[str, str]
    rows: list[str]
    columns: list[str]
    cells: list[list[float | None]]
    at: dict[str, str]


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


def factors(jobs: Sequence[Job]) -> list[str]:
    """The settings that vary and affect the result, without the seed and the name of a published result."""
    return [key for key in varying_keys(jobs) if key not in non_result_keys() | {"seed", "reference.id"}]


def measured(jobs: Iterable[Job], column: str) -> list[tuple[Job, float]]:
    """The runs that have this column of `VALUES`, each with its number."""
    pairs = [(job, VALUES[column](job.result)) for job in jobs if job.result is not None]
    return [(job, number) for job, number in pairs if number is not None]


def matched_sets(jobs: Sequence[Job], key: str, column: str) -> list[MatchedSet]:
    """The sets of runs that differ in this factor alone, at two levels or more; those with the most levels first.

    column: of `VALUES`, one of accuracies.
    """
    others = [other for other in factors(jobs) if other != key]
    sets: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for job, number in measured(jobs, column):
        if not is_at_chance(number):
            sets.setdefault(tuple(map(job.text, others)), {}).setdefault(job.text(key), []).append(number)
    matched = [{level: levels[level] for level in in_order(levels)} for levels in sets.values() if len(levels) > 1]
    return sorted(matched, key=len, reverse=True)


def main_effect(jobs: Sequence[Job], key: str, column: str) -> list[Level]:
    """The levels of one factor that can be compared with each other, in order; empty if there are none."""
    sets = matched_sets(jobs, key, column)
    means = _adjusted(sets)
    collapsed = [job.text(key) for job, number in measured(jobs, column) if is_at_chance(number)]
    levels = in_order({level for one in sets for level in one})
    numbers = {level: [number for one in sets for number in one.get(level, ())] for level in levels}
    return [Level(level, own, means.get(level), collapsed.count(level)) for level, own in numbers.items()]


def _adjusted(sets: Sequence[MatchedSet]) -> dict[str, float]:
    """The accuracy of each level at the average of all sets that a chain of levels connects with the first set."""
    if not sets:
        return {}
    connected, others, known = [sets[0]], list(sets[1:]), set(sets[0])
    while near := [one for one in others if not known.isdisjoint(one)]:
        others = [one for one in others if known.isdisjoint(one)]
        connected += near
        known.update(*near)
    levels = in_order(known)
    cells = [(index, level, one[level]) for index, one in enumerate(connected) for level in one]
    design = np.zeros((len(cells), len(connected) + len(levels)))
    errors = np.empty(len(cells))
    for row, (index, level, numbers) in enumerate(cells):
        design[row, index] = design[row, len(connected) + levels.index(level)] = 1
        errors[row] = statistics.fmean(math.log(max(1 - number, MIN_ERROR)) for number in numbers)
    solution = np.linalg.lstsq(design, errors, rcond=None)[0]
    logs = solution[: len(connected)].mean() + solution[len(connected) :]
    return {level: 1 - math.exp(log) for level, log in zip(levels, logs, strict=True)}


def grid(jobs: Sequence[Job], keys: tuple[str, str], column: str) -> Grid:
    """The mean of each combination of two factors, each cell over the very same values of all other factors.

    Those are the ones with the most combinations; without rows if none has two values of both factors.
    """
    others = [other for other in factors(jobs) if other not in keys]
    grids: dict[tuple[str, ...], dict[tuple[str, str], list[float]]] = {}
    for job, number in measured(jobs, column):
        cells = grids.setdefault(tuple(map(job.text, others)), {})
        cells.setdefault((job.text(keys[0]), job.text(keys[1])), []).append(number)
    combinations = max(map(frozenset, grids.values()), key=len, default=frozenset())
    rows, columns = (in_order({cell[axis] for cell in combinations}) for axis in (0, 1))
    if min(len(rows), len(columns)) < 2:
        return Grid(keys, [], [], [], {})
    same = {values: cells for values, cells in grids.items() if cells.keys() == combinations}
    means = {cell: statistics.fmean(statistics.fmean(cells[cell]) for cells in same.values()) for cell in combinations}
    at = dict(zip(others, next(iter(same)), strict=True)) if len(same) == 1 else {}
    return Grid(keys, rows, columns, [[means.get((row, column)) for column in columns] for row in rows], at)


def robust_range(accuracies: Sequence[float]) -> tuple[float, float] | None:
    """Lowest and highest that an axis or a scale of colours has to hold, without runs at chance level or far out.

    None without a number. What lies below is to be marked at the edge.
    """
    if not accuracies:
        return None
    learnt = [number for number in accuracies if not is_at_chance(number)] or list(accuracies)
    low, high = np.quantile(learnt, [0.25, 0.75])
    fence = low - FAR_OUT * (high - low)
    kept = [number for number in learnt if number >= fence]
    return min(kept), max(kept)


def in_order(values: Iterable[str]) -> list[str]:
    """Numbers ascending (full and half among them, as fractions of the data), other values by name after them."""
    return sorted(values, key=lambda value: (amount(value) is None, amount(value) or 0.0, value))


def amount(value: str) -> float | None:
    """A level as a number; None for a name."""
    try:
        return subset_fraction(value)
    except ValueError:
        return None


def best_so_far(jobs: Sequence[Job], column: str) -> list[Step]:
    """The finished runs in the order in which they ended, each with the highest number so far."""

    def ended(job: Job) -> float:
        with suppress(OSError):
            return RunFolder(job.folder).result_file.stat().st_mtime
        return 0.0

    ordered = sorted(measured(jobs, column), key=lambda pair: (ended(pair[0]), str(pair[0].folder)))
    highest = accumulate((value for _, value in ordered), max)
    return [Step(n, job, value, best) for n, ((job, value), best) in enumerate(zip(ordered, highest, strict=True), 1)]


def is_quantity(jobs: Sequence[Job], key: str) -> bool:
    """Whether a setting was tried at so many numbers that it is to be shown as one axis and not as categories."""
    values = [job.settings.get(key) for job in jobs if job.settings]
    return all(type(value) in (int, float) for value in values) and len(set(values)) >= MIN_QUANTITY


def importances(jobs: Sequence[Job], column: str) -> list[Importance]:
    """Each setting that varies, the most important first; empty for fewer than ten finished runs."""
    runs = measured(jobs, column)
    if len(runs) < MIN_RUNS:
        return []
    jobs, n = [job for job, _ in runs], len(runs)
    _, indices, times = np.unique([number for _, number in runs], return_inverse=True, return_counts=True)
    ranks = np.asarray((np.cumsum(times) - (times - 1) / 2)[indices])  # from 1; equal numbers share their mean
    total = float(((ranks - ranks.mean()) ** 2).sum())
    known = []
    for key in factors(jobs):
        groups = _groups(jobs, key)
        sizes, sums = np.bincount(groups), np.bincount(groups, ranks)
        sizes, sums = sizes[sizes > 0], sums[sizes > 0]
        count = len(sizes)
        if 1 < count < n and total:  # else the runs do not tell the setting from every other one
            between = float((sums**2 / sizes).sum()) - n * float(ranks.mean()) ** 2
            fraction = 1 - (total - between) / (n - count) / (total / (n - 1))
            p_value = float(scipy.special.chdtrc(count - 1, (n - 1) * between / total))
            known.append(Importance(key, max(fraction, 0.0), p_value))
    return sorted(known, key=lambda one: -one.fraction)


def _groups(jobs: Sequence[Job], key: str) -> NDArray[np.int64]:
    """Runs by value; the values of a quantity in groups of about equally many runs."""
    if not is_quantity(jobs, key):
        texts = [job.text(key) for job in jobs]
        indices = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        return np.array([indices[text] for text in texts])
    numbers = np.array([job.settings[key] for job in jobs], dtype=float)
    count = min(MAX_GROUPS, len(jobs) // MAX_GROUPS)
    edges = np.quantile(numbers, np.arange(1, count) / count)
    return np.searchsorted(edges, numbers, side="right")
