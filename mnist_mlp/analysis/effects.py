"""The effect of each factor of a sweep: marginal means, and the grid over two factors."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnist_mlp.analysis.collect import VALUES, Job
from mnist_mlp.config import subset_fraction
from mnist_mlp.runs.settings import value_text


@dataclass(frozen=True)
class Level:
    """One value of a factor, with a number for each finished run that has it."""

    value: str
    numbers: list[float]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.numbers) if self.numbers else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over all other factors; None for fewer than two runs."""
        return statistics.stdev(self.numbers) if len(self.numbers) > 1 else None


@dataclass(frozen=True)
class Grid:
    """Means over two factors; cells[row][column], None where no run is."""

    keys: tuple[str, str]
    rows: list[str]
    columns: list[str]
    cells: list[list[float | None]]


def measured(jobs: Iterable[Job], column: str) -> list[tuple[Job, float]]:
    """The runs that have this column of `VALUES`, each with its number."""
    pairs = [(job, VALUES[column](job.result)) for job in jobs if job.result is not None]
    return [(job, number) for job, number in pairs if number is not None]


def main_effect(jobs: Sequence[Job], key: str, column: str) -> list[Level]:
    """The levels of one factor, each with its runs over all other factors, numbers in ascending order."""
    found: dict[str, list[float]] = {}
    for job, number in measured(jobs, column):
        found.setdefault(value_text(job.settings.get(key)), []).append(number)
    return [Level(value, found[value]) for value in in_order(found)]


def grid(jobs: Sequence[Job], keys: tuple[str, str], column: str) -> Grid:
    """The mean of each combination of two factors, over all others."""
    found: dict[tuple[str, str], list[float]] = {}
    for job, number in measured(jobs, column):
        found.setdefault((_text(job, keys[0]), _text(job, keys[1])), []).append(number)
    rows, columns = (in_order({place[axis] for place in found}) for axis in (0, 1))
    cells = [[statistics.fmean(found[place]) if (place := (r, c)) in found else None for c in columns] for r in rows]
    return Grid(keys, rows, columns, cells)


def is_full_grid(jobs: Sequence[Job], keys: Sequence[str], column: str) -> bool:
    """Whether every combination of the levels was measured equally often, so that means compare like with like."""
    places = [tuple(_text(job, key) for key in keys) for job, _ in measured(jobs, column)]
    combinations = itertools.product(*({place[axis] for place in places} for axis in range(len(keys))))
    return len({places.count(combination) for combination in combinations}) <= 1


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
