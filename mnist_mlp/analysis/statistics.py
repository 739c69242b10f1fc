"""Statistics of comparisons: paired intervals over seeds, McNemar's test over images."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_mlp.analysis.interval import Interval

ROUNDING = 1e-9
"""Differences of accuracies that agree to this are the same number."""


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """one - other over the seeds that both have (Student's t on the differences); None without a common seed.

    A single seed tells no error, nor do several with the very same difference.
    """
    pairs = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    if not pairs:
        return None
    mean, n = statistics.fmean(pairs), len(pairs)
    error = statistics.stdev(pairs) / math.sqrt(n) if n > 1 else 0.0
    return Interval(mean, error if error > ROUNDING else None, n - 1, n)


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two models has right, and the exact two-sided p-value of such an uneven split."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> McNemar:
    """McNemar's exact test (1947) on two models' right and wrong over the same images."""
    pairs = list(zip(first_right, second_right, strict=True))
    only_first = sum(bool(a) and not b for a, b in pairs)
    only_second = sum(bool(b) and not a for a, b in pairs)
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    return McNemar(only_first, only_second, min(1.0, 2 * tail))
