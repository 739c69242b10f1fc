"""Intervals of a difference over seeds, and over seeds and images, from right and wrong of every run on every image.

The design is crossed: every seed's pair of nets is tried on the same images, as in a multi-reader multi-case study
every reader reads the same cases. A difference d of right (1) and wrong (0) is taken as mean + seed + image + rest,
all of them random. Imports no torch.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.interval import Interval

TOO_ALIKE = {"seeds": 0.05, "images": 0.38}
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
    of_seeds = {name: max(by_seed, rest * _quantile(n - 1, part)) for name, part in TOO_ALIKE.items()}
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
