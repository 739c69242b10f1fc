"""What a comparison can resolve, and how many seeds it takes to resolve more. Imports no torch."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.crossed import TOO_ALIKE, Variance
from mnist_mlp.analysis.multiplicity import SIGNIFICANCE

POWER = 0.8
MOST_SEEDS = 10_000
LARGEST = 1.0
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
def resolvable(variance: Variance, images: int, seeds: int, comparisons: int) -> float:
    """The smallest true difference, in parts of one, that is found with power 0.8; see `power`. Never above 1."""
    thresholds, deviation = _thresholds(variance, images, seeds, comparisons)
    low, high = 0.0, LARGEST
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
    least = variance.rest * float(chdtri(seeds - 1, 1 - TOO_ALIKE["images"])) / (seeds - 1)
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
    if limit >= gap or power(gap, variance, images, MOST_SEEDS, comparisons) < POWER:
        return Plan(None, limit, enough)
    low, high = 1, MOST_SEEDS  # one seed never suffices, and more seeds never hurt
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, variance, images, middle, comparisons) >= POWER else (middle, high)
    return Plan(high, limit, enough)
