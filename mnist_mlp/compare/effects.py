"""What each factor of a sweep does, comparing only like with like: runs that differ in that factor alone.

In a sweep that is no full grid, the plain mean of a level is also that of whatever else came with it: half the data
looks better than all of it where the one run with too high a learning rate had all of it. So runs are matched: those
that agree in all but one factor (and the seed) form a set, and sets are brought together by the additive model
log(error) = set + level, least squares. In a full grid that is the mean over all other factors. Levels that no chain
of sets connects are not comparable and get no mean. The logarithm, since settings scale an error rather than shift
it; and one run that went wrong weighs less.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_mlp.compare.collect import VALUES, Job, varying_keys
from mnist_mlp.config import non_result_keys, subset_fraction
from mnist_mlp.runs.settings import value_text

NOTHING_LEARNT = 0.2
"""A run whose accuracy is below it has collapsed (guessing has 0.1): it is counted, and left out of means."""
MIN_ERROR = 1e-5
"""A tenth of one image in 10,000; stands for an error of zero, which has no logarithm."""
FAR_OUT = 3.0
"""Interquartile ranges beyond a quartile from which a number is far out (Tukey 1977)."""


@dataclass(frozen=True)
class MatchedSet:
    """Runs that differ in one factor and the seed alone. others: what they share of all else that varies, by key.

    numbers: accuracies of the runs that learnt something, by level; two levels or more.
    """

    others: dict[str, str]
    numbers: dict[str, list[float]]


@dataclass(frozen=True)
class Level:
    """One value of a factor. numbers: accuracies of its runs that have a match at another level.

    mean: accuracy like for like, over all matched sets; None where nothing compares it with the other levels.
    collapsed: further runs that learnt nothing.
    """

    value: str
    numbers: list[float]
    mean: float | None
    collapsed: int = 0


@dataclass(frozen=True)
class Grid:
    """Means over two factors; cells[row][column], None where no run is; without rows where there is no grid.

    at: the other settings that vary, where they are the same in all cells; else each cell is over the same of them.
    """

    keys: tuple[str, str]
    rows: list[str]
    columns: list[str]
    cells: list[list[float | None]]
    at: dict[str, str]


def factors(jobs: Sequence[Job]) -> list[str]:
    """The settings that vary and affect the result, without the seed and the name of a published result."""
    left_out = non_result_keys() | {"seed", "reference.id"}
    return [key for key in varying_keys(jobs) if key not in left_out]


def measured(jobs: Iterable[Job], column: str) -> list[tuple[Job, float]]:
    """The runs that have this column of `VALUES`, each with its number."""
    pairs = [(job, VALUES[column](job.result)) for job in jobs if job.result is not None]
    return [(job, number) for job, number in pairs if number is not None]


def matched_sets(jobs: Sequence[Job], key: str, column: str) -> list[MatchedSet]:
    """The sets of runs that differ in this factor alone, largest first; column: one of accuracies."""
    others = [other for other in factors(jobs) if other != key]
    found: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for job, number in measured(jobs, column):
        if number >= NOTHING_LEARNT:
            levels = found.setdefault(tuple(_text(job, other) for other in others), {})
            levels.setdefault(_text(job, key), []).append(number)
    sets = [
        MatchedSet(dict(zip(others, place, strict=True)), {level: levels[level] for level in in_order(levels)})
        for place, levels in found.items()
        if len(levels) > 1
    ]
    return sorted(sets, key=lambda one: -len(one.numbers))


def main_effect(jobs: Sequence[Job], key: str, column: str) -> list[Level]:
    """The levels of one factor that can be compared like for like, in order; empty where no two can."""
    sets = matched_sets(jobs, key, column)
    means = _adjusted(sets)
    lost = [_text(job, key) for job, number in measured(jobs, column) if number < NOTHING_LEARNT]
    levels = in_order({level for one in sets for level in one.numbers})
    return [
        Level(
            level,
            [number for one in sets for number in one.numbers.get(level, ())],
            means.get(level),
            lost.count(level),
        )
        for level in levels
    ]


def _adjusted(sets: Sequence[MatchedSet]) -> dict[str, float]:
    """The accuracy of each level at the average of all sets that a chain of levels connects with the first set."""
    sets = _connected(sets)
    levels = in_order({level for one in sets for level in one.numbers})
    cells = [
        (place, levels.index(level), one.numbers[level]) for place, one in enumerate(sets) for level in one.numbers
    ]
    if not cells:
        return {}
    design = np.zeros((len(cells), len(sets) + len(levels)))
    errors = np.empty(len(cells))
    for row, (place, level, numbers) in enumerate(cells):
        design[row, place] = design[row, len(sets) + level] = 1
        errors[row] = statistics.fmean(math.log(max(1 - number, MIN_ERROR)) for number in numbers)
    found = np.linalg.lstsq(design, errors, rcond=None)[0]
    logs = found[: len(sets)].mean() + found[len(sets) :]
    return {level: 1 - math.exp(log) for level, log in zip(levels, logs, strict=True)}


def _connected(sets: Sequence[MatchedSet]) -> list[MatchedSet]:
    """The first set, and those that share a level with it or with one that does."""
    found, rest = list(sets[:1]), list(sets[1:])
    levels = {level for one in found for level in one.numbers}
    while near := [one for one in rest if not levels.isdisjoint(one.numbers)]:
        rest = [one for one in rest if levels.isdisjoint(one.numbers)]
        found += near
        levels.update(level for one in near for level in one.numbers)
    return found


def grid(jobs: Sequence[Job], keys: tuple[str, str], column: str) -> Grid:
    """The mean of each combination of two factors, each cell over the very same values of all other factors.

    Those are the ones with the most combinations; without rows where none has two values of both factors.
    """
    others = [other for other in factors(jobs) if other not in keys]
    found: dict[tuple[str, ...], dict[tuple[str, str], list[float]]] = {}
    for job, number in measured(jobs, column):
        cells = found.setdefault(tuple(_text(job, other) for other in others), {})
        cells.setdefault((_text(job, keys[0]), _text(job, keys[1])), []).append(number)
    most = max(map(frozenset, found.values()), key=len, default=frozenset())
    rows, columns = (in_order({place[axis] for place in most}) for axis in (0, 1))
    if min(len(rows), len(columns)) < 2:
        return Grid(keys, [], [], [], {})
    same = {place: cells for place, cells in found.items() if cells.keys() == most}
    means = {cell: statistics.fmean(statistics.fmean(cells[cell]) for cells in same.values()) for cell in most}
    at = dict(zip(others, next(iter(same)), strict=True)) if len(same) == 1 else {}
    return Grid(keys, rows, columns, [[means.get((row, column)) for column in columns] for row in rows], at)


def is_full_grid(jobs: Sequence[Job], keys: Sequence[str], column: str) -> bool:
    """Whether every combination of the levels was measured equally often."""
    places = Counter(tuple(_text(job, key) for key in keys) for job, _ in measured(jobs, column))
    combinations = math.prod(len({place[axis] for place in places}) for axis in range(len(keys)))
    return len(places) == combinations and len(set(places.values())) <= 1


def robust_range(accuracies: Sequence[float]) -> tuple[float, float] | None:
    """Lowest and highest that an axis or a scale of colours has to hold, without runs that collapsed or are far out.

    None where there is no number. What lies below is to be marked at the edge.
    """
    if not accuracies:
        return None
    learnt = [number for number in accuracies if number >= NOTHING_LEARNT] or list(accuracies)
    low, high = np.quantile(learnt, [0.25, 0.75])
    fence = low - FAR_OUT * (high - low)
    kept = [number for number in learnt if number >= fence]
    return min(kept), max(kept)


def in_order(values: Iterable[str]) -> list[str]:
    """Numbers ascending (full and half among them, as parts of the data), other values by name after them."""
    return sorted(values, key=lambda value: (amount(value) is None, amount(value) or 0.0, value))


def amount(value: str) -> float | None:
    """A level as a number; None for a name."""
    try:
        return subset_fraction(value)
    except ValueError:
        return None


def _text(job: Job, key: str) -> str:
    return value_text(job.settings.get(key))
