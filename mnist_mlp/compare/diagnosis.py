"""Diagnosis of a run, or of the runs of one setting, from status and learning curves, in one sentence.

Thresholds are rules of thumb with their reasons; each sentence quotes the numbers behind it. Runs are not compared with
each other: the best setting may overfit.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from mnist_mlp.compare.collect import Row, Summary
from mnist_mlp.compare.load import Job
from mnist_mlp.datasets import DIGITS
from mnist_mlp.runs.predictions import Curves, band
from mnist_mlp.runs.result import is_at_chance

MIN_RELATIVE_RISE, MIN_RISE = 0.1, 0.02
"""Relative and absolute rise of the training loss that count as a jump: the mean over 55,000 images has little noise,
but near zero small fluctuations are large relative to the loss."""
MAX_JUMP_FRACTION = 0.25  # more jumps per epoch mean that the learning rate is too high
WINDOW = 3  # epochs in a moving average of held-out curves, used from eight epochs on
NOISE = {1: 0.08, WINDOW: 0.05}
"""Relative fluctuation of one run's validation loss, by window (measured on default nets, 5,000 images)."""
MIN_DROP = 0.002  # one standard error of an accuracy of 98 % over 5,000 images
MIN_LOSS_DECREASE = 0.02  # relative, per epoch; more means that longer training helps
MIN_ACCURACY_GAIN = 0.005  # per epoch; likewise
SATURATED = 0.999  # training accuracy from which a falling loss no longer makes predictions correct
POOR_FIT, FITTED = 0.94, 0.98  # below (the latter after jumps), a rising validation loss need not be overfitting
UNDERFIT, REGULARIZED = 0.9, 0.05
"""A converged net underfits below this training accuracy, or if validation accuracy exceeds it by this much: dropout,
noise and augmentation act on training only."""
COLLAPSE = 0.05  # training accuracy that fell by more was lost again
GAP = 0.01  # smaller gaps between training and validation accuracy need no action
TOO_HIGH = "Learning rate too high"
BROKEN = ("Failed", "Unreadable", "Unfinished", "Running", TOO_HIGH, "At chance level", "Slow progress")
"""Categories that make a run an exception among others; finer differences are due to the seed."""
FAULTS = ("Overfitting", "Overconfident", "Underfitting", "Validation loss rising", "Training loss fluctuating")


@dataclass(frozen=True)
class Finding:
    """A diagnosis: category, a sentence with the numbers, and the epoch in which it began (0: no single epoch)."""

    category: str
    text: str
    epoch: int = 0

    def __str__(self) -> str:
        return f"{self.category}{f' since epoch {self.epoch}' if self.epoch else ''}: {self.text}"


class Verdict(NamedTuple):
    """The diagnosis of a row. exceptions: runs with another diagnosis, "name: sentence" each."""

    row: Row
    verdict: str
    exceptions: list[str]


def verdicts(summary: Summary, curves: Mapping[Path, Curves]) -> list[Verdict]:
    """Diagnose each row of a comparison, in order.

    The majority of a row, broken or sound runs, gives the verdict; the minority are exceptions. curves: by run folder.
    """
    tested = Counter(row.dataset for row in summary.rows if row.values["test_accuracy"])
    row_verdicts = []
    for row in summary.rows:
        findings = [(job, diagnose(job, curves.get(job.folder, {}))) for job in row.jobs]
        broken = [(job, finding) for job, finding in findings if finding.category in BROKEN]
        sound = [(job, finding) for job, finding in findings if finding.category not in BROKEN]
        if len(sound) >= len(broken):
            common, minority = sound[0][1], broken
            if len(sound) > 1:
                mean = mean_curves([curves.get(job.folder, {}) for job, _ in sound])
                common = judge(mean, len(sound), len(sound[0][0].classes))
        else:  # the first run of the most frequent failure represents them
            categories = [finding.category for _, finding in broken]
            common = broken[categories.index(max(categories, key=categories.count))][1]
            minority = [(job, finding) for job, finding in findings if finding.category != common.category]
        text = str(common)
        if tested[row.dataset] > 1 and row.best and common.category in FAULTS:
            text += " It is still the best of these settings."
        counts = Counter(job.seed for job in row.jobs)
        names = {job.folder: f"seed {job.seed}" if counts[job.seed] == 1 else job.folder.name for job in row.jobs}
        row_verdicts.append(Verdict(row, text, [f"{names[job.folder]}: {finding}" for job, finding in minority]))
    return row_verdicts


def diagnose(job: Job, curves: Curves) -> Finding:
    """Diagnose a run from its status and curves (the columns of metrics.csv)."""
    epochs, max_epochs = len(curves.get("epoch", ())), job.settings.get("trainer.max_epochs") or "?"
    progress = f"{epochs} of {max_epochs} epochs are done"
    not_finished = {
        "failed": ("Failed", f"{job.reason or 'no reason was recorded'}."),
        "unreadable": ("Unreadable", f"{job.reason}."),
        "unfinished": ("Unfinished", f"{progress}; repeat the command to resume."),
        "running": ("Running", f"{progress}."),
        "diverged": (TOO_HIGH, f"the loss became non-finite in epoch {epochs or '?'}; try a tenth of optim.lr."),
    }
    if job.status in not_finished:
        return Finding(*not_finished[job.status])
    return judge(curves, classes=len(job.classes))


def judge(curves: Curves, runs: int = 1, classes: int = len(DIGITS)) -> Finding:
    """Diagnose the curves of a finished run, or the mean curves of several, whose noise decreases with their number."""
    loss = _finite(curves.get("train/loss", ()))
    if not loss:
        return Finding("No curves", "finished, but cannot be judged: metrics.csv is missing, unreadable or empty.")
    if len(curves.get("epoch", ())) < 2:
        return Finding("One epoch only", "too short for a diagnosis; train longer.")
    jumps, is_too_high = _jumps(loss)
    too_high = Finding(TOO_HIGH, f"{jumps}; try a lower learning rate.") if is_too_high else None
    fault = _at_chance(curves, loss, classes) or too_high or _overfitting(curves, loss, runs)
    return fault or _improving(curves) or _converged(curves)


def _at_chance(curves: Curves, loss: Sequence[float], classes: int) -> Finding | None:
    accuracy, chance_loss = _finite(curves.get("train/accuracy", ())), math.log(classes)
    if not accuracy or not is_at_chance(max(accuracy[-2:]), classes):
        return None
    stuck = f"accuracy stays at {100 * accuracy[-1]:.0f} %, loss at {loss[-1]:.2f} (guessing: {chance_loss:.2f})"
    if max(accuracy) - accuracy[-1] > COLLAPSE:
        fell = f"training accuracy fell from {100 * max(accuracy):.0f} to {100 * accuracy[-1]:.0f} %"
        return Finding(TOO_HIGH, f"{fell}, the level of guessing.")
    if max(loss) > 1.5 * chance_loss:
        return Finding(TOO_HIGH, f"the loss reached {max(loss):.3g} and did not recover; {stuck}.")
    if max(loss) - min(loss) < MIN_RISE:
        cause = " or a learning rate too low" if len(set(accuracy[-3:])) > 1 else "; try batch norm or fewer layers"
        return Finding("At chance level", f"{stuck}; dead or saturated units{cause}.")
    text = f"{stuck}; use more epochs or a higher learning rate, or a lower one if it is high: both look alike."
    return Finding("Slow progress", text)


def _jumps(loss: Sequence[float]) -> tuple[str, bool]:
    """Describe the jumps of the training loss, "" without any; and whether they are frequent or left it high."""
    jumps = [(new - old, old, new) for old, new in pairwise(loss) if new - old > max(MIN_RISE, MIN_RELATIVE_RISE * old)]
    _, old, new = max(jumps, default=(0, 0, 0))
    text = f"the training loss rose in {len(jumps)} of {len(loss) - 1} epochs, once from {old:.3f} to {new:.3f}"
    return text if jumps else "", len(jumps) > MAX_JUMP_FRACTION * len(loss) * (loss[-1] <= max(2 * min(loss), 0.2))


def _overfitting(curves: Curves, loss: Sequence[float], runs: int) -> Finding | None:
    """Overfitting or overconfidence: the smoothed validation loss ends above its minimum by twice the noise."""
    val, accuracy = (_finite(curves.get(f"val/{name}", ())) for name in ("loss", "accuracy"))
    if len(val) != len(loss):
        return None
    window = WINDOW if len(val) >= 8 else 1
    smooth_val, smooth_train = _moving_averages(val, window), _moving_averages(loss, window)
    lowest = min(range(len(smooth_val)), key=smooth_val.__getitem__)
    threshold = smooth_val[lowest] * (1 + 2 * NOISE[window] / math.sqrt(runs))
    if smooth_val[-1] <= threshold or smooth_train[-1] >= smooth_train[lowest]:
        return None
    rose = (
        f"validation loss rose from {smooth_val[lowest]:.3f} to {smooth_val[-1]:.3f} while training loss fell from"
        f" {smooth_train[lowest]:.3f} to {smooth_train[-1]:.3f}"
    )
    epoch = lowest + 1 + window // 2
    fit = _finite(curves.get("train/accuracy", ()))
    if fit and fit[-1] < (FITTED if _jumps(loss)[0] else POOR_FIT):
        causes = f"training accuracy is only {100 * fit[-1]:.1f} %: a lower learning rate or more epochs may help"
        return Finding("Validation loss rising", f"{rose}; this looks like overfitting, but {causes}.", epoch)
    smooth = _moving_averages(accuracy, window) if len(accuracy) == len(val) else []
    if smooth and max(smooth) - smooth[-1] <= MIN_DROP:
        text = (
            f"since epoch {epoch}, {rose}, but validation accuracy, which chooses the best epoch, held at"
            f" {100 * smooth[-1]:.1f} %: errors become more confident, not more frequent; if probabilities matter, use"
            f" label smoothing or fewer epochs.{_remedy(fit, accuracy)}"
        )
        return Finding("Overconfident", text)
    fell = f", and validation accuracy fell from {100 * max(smooth):.1f} to {100 * smooth[-1]:.1f} %" if smooth else ""
    return Finding("Overfitting", f"{rose}{fell}.{_remedy(fit, accuracy)}", epoch)


def _remedy(train: Sequence[float], val: Sequence[float]) -> str:
    """Advise augmentation to nets that fit their training images and leave a gap; dropout of 0.2 rarely gains there."""
    gap = train[-1] - val[-1] if train and val and train[-1] > FITTED else 0.0
    return f" More data or augmentation could narrow the gap of {100 * gap:.1f} points." if gap > GAP else ""


def _improving(curves: Curves) -> Finding | None:
    split, name = ("val", "validation") if _finite(curves.get("val/loss", ())) else ("train", "training")
    loss, accuracy = _finite(curves[f"{split}/loss"]), _finite(curves.get(f"{split}/accuracy", ()))
    lag = max(1, len(loss) // 5)
    if min(len(loss), len(accuracy)) <= lag or loss[-1] > min(loss):
        return None
    decrease, gain = (loss[-1 - lag] - loss[-1]) / lag, (accuracy[-1] - accuracy[-1 - lag]) / lag
    fit = _finite(curves.get("train/accuracy", ()))
    is_saturated = bool(fit) and fit[-1] >= SATURATED
    if gain <= MIN_ACCURACY_GAIN and (decrease <= MIN_LOSS_DECREASE * loss[-1 - lag] or is_saturated):
        return None
    fell = f"{name} loss last fell by {decrease:.3f} per epoch, to {loss[-1]:.3f}"
    if split == "train" and fit[-1] >= POOR_FIT:  # new images may no longer gain
        text = f"{fell}; only validation images (data.val_size) could show whether longer training helps."
        return Finding("No validation", text)
    text = f"{fell}; train longer."
    if split == "val" and fit and accuracy[-2] - fit[-1] > REGULARIZED:  # val before the epoch that train averages
        text += f" Training accuracy is only {100 * fit[-1]:.1f} %: less dropout, noise or augmentation may help, too."
    return Finding("Still improving", text)


def _converged(curves: Curves) -> Finding:
    """The remaining case: converged, with or without a generalization gap."""
    train, val = (_finite(curves.get(f"{split}/accuracy", ())) for split in ("train", "val"))
    known = [(name, values[-1]) for name, values in (("training", train), ("validation", val)) if values]
    ends = ", ".join(f"{name} accuracy ends at {100 * last:.1f} %" for name, last in known) or "no accuracies logged"
    loss = _finite(curves["train/loss"])
    if train and train[-1] < FITTED and (jumps := _jumps(loss)[0]):
        return Finding("Training loss fluctuating", f"{ends}; {jumps}: a lower learning rate or more epochs may help.")
    if train and val and train[-1] - val[-1] > max(GAP, 1 - train[-1]):
        return Finding("Generalization gap", f"{ends}.{_remedy(train, val)}")
    if train and val and val[-1] - train[-1] > REGULARIZED:
        return Finding("Underfitting", f"{ends}; less dropout, noise or augmentation could raise it.")
    if train and train[-1] < (POOR_FIT if loss[-1] < (1 - MIN_LOSS_DECREASE) * loss[-2:][0] else UNDERFIT):
        return Finding("Underfitting", f"{ends}; more epochs or a larger network could raise it.")
    return Finding("Converged", f"{ends}, and the loss has leveled off.")


def _moving_averages(values: Sequence[float], window: int) -> list[float]:
    return [sum(values[start : start + window]) / window for start in range(len(values) - window + 1)]


def mean_curves(curves: Sequence[Curves]) -> Mapping[str, list[float]]:
    """Average each column over runs with a finite value, epoch by epoch, up to the end of the shortest run."""
    length = min((len(run.get("epoch", ())) for run in curves), default=0)
    columns = {name: [run[name][:length] for run in curves if name in run] for run in curves for name in run}
    return {name: [mean for mean, _ in band(column)] for name, column in columns.items()}


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
