"""Learning-rate schedules, per optimiser step."""

import math

ONE_CYCLE_RISE = 0.3
"""The part of all steps in which one_cycle rises."""


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`, relative to `optim.lr`.

    Agrees with torch's CosineAnnealingLR, LinearLR (to 0) and OneCycleLR (its defaults, momentum not cycled).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total))
    if schedule == "linear":
        return 1 - step / total
    if schedule == "one_cycle":
        start, end, peak = 1 / 25, 1 / 25e4, ONE_CYCLE_RISE * total - 1
        low, part = (start, step / peak - 1) if step <= peak else (end, (step - peak) / (total - 1 - peak))
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part))
    return 1.0
