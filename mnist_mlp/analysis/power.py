"""What a comparison can resolve, and how many seeds it takes to resolve more. Imports no torch."""

import math
from dataclasses import dataclass

from mnist_mlp.analysis.crossed import Variance
from mnist_mlp.analysis.interval import Interval
from mnist_mlp.analysis.multiplicity import SIGNIFICANCE

POWER = 0.8
MOST_SEEDS = 10_000


def resolvable(difference: Interval, comparisons: int) -> float | None:
    """The smallest true difference that this comparison would have shown with power 0.8, corrected for `comparisons`.

    From Student's noncentral t at the first, strictest step of Holm's correction; None where the error is not known.
    """
    if difference.error is None:
        return None
    return difference.error * _needed(difference.degrees, comparisons)


@dataclass(frozen=True)
class Plan:
    """How many seeds each of two settings needs. seeds: None where no number of seeds is enough.

    limit: the smallest difference that any number of seeds could resolve with these images, 0 where images are no draw;
    images: how many of them it would take at least.
    """

    seeds: int | None
    limit: float
    images: int


def plan(gap: float, variance: Variance, images: int, comparisons: int) -> Plan:
    """Seeds with which a true difference `gap` is found with power 0.8, corrected for `comparisons`.

    gap is in parts of one. images = 0 plans the interval over seeds alone, for the very images at hand; variance is
    then that of a seed's difference over all of them, with image and rest zero.
    """
    if gap <= 0:
        raise ValueError(f"expected a difference above zero, got {gap}")
    from scipy.special import ndtri  # deferred: needed by comparisons only

    steepness = float(ndtri(1 - SIGNIFICANCE / 2 / comparisons) + ndtri(POWER))
    limit = steepness * math.sqrt(variance.image / images) if images else 0.0
    enough = math.ceil(variance.image * (steepness / gap) ** 2) if images else 0
    if limit >= gap or power(gap, variance, images, MOST_SEEDS, comparisons) < POWER:
        return Plan(None, limit, enough)
    low, high = 1, MOST_SEEDS  # one seed never suffices, and more seeds never hurt
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, variance, images, middle, comparisons) >= POWER else (middle, high)
    return Plan(high, limit, enough)


def power(gap: float, variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """The chance that a true difference `gap` is found with so many seeds, two or more."""
    expected = interval_with(variance, images, seeds)
    if expected.error is None:
        return 1.0
    from scipy.special import nctdtr

    critical = _critical(expected.degrees, comparisons)
    return 1 - float(nctdtr(expected.degrees, gap / expected.error, critical))


def interval_with(variance: Variance, images: int, seeds: int) -> Interval:
    """The interval of no difference that is to be expected of so many seeds and images (0: over seeds alone)."""
    of_seeds = (variance.seed + (variance.rest / images if images else 0.0)) / seeds
    both = of_seeds + (variance.image / images if images else 0.0)
    degrees = (both / of_seeds) ** 2 * (seeds - 1) if of_seeds else math.inf
    if images:
        degrees = min(degrees, images - 1)
    return Interval(0.0, math.sqrt(both) or None, degrees, seeds, images)


def _critical(degrees: float, comparisons: int) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(degrees, SIGNIFICANCE / 2 / comparisons))


def _needed(degrees: float, comparisons: int) -> float:
    """The noncentrality at which Student's t passes its critical value with power 0.8."""
    from scipy.special import nctdtrinc

    return float(nctdtrinc(degrees, 1 - POWER, _critical(degrees, comparisons)))
