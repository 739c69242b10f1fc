"""Correction for the many comparisons that one sweep makes. Imports no torch."""

import math
from collections.abc import Sequence

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
