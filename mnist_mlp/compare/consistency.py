"""Whether the effect of a choice holds on several datasets; see docs/statistics.md."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mnist_mlp.compare.collect import DATASET_KEYS, UNKNOWN_DATA, Summary, compare
from mnist_mlp.compare.effects import factors, sort_levels
from mnist_mlp.compare.statistics import PairedComparison
from mnist_mlp.runs.settings import joined


@dataclass(frozen=True)
class Choice:
    """Two values of a setting. differences: first - second by title of the dataset; None without matched runs."""

    key: str
    first: str
    second: str
    differences: dict[str, PairedComparison | None]

    @property
    def verdict(self) -> str:
        """On which datasets one value is better than the other, in words."""
        significant = {title: d.decisive.mean > 0 for title, d in self.differences.items() if d and d.is_significant}
        others = [title for title in self.differences if title not in significant]
        ahead, behind = ([title for title, sign in significant.items() if sign == side] for side in (True, False))
        if not significant:
            return "undecided"
        if ahead and behind:
            opposite = f"opposite: {self.first} is better on {joined(ahead)}, {self.second} on {joined(behind)}"
            return f"{opposite}, undecided on {joined(others)}" if others else opposite
        better = f"{self.first if ahead else self.second} is better"
        if not others:
            return f"holds on {'both' if len(significant) == 2 else f'all {len(significant)}'}: {better}"
        absent = [title for title in others if self._is_absent(title, significant, 1 if ahead else -1)]
        if absent == others:
            return f"only on {joined(significant)}: {better}"
        not_on = f", not on {joined(absent)}" if absent else ""
        undecided = joined(title for title in others if title not in absent)
        return f"{better} on {joined(significant)}{not_on}, undecided on {undecided}"

    def _is_absent(self, title: str, significant: Iterable[str], sign: int) -> bool:
        """Whether the interval on a dataset reaches zero, and lies below those with a significant effect."""
        low, high = _limits(self.differences[title], sign)
        return low <= 0 and all(high < _limits(self.differences[other], sign)[0] for other in significant)


def _limits(difference: PairedComparison | None, sign: int) -> tuple[float, float]:
    """Limits of sign * difference, infinite if unknown."""
    interval = difference.decisive if difference else None
    if interval is None or interval.low is None or interval.high is None:
        return -math.inf, math.inf
    return (interval.low, interval.high) if sign > 0 else (-interval.high, -interval.low)


def choices(summary: Summary) -> list[Choice]:
    """Compare, on each dataset, the values that the best setting on the first one has with all other values.

    Only settings with a result on each dataset count, matched by seed and all other settings. Comparisons are adjusted
    as in the table of the dataset, for all pairs of its settings.
    """
    parts = {title: part for title, part in summary.by_dataset.items() if title != UNKNOWN_DATA}
    best = next((row.jobs[0] for row in summary.rows if row.best), None)
    if len(parts) < 2 or best is None:
        return []
    keys = [key for key in factors(summary.jobs) if key in summary.keys and key not in DATASET_KEYS]
    cells = [{tuple(map(job.text, keys)) for job in part.jobs if job.result is not None} for part in parts.values()]
    shared = set.intersection(*filter(None, cells))
    results = []
    for index, key in enumerate(keys):
        context, first = [other for other in keys if other != key], best.text(key)
        for second in sort_levels({cell[index] for cell in shared} - {first}):
            differences: dict[str, PairedComparison | None] = {}
            for title, part in parts.items():
                jobs = [job for job in part.jobs if tuple(map(job.text, keys)) in shared]
                a, b = ([job for job in jobs if job.text(key) == value] for value in (first, second))
                difference = compare(a, b, context)
                differences[title] = difference and part.adjust(difference, a, b)
            results.append(Choice(key, first, second, differences))
    return [choice for choice in results if sum(d is not None for d in choice.differences.values()) > 1]
