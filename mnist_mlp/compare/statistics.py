"""Confidence intervals, tests and power for differences in test accuracy, paired by seed.

Accuracies and differences are fractions. tests/simulations.py checks coverage, family-wise error and power.
"""

import math
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import scipy  # imports its submodules lazily
from numpy.typing import NDArray

from mnist_mlp.compare.sequential import anytime_p_value

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
POWER = 0.8
ROUNDING = 1e-9  # a standard error below this is rounding error
MS_FLOOR_QUANTILE = {"seeds": 0.05, "images": 0.38}
"""Lower bound on MS_seed, as a quantile of its distribution if only residuals vary. Seeds can agree by chance; the
bound keeps intervals from having zero width. With 0.38, simulated coverage is nominal from two seeds on."""
MAX_SEEDS = 10_000
MAX_NEEDED = 1_000  # seeds that a verdict names
MIN_BLOCKS, BLOCK_IMAGES = 20, 500
"""A test file is cut into blocks; a simulated coverage of 95 % needs blocks longer than clusters."""
Correctness = NDArray[np.bool_] | NDArray[np.floating[Any]]
INTERPOLATED = 200  # values of Student's t per table of critical values
MS_QUANTILES, TRUE_MS_QUANTILES = (np.arange(200) + 0.5) / 200, (np.arange(40)[:, None] + 0.5) / 40
"""Quantiles over which power is averaged: of the MS_seed to be observed, and of the true one if that is estimated."""


@dataclass(frozen=True)
class Interval:
    """A mean difference of accuracies over n seeds with its unadjusted 95 % confidence interval.

    error: standard error; None if the runs do not determine it. degrees: degrees of freedom of Student's t.
    images: number of test images, if they count as a random sample too; 0 if the interval is for these images only.
    """

    mean: float
    error: float | None
    degrees: float
    n: int
    images: int = 0

    @property
    def low(self) -> float | None:
        """Lower limit."""
        return self._end(-1)

    @property
    def high(self) -> float | None:
        """Upper limit."""
        return self._end(1)

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of no difference, unadjusted."""
        error = self.error
        return None if error is None else 2 * float(scipy.special.stdtr(self.degrees, -abs(self.mean) / error))

    def _end(self, sign: int) -> float | None:
        if self.error is None:
            return None
        return self.mean + sign * (self.error * float(scipy.special.stdtrit(self.degrees, (1 + CONFIDENCE) / 2)))


@dataclass(frozen=True)
class Variance:
    """Variance components of the difference in correctness (0 or 1) between two nets on one image.

    seed: due to training, negative if seeds differ by less than the residuals explain; image: due to the sample of
    images; residual: of one seed on one image.
    degrees: of freedom with which MS_seed was estimated; infinite if it is known.
    """

    seed: float
    image: float
    residual: float
    degrees: float = math.inf


@dataclass(frozen=True)
class PairedComparison:
    """The difference between two settings in test accuracy, paired by seed.

    seeds: the interval over seeds, for these test images.
    images: the interval over seeds and images; None if runs lack predictions of the same images.
    variance: the components that determine the decisive interval's standard error.
    comparisons: the size of the family that `adjusted` controls for; adjusted: the Holm-adjusted p-value.
    obstacle: why there is no interval although seeds vary.
    """

    seeds: Interval
    images: Interval | None
    variance: Variance
    comparisons: int = 1
    adjusted: float | None = None
    adjusted_anytime: float | None = None
    obstacle: str = ""

    @property
    def decisive(self) -> Interval:
        """The interval behind the verdict: over seeds and images if available, else over seeds."""
        return self.images or self.seeds

    @property
    def p_value(self) -> float | None:
        """The p-value of no difference, adjusted for `comparisons`."""
        return self.decisive.p_value if self.adjusted is None else self.adjusted

    @property
    def anytime_p_value(self) -> float | None:
        """The p-value that holds however often one looks while seeds are added, adjusted for `comparisons`."""
        if self.adjusted_anytime is not None or self.seeds.error is None:
            return self.adjusted_anytime
        return anytime_p_value(self.seeds.mean, self.seeds.error, self.seeds.n, self.image_error)

    @property
    def image_error(self) -> float:
        """Standard error due to the sample of test images; 0 if the comparison is about these images only."""
        return math.sqrt(self.variance.image / self.decisive.images) if self.decisive.images else 0.0

    @property
    def is_significant(self) -> bool:
        """Whether the adjusted p-value is below 0.05: valid for a number of seeds that was fixed in advance."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    @property
    def detectable_difference(self) -> float | None:
        """The smallest true difference that this comparison detects with power 0.8, after adjustment."""
        if self.decisive.error is None:
            return None
        return detectable_difference(self.variance, self.decisive.images, self.decisive.n, self.comparisons)

    @property
    def spread(self) -> float:
        """Standard deviation of the difference between seeds, on these test images."""
        per_image = self.variance.residual / self.decisive.images if self.decisive.images else 0.0
        return math.sqrt(max(self.variance.seed + per_image, 0.0))

    @property
    def holds_at_any_look(self) -> bool:
        """Whether it is significant even if seeds are added after looks at the results."""
        return self.anytime_p_value is not None and self.anytime_p_value < SIGNIFICANCE

    @property
    def outcome(self) -> str:
        """The first setting against the second: "better", "worse" or "unclear"; empty if no test is possible."""
        if self.p_value is None:
            return ""
        return ("worse" if self.decisive.mean < 0 else "better") if self.is_significant else "unclear"

    @property
    def verdict(self) -> str:
        """The outcome and what an unclear one needs, in words for a table."""
        if self.p_value is None:
            cause = self.obstacle or ("one seed in common" if self.decisive.n == 1 else "seeds do not vary")
            return f"not tested: {cause}"
        return self.outcome if self.is_significant else f"unclear: {self._needed}"

    @property
    def _needed(self) -> str:
        """What detects a difference like the observed one with power 0.8, after adjustment."""
        if (observed := abs(self.decisive.mean)) < ROUNDING:
            return "equal so far"
        required = plan(observed, self.variance, self.decisive.images, self.comparisons)
        if required.seeds is not None and required.seeds <= MAX_NEEDED:
            return f"needs about {max(required.seeds, self.decisive.n + 1)} seeds"
        return "needs more test images" if required.limit >= observed else f"needs over {MAX_NEEDED:,} seeds"


def interval_text(difference: Interval | None, unit: str = "") -> str:
    """Format a difference in percentage points with its interval, "+0.12 [-0.03, +0.27]"."""
    if difference is None:
        return "-"
    mean = f"{100 * difference.mean:+.2f}{unit}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval | None:
    """Compute first - second by the paired t test over common seeds; None without one.

    The standard error is unknown for one seed, and for several with the same difference.
    """
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if not differences:
        return None
    mean, n = statistics.fmean(differences), len(differences)
    error = statistics.stdev(differences) / math.sqrt(n) if n > 1 else 0.0
    return Interval(mean, error if error > ROUNDING else None, n - 1, n)


def crossed_difference(first: Correctness, second: Correctness) -> PairedComparison:
    """Estimate the difference first - second in accuracy with seeds and images as crossed random effects.

    Variance components come from the mean squares of a two-way ANOVA without replication. The squared standard error
    over seeds and images is (MS_seed + max(MS_image - MS_residual, 0)) / (seeds * images), with the degrees of freedom
    of Hillis (Statistics in Medicine 26, 2007, p. 596); over seeds it is MS_seed / (seeds * images) with seeds - 1
    (paired t test). One seed has no standard error.

    Args:
        first: Whether the net of each seed is correct on each image, (seeds, images) bool, or the fraction of its nets
            that are correct, float.
        second: The same for the other setting, rows paired by seed.

    Raises:
        ValueError: The shapes differ, or there are fewer than two images.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] < 2:
        raise ValueError(f"expected two arrays of one shape (seeds, images), got {first.shape} and {second.shape}")
    (n, images), size = first.shape, first.size
    gaps = np.subtract(first, second, dtype=np.int8 if first.dtype == second.dtype == bool else np.float64)
    by_seed, by_image = gaps.sum(1), gaps.sum(0)
    mean = float(by_seed.sum()) / size
    ms_image = float(by_image.var(ddof=1)) / n
    if n == 1:
        interval = Interval(mean, None, math.nan, 1)
        return PairedComparison(interval, replace(interval, images=images), Variance(0.0, ms_image, 0.0))
    ms_seed = float(by_seed.var(ddof=1)) / images
    total = float(np.square(gaps).sum()) - size * mean**2
    residual = max((total - (n - 1) * ms_seed - (images - 1) * ms_image) / ((n - 1) * (images - 1)), 0.0)
    image_excess = max(ms_image - residual, 0.0)
    seed_ms = {name: max(ms_seed, residual * _ms_floor(n, name)) for name in MS_FLOOR_QUANTILE}
    both = seed_ms["images"] + image_excess
    degrees = (both / seed_ms["images"]) ** 2 * (n - 1) if seed_ms["images"] else math.inf
    # zero if all nets are correct on the same images: the error is then unknown, not zero
    errors = [math.sqrt(mean_square / size) or None for mean_square in (seed_ms["seeds"], both)]
    return PairedComparison(
        Interval(mean, errors[0], n - 1, n),
        Interval(mean, errors[1], min(degrees, images - 1), n, images),
        Variance((ms_seed - residual) / images, image_excess / n, residual, n - 1),
    )


def _ms_floor(seeds: int, name: str) -> float:
    """The lower bound on MS_seed for a residual mean square of 1; see MS_FLOOR_QUANTILE."""
    return float(scipy.special.chdtri(seeds - 1, 1 - MS_FLOOR_QUANTILE[name])) / (seeds - 1)


def holm(p_values: Sequence[float], comparisons: int) -> list[float]:
    """Adjust p-values to control the family-wise error rate (Holm 1979, step-down); order is kept.

    comparisons: the size of the family. Members without a p-value count as the largest ones.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (comparisons - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def adjust_for_all_pairs(comparisons: Sequence[PairedComparison | None], family: int) -> list[PairedComparison | None]:
    """Holm-adjust comparisons with a best setting, or with its value of each factor, that was selected from the data.

    The family is all pairs, not settings - 1: validation and test accuracy of a net are correlated, so selecting the
    best by validation favors settings that are lucky on test, too, and any pair could have been the one compared.
    family: the number of pairs.
    """
    known = [pair for pair in comparisons if pair is not None and pair.decisive.p_value is not None]
    family = max(family, len(known))
    adjusted, anytime = (
        iter(holm([1.0 if p_value is None else p_value for p_value in p_values], family))
        for p_values in ([pair.decisive.p_value for pair in known], [pair.anytime_p_value for pair in known])
    )
    return [
        replace(pair, comparisons=family, adjusted=next(adjusted), adjusted_anytime=next(anytime))
        if pair is not None and pair.decisive.p_value is not None
        else pair
        for pair in comparisons
    ]


def adjust(comparison: PairedComparison, known: Sequence[PairedComparison], family: int) -> PairedComparison:
    """Holm-adjust one comparison, given the other known ones of its family."""
    adjusted = adjust_for_all_pairs([*known, comparison], family)[-1]
    assert adjusted is not None
    return adjusted


def power(difference: float, variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """Compute the probability of detecting a true difference; zero with one seed.

    Critical values are those of `crossed_difference`, averaged over the chi-square distribution of MS_seed, at the
    level of Holm's first, strictest step (Bonferroni) for this many comparisons. If MS_seed was estimated, the true one
    is averaged over, too, given the estimate (inverse chi-square): an estimate from three seeds is often half of the
    truth, and taking it for the truth would promise a power of 0.8 where it is 0.65. images = 0 means the interval over
    seeds: variance.seed is then the variance of a seed's difference over all images, the other components are zero.
    """
    thresholds, deviations = _thresholds(variance, images, seeds, comparisons)
    with np.errstate(divide="ignore", invalid="ignore"):
        detected = np.where(
            deviations > 0, scipy.special.ndtr((difference - thresholds) / deviations), difference > thresholds
        )
    return float(detected.mean())


@lru_cache(maxsize=4096)  # recomputed for a table, a verdict and a file after every job of a sweep
def detectable_difference(variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """Find the smallest true difference that is detected with power 0.8, at most 1; see `power`."""
    low, high = 0.0, 1.0
    for _ in range(32):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, variance, images, seeds, comparisons) >= POWER else (middle, high)
    return high


@lru_cache
def _thresholds(
    variance: Variance, images: int, seeds: int, comparisons: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Critical differences, a row per true MS_seed, and the standard deviations of observed differences, a column."""
    count = images or 1
    expected, image_excess = variance.seed * count + variance.residual, variance.image * seeds
    if seeds < 2:
        return np.full((1, 1), np.inf), np.zeros((1, 1))
    if max(expected, variance.residual) + image_excess == 0:
        return np.zeros((1, 1)), np.zeros((1, 1))
    true_ms = np.full((1, 1), expected)
    if math.isfinite(variance.degrees):
        true_ms = expected * variance.degrees / scipy.special.chdtri(variance.degrees, TRUE_MS_QUANTILES)
    true_ms = np.maximum(true_ms, variance.residual)
    floor = max(variance.residual * _ms_floor(seeds, "images"), 1e-9 * (expected + image_excess))
    seed_ms = np.maximum(true_ms * scipy.special.chdtri(seeds - 1, 1 - MS_QUANTILES) / (seeds - 1), floor)
    both = seed_ms + image_excess
    degrees = (both / seed_ms) ** 2 * (seeds - 1)
    if images:
        degrees = np.minimum(degrees, images - 1)
    # interpolated, with relative errors below 1e-4: thousands of exact quantiles would delay a sweep's table
    inverses = np.linspace((1 / degrees).min(), (1 / degrees).max(), INTERPOLATED)
    logs = np.log(-scipy.special.stdtrit(1 / inverses, SIGNIFICANCE / 2 / comparisons))
    critical = np.exp(np.interp(1 / degrees, inverses, logs))
    size = seeds * count
    return critical * np.sqrt(both / size), np.sqrt((true_ms + image_excess) / size)


@dataclass(frozen=True)
class Plan:
    """The sample size for a difference. seeds: per setting, None if no number suffices; images: the minimum.

    limit: the difference detectable with these images and unlimited seeds; 0 if images are not a random sample.
    """

    seeds: int | None
    limit: float
    images: int


@lru_cache(maxsize=4096)  # as above
def plan(difference: float, variance: Variance, images: int, comparisons: int) -> Plan:
    """Find the number of seeds that detects a true difference with power 0.8; see `power`."""
    if difference <= 0:
        raise ValueError(f"expected a difference above zero, got {difference}")
    quantiles = scipy.special.ndtri([1 - SIGNIFICANCE / 2 / comparisons, POWER])
    z_sum = float(quantiles[0] + quantiles[1])
    limit = z_sum * math.sqrt(variance.image / images) if images else 0.0
    enough = math.ceil(variance.image * (z_sum / difference) ** 2) if images else 0
    if limit >= difference or power(difference, variance, images, MAX_SEEDS, comparisons) < POWER:
        return Plan(None, limit, enough)
    # power increases with seeds and is zero for one
    powers, high = partial(power, difference, variance, images, comparisons=comparisons), 2
    while powers(high) < POWER:
        high *= 2
    return Plan(bisect_left(range(high), POWER, lo=high // 2, key=powers), limit, enough)


def cross_fitted_accuracy(scores: Sequence[Mapping[int, tuple[float, float]]]) -> float | None:
    """Estimate the test accuracy of a setting that is selected by its score, without selection bias.

    A seed that does well on validation does well on test, so the selected setting's own test accuracy is biased upward
    even if validation selects it. Here, all other seeds select the setting that each seed evaluates (cross-fitting).

    Args:
        scores: For each setting, by seed, the score that selects (validation accuracy) and the test accuracy.

    Returns:
        A fraction; None with fewer than two settings, or if they have fewer than two seeds in common.
    """
    common = sorted(set.intersection(*map(set, scores))) if scores else []
    if len(scores) < 2 or len(common) < 2:
        return None
    accuracies = []
    for seed in common:
        others = [other for other in common if other != seed]
        best = max(scores, key=lambda setting: statistics.fmean(setting[other][0] for other in others))
        accuracies.append(best[seed][1])
    return statistics.fmean(accuracies)


class McNemar(NamedTuple):
    """Images that only the first or only the second model classifies correctly, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_correct: Sequence[bool], second_correct: Sequence[bool]) -> McNemar:
    """Compare two models on the same images by McNemar's exact test (1947)."""
    times = Counter(zip(map(bool, first_correct), map(bool, second_correct), strict=True))
    only_first, only_second = times[True, False], times[False, True]
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1)) / 2**total
    return McNemar(only_first, only_second, min(1.0, 2 * tail))


def accuracy_interval(correct: NDArray[np.bool_] | Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
    """Compute the 95 % interval of an accuracy over images like these, in file order; (0, 1) without images.

    correct: (images,) for one run, of which another seed may lie outside; (seeds, images) for the mean of seeds.

    Wilson's score interval (1927) for the number of independent images that carry as much information: errors cluster
    along a file, in which neighbors often have the same writer. The variance between consecutive blocks is estimated
    from successive differences, which leave out trends (von Neumann 1941). Seeds add the squared half-width of
    Student's interval over seeds, less what residuals add to both.
    """
    rows = np.atleast_2d(correct)
    seeds, images = rows.shape
    if not images:
        return 0.0, 1.0
    fraction, by_image, by_seed = float(rows.mean()), rows.mean(0), rows.mean(1)
    blocks, variance = max(MIN_BLOCKS, images // BLOCK_IMAGES), float(by_image.var()) / images
    z = float(scipy.special.stdtrit(2 / 3 * (blocks - 1), (1 + CONFIDENCE) / 2))
    if images >= blocks and variance:
        means = [float(block.mean()) for block in np.array_split(by_image, blocks)]
        variance = max(variance, float(np.square(np.diff(means)).mean()) / 2 / blocks)
    if seeds > 1 and variance:
        residual = float((rows - by_seed[:, None] - by_image).var()) / (seeds - 1) / images
        of_seeds = max(float(by_seed.var(ddof=1)) / seeds, residual * _ms_floor(seeds, "seeds"))
        t = float(scipy.special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2))
        variance = max(variance - residual, 0.0) + of_seeds * (t / z) ** 2
    n = fraction * (1 - fraction) / variance if variance else float(images)
    square = z * z / n
    middle = (fraction + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(fraction * (1 - fraction) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)
