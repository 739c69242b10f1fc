"""Intervals, tests and power of differences in accuracy between settings that were run with several seeds.

Every number of a comparison is a fraction of one. The intervals and the correction are checked by simulation:
tests/simulations.py.
"""

import math
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import scipy  # its modules are imported when they are used
from numpy.typing import NDArray

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
POWER = 0.8
ROUNDING = 1e-9  # differences of accuracies that agree to this are the same number
MS_FLOOR_QUANTILE = {"seeds": 0.05, "images": 0.38}
"""Seeds may agree by luck. Their mean square is raised to at least this quantile of what the residuals alone would
give, so that no interval has width zero; with the second, simulated intervals cover the truth from two seeds on."""
MAX_SEEDS = 10_000
Correctness = NDArray[np.bool_] | NDArray[np.floating[Any]]
POINTS, SPREADS = (np.arange(200) + 0.5) / 200, (np.arange(40)[:, None] + 0.5) / 40
"""Quantiles at which two distributions are evaluated: of the seeds' mean square that a comparison will observe, and of
the true one, given the one that was estimated."""


@dataclass(frozen=True)
class Interval:
    """A mean difference of accuracies over n seeds with its 95 % interval.

    error: its standard error; None if the runs do not determine it. degrees: of freedom of Student's t.
    images: test images that count as a random sample too; 0 if the interval holds for these images alone.
    """

    mean: float
    error: float | None
    degrees: float
    n: int
    images: int = 0

    @property
    def low(self) -> float | None:
        return self._end(-1)

    @property
    def high(self) -> float | None:
        return self._end(1)

    @property
    def p_value(self) -> float | None:
        """Two-sided, of no difference, before any correction for several comparisons."""
        if self.error is None:
            return None
        return 2 * float(scipy.special.stdtr(self.degrees, -abs(self.mean) / self.error))

    def _end(self, sign: int) -> float | None:
        if self.error is None:
            return None
        return self.mean + sign * (self.error * float(scipy.special.stdtrit(self.degrees, (1 + CONFIDENCE) / 2)))


@dataclass(frozen=True)
class Variance:
    """The variance components of the difference between two nets on one image, each correct (1) or incorrect (0).

    seed: of the nets' training, negative if seeds differ by less than `rest` explains; image: of the sample of images;
    rest: of one seed on one image.
    degrees: of freedom with which the mean square of the seeds was estimated; infinite if it is known.
    """

    seed: float
    image: float
    rest: float
    degrees: float = math.inf


@dataclass(frozen=True)
class PairedComparison:
    """The difference of two settings in test accuracy, paired by seed: over seeds, on these images.

    images: over seeds and images like these; None if runs lack predictions of the same images.
    variance: the components behind the decisive interval's error.
    corrected: the p-value after a correction for so many `comparisons`.
    """

    seeds: Interval
    images: Interval | None
    variance: Variance
    comparisons: int = 1
    corrected: float | None = None

    @property
    def decisive(self) -> Interval:
        """The interval that the verdict uses: over seeds and images if there is one."""
        return self.images or self.seeds

    @property
    def p_value(self) -> float | None:
        """Of no difference, corrected for `comparisons`."""
        return self.decisive.p_value if self.corrected is None else self.corrected

    @property
    def is_significant(self) -> bool:
        """Whether a difference is claimed."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    @property
    def is_inconclusive(self) -> bool:
        """Whether no difference is claimed although there are enough seeds to look for one."""
        return self.p_value is not None and not self.is_significant

    @property
    def detectable_difference(self) -> float | None:
        """The smallest true difference that this comparison detects with power 0.8."""
        if self.decisive.error is None:
            return None
        return detectable_difference(self.variance, self.decisive.images, self.decisive.n, self.comparisons)

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        if self.decisive.n == 1:
            return "one seed in common: no verdict"
        gap = self.detectable_difference
        if gap is None:
            return "no spread at all among the seeds: no verdict"
        if self.is_significant:
            return "worse than the best" if self.decisive.mean < 0 else "better than the best"
        text = f"{100 * gap:.2f} points would be" if gap < 1 else "no difference would be"
        return f"not distinguishable from the best ({text})"


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """one - other over their common seeds, by Student's t on the differences; None without a common seed.

    The error is unknown for a single seed, and for several with the very same difference.
    """
    gaps = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    if not gaps:
        return None
    mean, n = statistics.fmean(gaps), len(gaps)
    error = statistics.stdev(gaps) / math.sqrt(n) if n > 1 else 0.0
    return Interval(mean, error if error > ROUNDING else None, n - 1, n)


def crossed_difference(first: Correctness, second: Correctness) -> PairedComparison:
    """Estimate the difference first - second in accuracy, over seeds and over seeds and images.

    Mean squares of the two-way random-effects analysis of variance without replication give the variances. Over seeds
    and images the squared error is (MS_seed + max(MS_image - MS_rest, 0)) / (seeds * images), with the degrees of
    freedom of Hillis (Statistics in Medicine 26, 2007, p. 596); over seeds it is MS_seed / (seeds * images),
    Student's t. MS_seed is raised to the quantile MS_FLOOR_QUANTILE of what the residuals alone would give. One seed
    alone has no error.

    Args:
        first: (seeds, images), whether the net of a seed is correct on an image, or the fraction of its nets that are.
        second: The same of the other setting, paired by seed.

    Raises:
        ValueError: The shapes differ, or there are fewer than two images.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] < 2:
        raise ValueError(f"expected two arrays (seeds, images) of one shape, got {first.shape} and {second.shape}")
    (n, images), size = first.shape, first.size
    gaps = np.subtract(first, second, dtype=np.int8 if first.dtype == second.dtype == bool else np.float64)
    seeds, columns = gaps.sum(1), gaps.sum(0)
    mean, squares = float(seeds.sum()) / size, float(np.square(gaps).sum())
    by_image = float(columns.var(ddof=1)) / n
    if n == 1:
        alone = Interval(mean, None, math.nan, 1)
        return PairedComparison(alone, replace(alone, images=images), Variance(0.0, by_image, 0.0))
    by_seed = float(seeds.var(ddof=1)) / images
    total = squares - size * mean**2
    rest = max((total - (n - 1) * by_seed - (images - 1) * by_image) / ((n - 1) * (images - 1)), 0.0)
    of_images = max(by_image - rest, 0.0)
    of_seeds = {name: max(by_seed, rest * _ms_floor(n, name)) for name in MS_FLOOR_QUANTILE}
    both = of_seeds["images"] + of_images
    degrees = (both / of_seeds["images"]) ** 2 * (n - 1) if of_seeds["images"] else math.inf
    # without an error if all nets were correct on the very same images: nothing tells how far that is chance
    errors = [math.sqrt(mean_square / size) or None for mean_square in (of_seeds["seeds"], both)]
    return PairedComparison(
        Interval(mean, errors[0], n - 1, n),
        Interval(mean, errors[1], min(degrees, images - 1), n, images),
        Variance((by_seed - rest) / images, of_images / n, rest, n - 1),
    )


def _ms_floor(seeds: int, name: str) -> float:
    """The floor of a mean square of seeds, if the residuals have mean square 1; see MS_FLOOR_QUANTILE."""
    return float(scipy.special.chdtri(seeds - 1, 1 - MS_FLOOR_QUANTILE[name])) / (seeds - 1)


def holm(p_values: Sequence[float], comparisons: int) -> list[float]:
    """Correct p-values so that any claim among `comparisons` is false in at most 5 % (Holm 1979), step down.

    The family may have more members than there are p-values; the others count as the largest ones. Order is kept.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (comparisons - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def correct_for_all_pairs(comparisons: Sequence[PairedComparison | None]) -> list[PairedComparison | None]:
    """Correct the comparisons of all settings with one that data have chosen, as if all pairs had been compared.

    All pairs, not settings - 1: the best of a sweep shares its luck with the figures it was chosen by (a net that
    does well on validation images does well on test images), so that any pair could have been the one at hand.
    """
    p_values = [one.decisive.p_value for one in comparisons if one is not None]
    known = [p_value for p_value in p_values if p_value is not None]
    family = math.comb(len(known) + 1, 2)
    corrected = iter(holm(known, family))
    return [
        replace(one, comparisons=family, corrected=next(corrected)) if one and one.decisive.p_value is not None else one
        for one in comparisons
    ]


def power(gap: float, variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """Return the probability that a true difference is detected with so many seeds; one seed detects none.

    It is the mean over the true mean square of the seeds, given one that was estimated with `variance.degrees` (an
    inverse chi-square): with a few seeds an estimate may well be half of the truth, and a promise that takes it for the
    truth is kept in two of three sweeps instead of four of five.

    Args:
        gap: True difference, a fraction.
        variance: Its components.
        images: Test images that count as a random sample; 0 stands for the interval over seeds alone, `variance.seed`
            is then that of a seed's difference over all images at hand, and the other two components are zero.
        seeds: Seeds of each setting.
        comparisons: Size of the family, corrected for by the first, strictest step of Holm's method.
    """
    thresholds, deviations = _thresholds(variance, images, seeds, comparisons)
    with np.errstate(divide="ignore", invalid="ignore"):
        detected = np.where(deviations > 0, scipy.special.ndtr((gap - thresholds) / deviations), gap > thresholds)
    return float(detected.mean())


@lru_cache(maxsize=4096)  # shown in a table, a verdict and a file, after every job of a sweep
def detectable_difference(variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """Return the smallest true difference that is detected with power 0.8; see `power`. Never above 1."""
    low, high = 0.0, 1.0
    for _ in range(32):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, variance, images, seeds, comparisons) >= POWER else (middle, high)
    return high


@lru_cache
def _thresholds(
    variance: Variance, images: int, seeds: int, comparisons: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What an observed difference has to exceed (spreads, points), and the deviation (spreads, 1) of what is observed."""
    count = images or 1
    expected, of_images = variance.seed * count + variance.rest, variance.image * seeds
    if seeds < 2:
        return np.full((1, 1), np.inf), np.zeros((1, 1))
    if expected + of_images == 0:
        return np.zeros((1, 1)), np.zeros((1, 1))
    truths = np.full((1, 1), expected)
    if math.isfinite(variance.degrees):
        truths = np.maximum(
            expected * variance.degrees / scipy.special.chdtri(variance.degrees, SPREADS), variance.rest
        )
    floor = max(variance.rest * _ms_floor(seeds, "images"), 1e-9 * (expected + of_images))
    of_seeds = np.maximum(truths * scipy.special.chdtri(seeds - 1, 1 - POINTS) / (seeds - 1), floor)
    both = of_seeds + of_images
    degrees = (both / of_seeds) ** 2 * (seeds - 1)
    if images:
        degrees = np.minimum(degrees, images - 1)
    critical = -scipy.special.stdtrit(degrees, SIGNIFICANCE / 2 / comparisons)
    size = seeds * count
    return critical * np.sqrt(both / size), np.sqrt((truths + of_images) / size)


@dataclass(frozen=True)
class Plan:
    """How many seeds each of two settings needs, None if no number is enough; and how many images it takes at least.

    limit: the smallest difference that any number of seeds could detect with these images; 0 if they are no sample.
    """

    seeds: int | None
    limit: float
    images: int


def plan(gap: float, variance: Variance, images: int, comparisons: int) -> Plan:
    """Plan the seeds with which a true difference `gap` is detected with power 0.8; see `power`."""
    if gap <= 0:
        raise ValueError(f"expected a difference above zero, got {gap}")
    quantiles = scipy.special.ndtri([1 - SIGNIFICANCE / 2 / comparisons, POWER])
    steepness = float(quantiles[0] + quantiles[1])
    limit = steepness * math.sqrt(variance.image / images) if images else 0.0
    enough = math.ceil(variance.image * (steepness / gap) ** 2) if images else 0
    if limit >= gap or power(gap, variance, images, MAX_SEEDS, comparisons) < POWER:
        return Plan(None, limit, enough)
    # one seed never suffices, and more seeds never hurt
    powers = partial(power, gap, variance, images, comparisons=comparisons)
    return Plan(bisect_left(range(MAX_SEEDS), POWER, lo=2, key=powers), limit, enough)


class McNemar(NamedTuple):
    """Images on which only one of two models is correct, and the exact two-sided p-value of so uneven a split."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_correct: Sequence[bool], second_correct: Sequence[bool]) -> McNemar:
    """McNemar's exact test (1947) of two models over the same images."""
    times = Counter(zip(map(bool, first_correct), map(bool, second_correct), strict=True))
    only_first, only_second = times[True, False], times[False, True]
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1)) / 2**total
    return McNemar(only_first, only_second, min(1.0, 2 * tail))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927), without continuity correction; (0, 1) of no images.

    It covers the sampling of the test images, not that of the training: another seed may well lie outside.
    """
    if not n:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    fraction, square = hits / n, z * z / n
    middle = (fraction + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(fraction * (1 - fraction) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)
