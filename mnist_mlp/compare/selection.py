"""What the best setting is worth: it was chosen for its luck on validation, too, which its test accuracy shares."""

import statistics
from collections.abc import Mapping, Sequence


def cross_fitted_accuracy(scores: Sequence[Mapping[int, tuple[float, float]]]) -> float | None:
    """Return the test accuracy of the best setting without the luck by which it was chosen.

    For each seed, the setting is chosen by the scores of all other seeds, and judged by the test accuracy of this one;
    the mean over the seeds has no bias for the choice with one seed less (cross-fitting). Seeds that a setting lacks
    do not judge it.

    Args:
        scores: For each setting, by seed, the score that chooses (validation accuracy) and the test accuracy.

    Returns:
        A fraction; None with fewer than two settings, or if fewer than two seeds are common to all settings.
    """
    common = sorted(set.intersection(*map(set, scores))) if scores else []
    if len(scores) < 2 or len(common) < 2:
        return None
    judged = []
    for seed in common:
        others = [other for other in common if other != seed]
        best = max(scores, key=lambda setting: statistics.fmean(setting[other][0] for other in others))
        judged.append(best[seed][1])
    return statistics.fmean(judged)
