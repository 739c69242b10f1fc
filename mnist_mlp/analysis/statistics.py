"""Statistics of comparisons: paired intervals over seeds, McNemar's test over images."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean difference with its 95 % confidence interval; low and high are None for a single pair."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def covers_zero(self) -> bool:
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """one - other over the seeds that both have (Student's t on the differences); None without a common seed."""
    pairs = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    if not pairs:
        return None
    mean, n = statistics.fmean(pairs), len(pairs)
    if n == 1:
        return Interval(mean, None, None, 1)
    from scipy.special import stdtrit  # deferred: only sweeps over seeds need scipy

    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(pairs) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def verdict(difference: Interval | None) -> str:
    """What a difference to the best means, in words."""
    if difference is None:
        return "no seed in common with the best"
    if difference.low is None:
        return "one seed in common: no verdict"
    if difference.covers_zero:
        return "not distinguishable from the best"
    return "worse than the best" if difference.mean < 0 else "better than the best"


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
