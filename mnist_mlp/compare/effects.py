"""Main effects of factors from matched runs, and importance of the settings of a search; see docs/statistics.md.

Matched sets are combined on log(mean error over seeds): settings scale an error rather than shift it. A mean over seeds
equals the table's, so collapsed runs count in full.
Importance is a one-way analysis of variance on ranks (Kruskal and Wallis 1952) with Kelley's epsilon squared (1935) as
effect size. Ranks are invariant under rescaling and robust to collapsed runs.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate

import numpy as np
import scipy  # imports its submodules lazily
from numpy.typing import NDArray

from mnist_mlp.compare.collect import VALUES, varying_keys
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.statistics import SIGNIFICANCE, holm
from mnist_mlp.config import non_result_keys, subset_fraction
from mnist_mlp.datasets import DIGITS
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import is_at_chance

MIN_ERROR = 1e-5  # a tenth of one image in 10,000; replaces an error of zero, whose logarithm is not finite
FAR_OUT_IQRS = 3.0  # interquartile ranges below the lower quartile: Tukey's outer fence (1977)
MIN_RUNS = 10  # finished runs that importance needs
MAX_GROUPS = 5
MIN_QUANTITY = 6
"""A setting with at least this many numeric values is treated as continuous, otherwise as categorical."""

MatchedSet = Mapping[str, Sequence[float]]
"""Accuracies by level of one factor, of runs that agree in all other settings but the seed."""


@dataclass(frozen=True)
class Grid:
    """Mean accuracies over two factors; no rows if the runs do not form a grid.

    cells: [row][column], None without a run. at: values of the other varying settings if all cells share one
    combination; if empty, each cell is the mean over the same combinations.
    """

    keys: tuple[str, str]
    rows: list[str]
    columns: list[str]
    cells: list[list[float | None]]
    at: dict[str, str]


@dataclass(frozen=True)
class Importance:
    """Explained fraction of rank variance, its maximum without effects (95 %), and Holm-adjusted Kruskal-Wallis p."""

    key: str
    fraction: float
    by_chance: float
    p_value: float


@dataclass(frozen=True)
class Step:
    """A run in order of start. number: its rank, from 1; value: of this run; best: the highest so far."""

    number: int
    job: Job
    value: float
    best: float


def factors(jobs: Sequence[Job]) -> list[str]:
    """The varying settings that affect the result, except the seed and the name of a published result."""
    return [key for key in varying_keys(jobs) if key not in non_result_keys() | {"seed", "reference.id"}]


def measured(jobs: Iterable[Job], column: str) -> list[tuple[Job, float]]:
    """The runs that have a value in this column of `VALUES`, each with that value."""
    pairs = [(job, VALUES[column](job.result)) for job in jobs if job.result is not None]
    return [(job, number) for job, number in pairs if number is not None]


def confounded(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """Find settings that vary together, as in a zip: for a key, those that its value determines in all of these runs.

    Their effects cannot be separated. None if a key has another value in each run, as in a search, where few runs of
    equal values determine other keys by chance.
    """
    jobs, groups = [job for job in jobs if job.settings], dict[str, list[str]]()
    levels = {
        key: [job.text(key) for job in jobs] for key in factors(jobs) if key not in ("data.source", "data.digest")
    }

    def count(*keys: str) -> int:
        return len(set(zip(*(levels[key] for key in keys), strict=True)))

    if any(count(key) == len(jobs) for key in levels):
        return {}
    for key in sorted(levels, key=count, reverse=True):
        leader = next((other for other in groups if count(other, key) == count(other)), None)
        groups.setdefault(leader or key, []).extend([key] if leader else [])
    return {key: others for key, others in groups.items() if others}


def matched_sets(jobs: Sequence[Job], key: str, column: str, together: Iterable[str] = ()) -> list[MatchedSet]:
    """Group runs that differ only in this factor, at two levels or more; sets with the most levels first.

    column: an accuracy column of `VALUES`; together: keys that vary with it, see `confounded`.
    """
    other_keys = [other for other in factors(jobs) if other not in (key, *together)]
    sets: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for job, number in measured(jobs, column):
        sets.setdefault(tuple(map(job.text, other_keys)), {}).setdefault(job.text(key), []).append(number)
    matched = [{level: levels[level] for level in sort_levels(levels)} for levels in sets.values() if len(levels) > 1]
    return sorted(matched, key=len, reverse=True)


def main_effect(jobs: Sequence[Job], key: str, column: str, together: Iterable[str] = ()) -> dict[str, float | None]:
    """Estimate the main effect of a factor: an adjusted mean accuracy for each level with matched runs, in order.

    With `together`, keys that vary with it (see `confounded`), it is their common effect.

    Runs at chance level count. None if no chain of matched sets connects a level with the others.
    """
    sets = matched_sets(jobs, key, column, together)
    means = _adjusted_means(sets)
    return {level: means.get(level) for level in sort_levels({level for matched in sets for level in matched})}


def _adjusted_means(sets: Sequence[MatchedSet]) -> dict[str, float]:
    """Least-squares means by level: log(mean error) = set + level, over sets that shared levels connect."""
    if not sets:
        return {}
    connected, remaining, known = [sets[0]], list(sets[1:]), set(sets[0])
    while neighbors := [matched for matched in remaining if not known.isdisjoint(matched)]:
        remaining = [matched for matched in remaining if known.isdisjoint(matched)]
        connected += neighbors
        known.update(*neighbors)
    levels = sort_levels(known)
    cells = [(index, level, matched[level]) for index, matched in enumerate(connected) for level in matched]
    design = np.zeros((len(cells), len(connected) + len(levels)))
    errors = np.empty(len(cells))
    for row, (index, level, numbers) in enumerate(cells):
        design[row, index] = design[row, len(connected) + levels.index(level)] = 1
        errors[row] = math.log(max(1 - statistics.fmean(numbers), MIN_ERROR))
    solution = np.linalg.lstsq(design, errors, rcond=None)[0]
    logs = solution[: len(connected)].mean() + solution[len(connected) :]
    return {level: 1 - math.exp(log) for level, log in zip(levels, logs, strict=True)}


def grid(jobs: Sequence[Job], keys: tuple[str, str], column: str, together: Iterable[str] = ()) -> Grid:
    """Average each combination of two factors over the same values of all other factors, except those in `together`.

    Uses the values with the most combinations; no rows if none has two levels of both factors.
    """
    other_keys = [other for other in factors(jobs) if other not in (*keys, *together)]
    grids: dict[tuple[str, ...], dict[tuple[str, str], list[float]]] = {}
    for job, number in measured(jobs, column):
        cells = grids.setdefault(tuple(map(job.text, other_keys)), {})
        cells.setdefault((job.text(keys[0]), job.text(keys[1])), []).append(number)
    combinations = max(map(frozenset, grids.values()), key=len, default=frozenset())
    rows, columns = (sort_levels({cell[axis] for cell in combinations}) for axis in (0, 1))
    if min(len(rows), len(columns)) < 2:
        return Grid(keys, [], [], [], {})
    full = {values: cells for values, cells in grids.items() if cells.keys() == combinations}
    means = {cell: statistics.fmean(statistics.fmean(cells[cell]) for cells in full.values()) for cell in combinations}
    at = dict(zip(other_keys, next(iter(full)), strict=True)) if len(full) == 1 else {}
    return Grid(keys, rows, columns, [[means.get((row, column)) for column in columns] for row in rows], at)


def robust_range(accuracies: Sequence[float], classes: int = len(DIGITS)) -> tuple[float, float] | None:
    """The range that an axis or color scale should cover, without runs at chance level and far outliers.

    None without accuracies. Plots mark values below the range at the edge.
    """
    if not accuracies:
        return None
    trained = [number for number in accuracies if not is_at_chance(number, classes)] or list(accuracies)
    low, high = np.quantile(trained, [0.25, 0.75])
    fence = low - FAR_OUT_IQRS * (high - low)
    kept = [number for number in trained if number >= fence]
    return min(kept), max(kept)


def sort_levels(values: Iterable[str]) -> list[str]:
    """Sort numbers ascending (full and half as fractions of the data), then names alphabetically."""
    return sorted(values, key=lambda value: (as_number(value) is None, as_number(value) or 0.0, value))


def as_number(value: str) -> float | None:
    """Convert a level to a number; None for a name."""
    with suppress(ValueError):
        return subset_fraction(value)
    return None


def best_so_far(jobs: Sequence[Job], column: str) -> list[Step]:
    """The finished runs in the order in which they started, each with the highest value so far."""
    ordered = sorted(measured(jobs, column), key=lambda pair: (started(pair[0]), str(pair[0].folder)))
    highest = zip(ordered, accumulate((value for _, value in ordered), max), strict=True)
    return [Step(n, job, value, best) for n, ((job, value), best) in enumerate(highest, 1)]


def started(job: Job) -> float:
    """When a run started, in seconds since 1970: as recorded; else the time of its first file, or infinite."""
    folder = RunFolder(job.folder)
    with suppress(UnreadableFileError, ValueError, OverflowError):
        run = vars(job.result) if job.result else folder.run() or {}
        return datetime.fromisoformat(run.get("started", "")).timestamp()
    for file in (folder.run_file, folder.result_file, folder.failure_file):
        with suppress(OSError):
            return file.stat().st_mtime
    return math.inf


def is_quantity(jobs: Sequence[Job], key: str) -> bool:
    """Whether a setting is numeric with at least `MIN_QUANTITY` distinct values."""
    values = [job.settings.get(key) for job in jobs if job.settings]
    return all(type(value) in (int, float) for value in values) and len(set(values)) >= MIN_QUANTITY


def importances(jobs: Sequence[Job], column: str) -> list[Importance]:
    """Rank the varying settings by importance; empty for fewer than `MIN_RUNS` finished runs."""
    runs = measured(jobs, column)
    if len(runs) < MIN_RUNS:
        return []
    jobs, n = [job for job, _ in runs], len(runs)
    _, indices, counts = np.unique([number for _, number in runs], return_inverse=True, return_counts=True)
    ranks = np.asarray((np.cumsum(counts) - (counts - 1) / 2)[indices])  # from 1; ties share their mean rank
    total = float(((ranks - ranks.mean()) ** 2).sum())
    ranking, keys = [], factors(jobs)
    for key in keys:
        groups = _groups(jobs, key)
        sizes, sums = np.bincount(groups), np.bincount(groups, ranks)
        sizes, sums = sizes[sizes > 0], sums[sizes > 0]
        count = len(sizes)
        if 1 < count < n and total:  # n groups of one run have no variance within
            between = float((sums**2 / sizes).sum()) - n * float(ranks.mean()) ** 2
            statistic = (n - 1) * between / total
            both = (statistic, float(scipy.special.chdtri(count - 1, SIGNIFICANCE / len(keys))))
            fraction, by_chance = (min(max(1 - (n - 1 - value) / (n - count), 0.0), 1.0) for value in both)
            p_value = float(scipy.special.chdtrc(count - 1, statistic))
            ranking.append(Importance(key, fraction, by_chance, p_value))
    p_values = holm([importance.p_value for importance in ranking], len(keys))
    adjusted = [replace(importance, p_value=p) for importance, p in zip(ranking, p_values, strict=True)]
    return sorted(adjusted, key=lambda importance: -importance.fraction)


def _groups(jobs: Sequence[Job], key: str) -> NDArray[np.int64]:
    """The group of each run: its value, or its quantile bin if the setting is a quantity."""
    if not is_quantity(jobs, key):
        texts = [job.text(key) for job in jobs]
        return np.unique(texts, return_inverse=True)[1]
    numbers = np.array([job.settings[key] for job in jobs], dtype=float)
    count = min(MAX_GROUPS, len(jobs) // MAX_GROUPS)
    edges = np.quantile(numbers, np.arange(1, count) / count)
    return np.searchsorted(edges, numbers, side="right")
