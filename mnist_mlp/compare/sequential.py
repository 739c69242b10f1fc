"""Tests that hold whenever one looks: seeds may be added, and looked at, until a difference is significant.

Student's t is valid for a number of seeds that was fixed in advance. Here the t-statistic of n paired differences is
a Bayes factor, with the right Haar prior on their standard deviation and a normal prior of variance SPREAD on the
standardized difference. Without a difference it is a nonnegative martingale of expectation 1, which exceeds 1 / p with
probability at most p, at any of infinitely many looks (Ville's inequality; Lai, Annals of Statistics 4, 1976; Wang and
Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", 2023).
"""

import math

import numpy as np
import scipy  # its modules are imported when they are used

SPREAD = 16.0
"""Prior variance of a difference, in units of the variance among seeds. Chosen by simulation: from 2 to 32, power 0.8
takes 1.1 to 1.5 times the seeds of a test planned in advance (on average); with 16, three seeds can be significant."""
IMAGE_SHARE = 0.6
"""Fraction of the level that is spent on test images. Chosen by simulation: at most 5.3 % false claims in 100 looks,
whatever the ratio of the two errors; 7.3 % with 1."""


def critical_value(seeds: int, level: float) -> float:
    """Return the |t| beyond which n paired differences are significant at any look; infinite if none is.

    Args:
        seeds: Number n of paired differences.
        level: Probability of at least one false claim over all looks.
    """
    widening = 1 + seeds * SPREAD
    ratio = math.exp((math.log(1 / level) + math.log(widening) / 2) * 2 / seeds)
    if seeds < 2 or ratio >= widening:
        return math.inf
    return math.sqrt((seeds - 1) * (ratio - 1) / (1 - ratio / widening))


def critical_difference(level: float, seed_error: float, seeds: int, image_error: float = 0.0) -> float:
    """Return the absolute difference beyond which n seeds are significant at any look; see `anytime_p_value`.

    It combines the critical difference of the seeds, which grow from look to look, with that of the test images, which
    are the same at every look: the square root of the sum of squares.
    """
    of_images = -float(scipy.special.ndtri(IMAGE_SHARE * level / 2)) * image_error
    return math.hypot(critical_value(seeds, level) * seed_error, of_images)


def anytime_p_value(mean: float, seed_error: float, seeds: int, image_error: float = 0.0) -> float:
    """Return the p-value of no difference that holds whenever one looks, two-sided; see `critical_difference`.

    Args:
        mean: Mean difference over the seeds.
        seed_error: Its standard error due to the seeds.
        seeds: Number of paired differences.
        image_error: Its standard error due to the sample of test images; 0 if the claim is about these images alone.

    Returns:
        A probability in (0, 1]; 1 if no level below 1 makes the difference significant.
    """

    def is_significant(level: float) -> bool:
        return abs(mean) > critical_difference(level, seed_error, seeds, image_error)

    low, high = -700.0, 0.0  # logarithms of levels
    if not is_significant(float(np.nextafter(1, 0))):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_significant(math.exp(middle)) else (middle, high)
    return math.exp(high)
