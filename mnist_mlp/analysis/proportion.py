"""How far a part of n test images, such as an accuracy, may lie from that of all images like them."""

from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
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
