"""How a run went, and how the runs of a setting went, in a plain sentence from status and curves alone.

The thresholds are rules of thumb, each with its reason; each sentence carries the numbers behind it, so that the
reader can disagree. The rules do not compare runs with each other: the best of several may well over-fit.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from mnist_mlp.compare.collect import Job, Row, Summary
from mnist_mlp.runs.predictions import Curves, band
from mnist_mlp.runs.result import is_at_chance

CHANCE_LOSS = math.log(10)
RISE, RISE_AT_LEAST = 0.1, 0.02
"""The training loss has jumped if it rose by this fraction of itself, and by this much: an epoch's mean over 55,000
images hardly wobbles, but near zero every ripple is a large fraction of it."""
JUMPS = 0.25  # the learning rate is too high if the loss jumped in more than this fraction of the epochs
WINDOW = 3  # epochs over which a held-out curve is averaged, from eight epochs on; below that, one
WOBBLE = {1: 0.08, WINDOW: 0.05}
"""By the window: the relative wobble of one run's validation loss (default nets, 5,000 images)."""
LOST = 0.002  # accuracy has fallen if it lost this much: one standard error of 98 % over 5,000 images
IMPROVING = 0.02  # loss that still falls by this fraction of itself per epoch is worth more epochs
CLIMBING = 0.005  # so is accuracy that still rises by this much per epoch
GAP = 0.01  # a smaller gap between training and validation accuracy is nothing to act on
TOO_HIGH = "Learning rate too high"
BROKEN = ("Failed", "Unreadable", "Unfinished", "Running", TOO_HIGH, "Nothing learnt", "Hardly anything learnt yet")
"""Kinds that make a run an exception among runs of other kinds; finer shades differ by seed alone."""
FAULTS = ("Over-fitting", "Over-confident")


@dataclass(frozen=True)
class Finding:
    """What a rule found: its kind in a few words, a sentence with the numbers, the first epoch (0: the whole run)."""

    kind: str
    text: str
    since: int = 0

    def __str__(self) -> str:
        return f"{self.kind} since epoch {self.since}: {self.text}" if self.since else f"{self.kind}: {self.text}"


class Verdict(NamedTuple):
    """How the runs of a row went. exceptions: runs of another kind, each with its name and a sentence."""

    row: Row
    verdict: str
    exceptions: list[str]


def verdicts(summary: Summary, curves: Mapping[Path, Curves]) -> list[Verdict]:
    """Judge each row of a comparison, in its order.

    Runs that broke are one camp, all others another: the larger one gives the verdict, the other the exceptions.
    curves: by run folder.
    """
    is_best_of_several = sum(bool(row.values["test_accuracy"]) for row in summary.rows) > 1
    judged = []
    for row in summary.rows:
        findings = [(job, diagnose(job, curves.get(job.folder, {}))) for job in row.jobs]
        broken = [(job, one) for job, one in findings if one.kind in BROKEN]
        sound = [(job, one) for job, one in findings if one.kind not in BROKEN]
        if len(sound) >= len(broken):
            common, others = sound[0][1], broken
            if len(sound) > 1:
                common = judge(mean_curves([curves.get(job.folder, {}) for job, _ in sound]), len(sound))
        else:  # not all of them broke in the same way: the first in the most frequent one
            kinds = [one.kind for _, one in broken]
            common = broken[kinds.index(max(kinds, key=kinds.count))][1]
            others = [(job, one) for job, one in findings if one.kind != common.kind]
        text = str(common)
        if is_best_of_several and row.best and common.kind in FAULTS:
            text += " It is the best of these settings all the same."
        times = Counter(job.seed for job in row.jobs)
        names = {job.folder: f"seed {job.seed}" if times[job.seed] == 1 else job.folder.name for job in row.jobs}
        judged.append(Verdict(row, text, [f"{names[job.folder]}: {one}" for job, one in others]))
    return judged


def diagnose(job: Job, curves: Curves) -> Finding:
    """Say how a run went; curves: the columns of its metrics.csv."""
    done, planned = len(curves.get("epoch", ())), job.settings.get("trainer.max_epochs") or "?"
    so_far = f"{done} of {planned} epochs are done"
    not_finished = {
        "failed": ("Failed", f"{job.reason or 'no reason was written'}."),
        "unreadable": ("Unreadable", f"{job.reason}."),
        "unfinished": ("Unfinished", f"{so_far}; the same command goes on."),
        "running": ("Running", f"{so_far}."),
        "diverged": (TOO_HIGH, f"the loss was no longer finite in epoch {done or '?'}; try a tenth of optim.lr."),
    }
    return Finding(*not_finished[job.status]) if job.status in not_finished else judge(curves)


def judge(curves: Curves, runs: int = 1) -> Finding:
    """Judge the curves of a finished run, or the mean curves of several: the more runs, the less they wobble."""
    loss = _finite(curves.get("train/loss", ()))
    if not loss:
        text = "finished, but without a metrics.csv that can be read its curves cannot be judged."
        return Finding("Not judged", text)
    if len(curves.get("epoch", ())) < 2:
        return Finding("One epoch only", "too short to judge; train longer.")
    broken = _nothing_learnt(curves, loss) or _jumps(loss)
    return broken or _turned(curves, loss, runs) or _improving(curves) or _level(curves)


def _nothing_learnt(curves: Curves, loss: Sequence[float]) -> Finding | None:
    accuracy = _finite(curves.get("train/accuracy", ()))
    if not accuracy or not is_at_chance(max(accuracy[-2:])):
        return None
    stuck = f"accuracy stays at {100 * accuracy[-1]:.0f} %, loss at {loss[-1]:.2f} (guessing: {CHANCE_LOSS:.2f})"
    if max(loss) > 1.5 * CHANCE_LOSS:
        return Finding(TOO_HIGH, f"the loss reached {max(loss):.3g}, then nothing was learnt; {stuck}.")
    if max(loss) - min(loss) < RISE_AT_LEAST:
        return Finding("Nothing learnt", f"{stuck}, as with dead or saturated units, or far too low a learning rate.")
    return Finding("Hardly anything learnt yet", f"{stuck}; a higher learning rate or more epochs.")


def _jumps(loss: Sequence[float]) -> Finding | None:
    rises = [(new - old, old, new) for old, new in pairwise(loss)]
    jumps = [rise for rise in rises if rise[0] > max(RISE_AT_LEAST, RISE * rise[1])]
    if not jumps or (len(jumps) <= JUMPS * len(rises) and loss[-1] < 2 * min(loss)):
        return None
    _, old, new = max(jumps)
    text = f"the training loss rose in {len(jumps)} of {len(rises)} epochs, once from {old:.3f} to {new:.3f}."
    return Finding(TOO_HIGH, text)


def _turned(curves: Curves, loss: Sequence[float], runs: int) -> Finding | None:
    """The validation loss has turned if its last level is above its lowest by twice the wobble."""
    val, accuracy = (_finite(curves.get(f"val/{name}", ())) for name in ("loss", "accuracy"))
    if len(val) != len(loss):
        return None
    window = WINDOW if len(val) >= 8 else 1
    levels, fits = _levels(val, window), _levels(loss, window)
    lowest = min(range(len(levels)), key=levels.__getitem__)
    if levels[-1] <= levels[lowest] * (1 + 2 * WOBBLE[window] / math.sqrt(runs)) or fits[-1] >= fits[lowest]:
        return None
    rose = (
        f"validation loss rose from {levels[lowest]:.3f} to {levels[-1]:.3f} while training loss fell from"
        f" {fits[lowest]:.3f} to {fits[-1]:.3f}"
    )
    since = lowest + 1 + window // 2
    rates = _levels(accuracy, window) if len(accuracy) == len(val) else []
    if rates and max(rates) - rates[-1] <= LOST:
        text = (
            f"{rose}, but validation accuracy held, at {100 * rates[-1]:.1f} %: mistakes are no more frequent, only"
            " surer; label smoothing or fewer epochs where probabilities matter."
        )
        return Finding("Over-confident", text, since)
    fell = f", and validation accuracy fell from {100 * max(rates):.1f} to {100 * rates[-1]:.1f} %" if rates else ""
    return Finding("Over-fitting", f"{rose}{fell}.", since)


def _improving(curves: Curves) -> Finding | None:
    split, name = ("val", "validation") if _finite(curves.get("val/loss", ())) else ("train", "training")
    loss, accuracy = _finite(curves[f"{split}/loss"]), _finite(curves.get(f"{split}/accuracy", ()))
    back = max(1, len(loss) // 5)
    if min(len(loss), len(accuracy)) <= back or loss[-1] > min(loss):
        return None
    fall, climb = (loss[-1 - back] - loss[-1]) / back, (accuracy[-1] - accuracy[-1 - back]) / back
    if fall <= IMPROVING * loss[-1 - back] and climb <= CLIMBING:
        return None
    return Finding(
        "Still improving", f"{name} loss last fell by {fall:.3f} per epoch, to {loss[-1]:.3f}; train longer."
    )


def _level(curves: Curves) -> Finding:
    """Nothing went wrong: what is left to gain, by the fraction of the validation error that training lacks."""
    train, val = (_finite(curves.get(f"{split}/accuracy", ())) for split in ("train", "val"))
    known = [(name, values[-1]) for name, values in (("training", train), ("validation", val)) if values]
    ends = ", ".join(f"{name} accuracy ends at {100 * last:.1f} %" for name, last in known) or "no accuracies are known"
    if train and val and train[-1] - val[-1] > max(GAP, 1 - train[-1]):
        text = f"{ends}; more data, augmentation, dropout or weight decay could narrow the gap."
        return Finding("Levelled off, limited by generalisation", text)
    return Finding("Fine", f"{ends}, and the loss has levelled off.")


def _levels(values: Sequence[float], window: int) -> list[float]:
    """Means of so many neighbours each."""
    return [sum(values[start : start + window]) / window for start in range(len(values) - window + 1)]


def mean_curves(curves: Sequence[Curves]) -> Mapping[str, list[float]]:
    """The mean of each column over the runs that have a finite number at an epoch, up to the shortest run's last."""
    length = min((len(one.get("epoch", ())) for one in curves), default=0)
    columns = {name: [one[name][:length] for one in curves if name in one] for one in curves for name in one}
    return {name: [mean for mean, _ in band(column)] for name, column in columns.items()}


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
