"""The order in which the jobs of a grid run."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

MAX_SETTINGS = 1000
"""Further settings run in the order of the grid: the time to order them grows with the square of their number."""


def cover(settings: Sequence[Mapping[str, str]]) -> list[int]:
    """Order jobs such that their comparison is informative early.

    All settings run with the first seed, then with the next one. Of the settings, the next is the one that is farthest
    from those before it (Gonzalez 1985): the corners of the grid come first. The distance is the sum over the keys of
    the difference in position among the key's values, on a scale from 0 to 1.

    Args:
        settings: values by key of each job in the order of the grid; "seed" is the seed.

    Returns:
        Indices of the jobs.
    """
    keys = [key for key in dict.fromkeys(key for setting in settings for key in setting) if key != "seed"]
    scaled = np.zeros((len(settings), len(keys)))
    for column, key in enumerate(keys):
        ranks = _ranks(setting.get(key, "") for setting in settings)
        scaled[:, column] = np.array(ranks) / max(*ranks, 1)
    points, setting_of = np.unique(scaled, axis=0, return_inverse=True)
    nearest, turn = np.full(len(points), np.inf), np.zeros(len(points), dtype=int)
    for number in range(len(points)):
        index = nearest.argmax()
        turn[index] = number
        if number < MAX_SETTINGS:
            nearest = np.minimum(nearest, np.abs(points - points[index]).sum(1))
        nearest[index] = -1.0
    seeds = _ranks(setting.get("seed", "") for setting in settings)
    turns: list[int] = turn[setting_of.ravel()].tolist()
    return sorted(range(len(settings)), key=lambda job: (seeds[job], turns[job]))


def _ranks(values: Iterable[str]) -> list[int]:
    """Number the values in the order in which they first occur."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]
