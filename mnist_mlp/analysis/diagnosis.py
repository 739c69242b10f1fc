"""One plain sentence on how a run went, from its status and its curves alone.

The thresholds are rules of thumb; each sentence carries the numbers behind it, so that the reader can disagree.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

CHANCE_LOSS = math.log(10)
LEARNT = 0.2
"""An accuracy below it is chance: guessing one digit gives 0.1."""
RISE, RISE_AT_LEAST = 0.1, 0.02
"""The training loss has jumped where it rose by this part of itself, and by this much."""
JUMPS = 0.25
"""The learning rate is too high where the loss jumped in more than this part of the epochs."""
TURNED = 0.05
"""The validation loss has turned where it ends this part above its lowest."""
IMPROVING = 0.02
"""Loss that still falls by this part of itself per epoch is worth more epochs."""
CLIMBING = 0.005
"""So is accuracy that still rises by this much per epoch."""
GAP = 0.03
"""Training accuracy this far above validation accuracy is over-fitting."""


def diagnosis(status: str, reason: str, planned: int | None, curves: Mapping[str, Sequence[float]]) -> str:
    """How a run of this status went. planned: trainer.max_epochs; curves: columns of metrics.csv."""
    done = len(curves.get("epoch", ()))
    if status == "failed":
        return f"Failed: {reason or 'no reason was written'}."
    if status == "unreadable":
        return f"Unreadable: {reason}."
    if status == "unfinished":
        return f"Unfinished: {done} of {planned or '?'} epochs are done; the same command goes on."
    if status == "diverged":
        return f"Learning rate too high: the loss was no longer finite in epoch {done or '?'}; try a tenth of optim.lr."
    loss = _finite(curves.get("train/loss", ()))
    if not loss:
        return "Finished, but without a metrics.csv that can be read its curves cannot be judged."
    if done < 2:
        return "One epoch only: too short to judge; train longer."
    for rule in (_nothing_learnt, _jumps, _turned, _improving, _gap):
        if sentence := rule(curves, loss):
            return sentence
    return f"Fine: {_level(curves)}, and the loss has levelled off."


def _nothing_learnt(curves: Mapping[str, Sequence[float]], loss: Sequence[float]) -> str:
    accuracy = _finite(curves.get("train/accuracy", ()))
    if not accuracy or max(accuracy[-2:]) >= LEARNT:
        return ""
    stuck = f"accuracy stays at {100 * accuracy[-1]:.0f} %, loss at {loss[-1]:.2f} (guessing: {CHANCE_LOSS:.2f})"
    if max(loss) > 1.5 * CHANCE_LOSS:
        return f"Learning rate too high: the loss reached {max(loss):.3g}, then nothing was learnt; {stuck}."
    if max(loss) - min(loss) < RISE_AT_LEAST:
        return f"Nothing learnt: {stuck}, as with dead or saturated units, or far too low a learning rate."
    return f"Hardly anything learnt yet: {stuck}; a higher learning rate or more epochs."


def _jumps(curves: Mapping[str, Sequence[float]], loss: Sequence[float]) -> str:
    rises = [(new - old, old, new) for old, new in pairwise(loss)]
    jumps = [rise for rise in rises if rise[0] > max(RISE_AT_LEAST, RISE * rise[1])]
    if not jumps or (len(jumps) <= JUMPS * len(rises) and loss[-1] < 2 * min(loss)):
        return ""
    _, old, new = max(jumps)
    return (
        f"Learning rate too high: the training loss rose in {len(jumps)} of {len(rises)} epochs, "
        f"once from {old:.3f} to {new:.3f}."
    )


def _turned(curves: Mapping[str, Sequence[float]], loss: Sequence[float]) -> str:
    val = _finite(curves.get("val/loss", ()))
    if len(val) != len(loss):
        return ""
    lowest = min(range(len(val)), key=val.__getitem__)
    if val[-1] <= val[lowest] + max(RISE_AT_LEAST, TURNED * val[lowest]) or loss[-1] >= loss[lowest]:
        return ""
    return (
        f"Over-fitting since epoch {lowest + 1}: validation loss rose from {val[lowest]:.3f} to {val[-1]:.3f} "
        f"while training loss fell from {loss[lowest]:.3f} to {loss[-1]:.3f}."
    )


def _improving(curves: Mapping[str, Sequence[float]], loss: Sequence[float]) -> str:
    name = "validation" if _finite(curves.get("val/loss", ())) else "training"
    short = "val" if name == "validation" else "train"
    judged, accuracy = _finite(curves[f"{short}/loss"]), _finite(curves.get(f"{short}/accuracy", ()))
    back = max(1, len(judged) // 5)
    if min(len(judged), len(accuracy)) <= back or judged[-1] > min(judged):
        return ""
    fall, climb = (judged[-1 - back] - judged[-1]) / back, (accuracy[-1] - accuracy[-1 - back]) / back
    if fall <= IMPROVING * judged[-1 - back] and climb <= CLIMBING:
        return ""
    return f"Still improving: {name} loss last fell by {fall:.3f} per epoch, to {judged[-1]:.3f}; train longer."


def _gap(curves: Mapping[str, Sequence[float]], loss: Sequence[float]) -> str:
    train, val = (_finite(curves.get(f"{split}/accuracy", ())) for split in ("train", "val"))
    if not train or not val or train[-1] - val[-1] < GAP:
        return ""
    return f"Over-fitting: {_level(curves)}; more data, augmentation, dropout or weight decay would narrow the gap."


def _level(curves: Mapping[str, Sequence[float]]) -> str:
    shown = (("training", "train/accuracy"), ("validation", "val/accuracy"))
    ends = [(name, _finite(curves.get(column, ()))) for name, column in shown]
    return ", ".join(f"{name} accuracy ends at {100 * values[-1]:.1f} %" for name, values in ends if values)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
