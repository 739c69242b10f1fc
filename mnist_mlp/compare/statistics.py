"""What a comparison can resolve, and how many seeds it takes to resolve more. Imports no torch."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean difference of accuracies and what is known of its error.

    error: standard error, None where the runs do not tell it; degrees: of freedom of Student's t; n: seeds;
    images: test images that are taken for a draw as well, 0 where the interval holds for these images alone.
    """

    mean: float
    error: float | None
    degrees: float
    n: int
    images: int = 0

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval."""
        return None if self.error is None else self.mean - self._half(self.error)

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval."""
        return None if self.error is None else self.mean + self._half(self.error)

    @property
    def covers_zero(self) -> bool:
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high

    @property
    def p_value(self) -> float | None:
        """Two-sided, of no difference, before any correction for several comparisons."""
        if self.error is None:
            return None
        from scipy.special import stdtr  # deferred: a table without seeds needs no scipy

        return 2 * float(stdtr(self.degrees, -abs(self.mean) / self.error))

    def _half(self, error: float) -> float:
        from scipy.special import stdtrit

        return error * float(stdtrit(self.degrees, (1 + CONFIDENCE) / 2))


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


_CONFIDENCE = 0.95


def wilson(hits: int, n: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), without continuity correction; (0, 1) of no images.

    It covers the draw of the test images, not that of the training: another seed may well lie outside.
    """
    if not n:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    part, square = hits / n, z * z / n
    middle = (part + square / 2) / (1 + square)
    half = z / (1 + square) * sqrt(part * (1 - part) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


SIGNIFICANCE = 0.05


def pairs(settings: int) -> int:
    """How many comparisons to correct for where one of so many settings, chosen by data, is compared with each other
    one.

    All pairs, not settings - 1: the best of a sweep shares its luck with the figures it was chosen by (a net that
    does well on validation images does well on test images), so that any pair could have been the one at hand.
    """
    return math.comb(settings, 2)


def holm(p_values: Sequence[float], comparisons: int) -> list[float]:
    """p-values corrected so that a claim anywhere among `comparisons` is false in at most 5 % (Holm 1979), step down.

    The family may have more members than are given; those count as the largest ones. Order is kept.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (comparisons - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


MS_FLOOR_QUANTILE = {"seeds": 0.05, "images": 0.38}
"""Seeds may agree by luck. A mean square of theirs below this quantile of what the rest alone would give is raised to
it, so that no interval has width zero; the second is the one with which simulated intervals cover from two seeds
on."""


@dataclass(frozen=True)
class Variance:
    """Where a difference of two nets' right and wrong on one image comes from: variances, in parts of one squared.

    seed: of the nets' training; image: of the draw of images; rest: of this seed on this image.
    """

    seed: float
    image: float
    rest: float

    def of_mean(self, seeds: int, images: float) -> float:
        """The variance of a mean over so many seeds and images."""
        return self.seed / seeds + self.image / images + self.rest / (seeds * images)


@dataclass(frozen=True)
class CrossedDifference:
    """The two intervals of one difference: over seeds on these images, and over seeds and images."""

    seeds: Interval
    images: Interval
    variance: Variance


def crossed_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> CrossedDifference:
    """The difference first - second in accuracy; each is (seeds, images), right or wrong, paired by seed.

    Mean squares of the two-way random-effects analysis of variance without replication give the variances. Over seeds
    and images the squared error is (MS_seed + max(MS_image - MS_rest, 0)) / (seeds * images), with the degrees of
    freedom of Hillis (Statistics in Medicine 26, 2007, p. 596); over seeds it is MS_seed / (seeds * images),
    Student's t. One seed alone has no error. Raises ValueError for shapes that differ or for fewer than two images.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] < 2:
        raise ValueError(f"expected two arrays (seeds, images) of one shape, got {first.shape} and {second.shape}")
    (n, images), size = first.shape, first.size
    seeds = first.sum(1) - second.sum(1)
    columns = first.sum(0, dtype=np.int32) - second.sum(0, dtype=np.int32)
    mean, differing = float(seeds.sum()) / size, int(np.count_nonzero(first != second))
    by_image = _mean_square(columns, n)
    if n == 1:
        alone = Interval(mean, None, math.nan, 1)
        return CrossedDifference(alone, Interval(mean, None, math.nan, 1, images), Variance(0.0, by_image, 0.0))
    by_seed = _mean_square(seeds, images)
    total = differing - size * mean**2
    rest = max((total - (n - 1) * by_seed - (images - 1) * by_image) / ((n - 1) * (images - 1)), 0.0)
    of_images = max(by_image - rest, 0.0)
    of_seeds = {name: max(by_seed, rest * _quantile(n - 1, part)) for name, part in MS_FLOOR_QUANTILE.items()}
    both = of_seeds["images"] + of_images
    degrees = (both / of_seeds["images"]) ** 2 * (n - 1) if of_seeds["images"] else math.inf
    return CrossedDifference(
        Interval(mean, _error(of_seeds["seeds"], size), n - 1, n),
        Interval(mean, _error(both, size), min(degrees, images - 1), n, images),
        Variance(max(by_seed - rest, 0.0) / images, of_images / n, rest),
    )


def _mean_square(sums: NDArray[np.integer[Any]], over: int) -> float:
    """Of the levels of one factor, from the sum of each over so many levels of the other one."""
    return float(sums.var(ddof=1)) / over


def _quantile(degrees: int, part: float) -> float:
    """Of a mean square of so many degrees of freedom whose expectation is 1."""
    from scipy.special import chdtri  # deferred: needed by comparisons only

    return float(chdtri(degrees, 1 - part)) / degrees


def _error(mean_square: float, size: int) -> float | None:
    """None where all nets were right and wrong on the very same images: nothing tells how far that is chance."""
    return math.sqrt(mean_square / size) if mean_square > 0 else None


POWER = 0.8
MAX_SEEDS = 10_000
MAX_GAP = 1.0
"""No two accuracies differ by more."""
POINTS = (np.arange(400) + 0.5) / 400
"""Where the distribution of the spread among seeds is taken."""


@dataclass(frozen=True)
class Plan:
    """How many seeds each of two settings needs. seeds: None where no number of seeds is enough.

    limit: the smallest difference that any number of seeds could resolve with these images, 0 where images are no
    draw; images: how many of them it would take at least.
    """

    seeds: int | None
    limit: float
    images: int


def power(gap: float, variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """The chance that a true difference `gap`, in parts of one, is found with so many seeds; one seed finds none.

    Corrected for `comparisons` by the first, strictest step of Holm's. images = 0 stands for the interval over seeds
    alone; variance.seed is then that of a seed's difference over all images at hand, and the other two are zero. What
    the analysis of `crossed` makes of a draw is averaged over the distribution of the seeds' mean square, a
    chi-square.
    """
    thresholds, deviation = _thresholds(variance, images, seeds, comparisons)
    return _found(gap, thresholds, deviation)


@lru_cache(maxsize=4096)  # shown in a table, a verdict and a file, after every job of a sweep
def detectable_difference(variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """The smallest true difference, in parts of one, that is found with power 0.8; see `power`. Never above 1."""
    thresholds, deviation = _thresholds(variance, images, seeds, comparisons)
    low, high = 0.0, MAX_GAP
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _found(middle, thresholds, deviation) >= POWER else (middle, high)
    return high


def _found(gap: float, thresholds: NDArray[np.float64], deviation: float) -> float:
    from scipy.special import ndtr  # deferred: needed by comparisons only

    if not deviation:
        return float((gap > thresholds).mean())
    return float(ndtr((gap - thresholds) / deviation).mean())


def _thresholds(variance: Variance, images: int, seeds: int, comparisons: int) -> tuple[NDArray[np.float64], float]:
    """What an observed difference has to exceed, at each of POINTS, and the standard deviation of what is observed."""
    from scipy.special import chdtri, stdtrit

    count = images or 1
    expected, of_images = variance.seed * count + variance.rest, variance.image * seeds
    if seeds < 2:
        return np.full(1, np.inf), 0.0
    if expected + of_images == 0:
        return np.zeros(1), 0.0
    quantiles = chdtri(seeds - 1, 1 - POINTS) / (seeds - 1)
    least = variance.rest * float(chdtri(seeds - 1, 1 - MS_FLOOR_QUANTILE["images"])) / (seeds - 1)
    of_seeds = np.maximum(expected * quantiles, max(least, 1e-9 * (expected + of_images)))
    both = of_seeds + of_images
    degrees = (both / of_seeds) ** 2 * (seeds - 1)
    if images:
        degrees = np.minimum(degrees, images - 1)
    critical = -stdtrit(degrees, SIGNIFICANCE / 2 / comparisons)
    size = seeds * count
    return critical * np.sqrt(both / size), math.sqrt((expected + of_images) / size)


def plan(gap: float, variance: Variance, images: int, comparisons: int) -> Plan:
    """Seeds with which a true difference `gap`, in parts of one, is found with power 0.8; see `power`."""
    if gap <= 0:
        raise ValueError(f"expected a difference above zero, got {gap}")
    from scipy.special import ndtri

    steepness = float(ndtri(1 - SIGNIFICANCE / 2 / comparisons) + ndtri(POWER))
    limit = steepness * math.sqrt(variance.image / images) if images else 0.0
    enough = math.ceil(variance.image * (steepness / gap) ** 2) if images else 0
    if limit >= gap or power(gap, variance, images, MAX_SEEDS, comparisons) < POWER:
        return Plan(None, limit, enough)
    low, high = 1, MAX_SEEDS  # one seed never suffices, and more seeds never hurt
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, variance, images, middle, comparisons) >= POWER else (middle, high)
    return Plan(high, limit, enough)
