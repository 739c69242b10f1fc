"""The difference between two settings: its interval, its verdict, and the decision whether it exceeds a margin."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from mnist_mlp.compare.collect import DATASET_KEYS, Row, Summary, by_cell, compare
from mnist_mlp.compare.consistency import family
from mnist_mlp.compare.effects import confounded
from mnist_mlp.compare.load import Job, labels_of, same_test_images
from mnist_mlp.compare.sequential import critical_difference, critical_value
from mnist_mlp.compare.statistics import MAX_SEEDS, SIGNIFICANCE, PairedComparison, adjust, holm, mcnemar
from mnist_mlp.errors import UserError
from mnist_mlp.runs.settings import joined

BETTER, NOT_BETTER, UNDECIDED = DECISIONS = ("better", "not better", "undecided")
"""In the order of the exit codes of `python -m mnist_mlp.compare`."""
MAX_NAMES = 3


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    name: for messages; settings: text of the settings that define it, by dotted key; jobs: its runs, of any status.
    """

    name: str
    settings: Mapping[str, str]
    jobs: Sequence[Job]

    @property
    def tested(self) -> list[Job]:
        """Its finished and diverged runs."""
        return [job for job in self.jobs if job.result is not None]


@dataclass(frozen=True)
class Difference:
    """Difference a - b in test accuracy, with a verdict.

    Attributes:
        difference: Mean over common seeds, in [-1, 1].
        low, high: 95 % interval over seeds, and over test images if predictions exist; None for one seed.
        n: Number of common seeds.
        p_value: Of no difference, adjusted; for two single runs, of McNemar's test over the test images.
        comparisons: Size of the family that p-values are Holm-adjusted for (`consistency.family`), times `tries`.
        unmatched: Folder names of runs without a counterpart, which are left out.
        margin: The difference that a has to exceed, in [-1, 1].
        decision: Whether it does, however often one looks: "better", "not better" or "undecided".
        p_anytime: Of a difference that equals the margin, adjusted, valid however often one looks while adding seeds.
        reason: What the decision rests on, or lacks.
        more_seeds: Number of further seeds for a decision if the difference stays as it is; None if unknown.
    """

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    p_value: float | None = None
    comparisons: int = 1
    unmatched: tuple[str, ...] = ()
    margin: float = 0.0
    decision: str = UNDECIDED
    p_anytime: float | None = None
    reason: str = ""
    more_seeds: int | None = None

    def __repr__(self) -> str:
        return f"{self._text(self.p_value)}: {self.verdict}{self._left_out}"

    @property
    def line(self) -> str:
        """The decision, the difference and the reason in one line."""
        return f"{self.decision}: {self._text(self.p_anytime)}: {self.reason}{self._left_out}"

    @property
    def _left_out(self) -> str:
        more = f" and {len(self.unmatched) - MAX_NAMES} more" if len(self.unmatched) > MAX_NAMES else ""
        names = ", ".join(self.unmatched[:MAX_NAMES])
        return f"; left out, without a counterpart: {names}{more}" if names else ""

    def _text(self, p_value: float | None) -> str:
        interval = "" if self.low is None else f" [{100 * self.low:+.2f}, {100 * (self.high or 0):+.2f}]"
        adjusted = f" (Holm-adjusted for {self.comparisons} comparisons)" if self.comparisons > 1 else ""
        p_text = "" if p_value is None else f", p = {p_value:.3g}{adjusted}"
        return f"{self.a} - {self.b}: {100 * self.difference:+.2f} points{interval}, n = {self.n}{p_text}"


def compare_sides(summary: Summary, a: Side, b: Side, margin: float = 0.0, tries: int = 1) -> Difference:
    """Compare the test accuracy of two settings, like for like, or of two single runs, by McNemar's test.

    Args:
        summary: The table that the runs of both sides are in.
        a: Runs of one setting, of any status.
        b: Runs of the other one.
        margin: The difference that a has to exceed, in [-1, 1].
        tries: Number of such comparisons that are planned; p-values are adjusted for all of them.

    Returns:
        The difference a - b.

    Raises:
        UserError: `margin` or `tries` is out of range, the sides share runs, were tested on different images, or no
            runs match.
    """
    if not -1 < margin < 1 or tries < 1:
        raise UserError(f"margin={100 * margin:g} points, tries={tries}: expected -100 to 100 points, 1 or more tries")
    both = f"{a.name} and {b.name}"
    if any(job in b.tested for job in a.tested):
        raise UserError(f"{both} have runs in common: give both a value of the setting to compare")
    if not same_test_images([*a.tested, *b.tested]):
        names = joined((key for key in DATASET_KEYS if key in summary.keys), "or")
        raise UserError(f"{both} were tested on different images, or on unknown ones: give both the same {names}")
    summary = summary.table_of(a.tested[0])
    known, size = family(summary, a.tested, b.tested)
    size *= tries
    if len(a.tested) == len(b.tested) == 1:
        reason, more_seeds = _need_seeds(1, size)
        return replace(_compare_nets(summary, a, b), margin=margin, reason=reason, more_seeds=more_seeds)
    fixed = a.settings.keys() & b.settings.keys()
    context = [key for key in summary.keys if key not in fixed or a.settings[key] == b.settings[key]]
    groups = [{key, *others} for key, others in confounded(summary.jobs).items()]
    joint = {key for group in groups if not group <= set(context) for key in group} - {*a.settings, *b.settings}
    common, context = sorted(joint & set(context)), [key for key in context if key not in joint]
    comparison = compare(a.tested, b.tested, context)
    if comparison is None:
        names = ", ".join(["the same seed", *context])
        raise UserError(f"{both} have no runs that match in {names}: train both with the same values of these")
    adjusted, above = (adjust(own, known, size) for own in (comparison, exceeding(comparison, margin)))
    decision, (reason, more_seeds) = decide(above), explain(above, size, margin)
    if decision == BETTER and (failed := sum(job.status == "failed" for job in a.jobs)):
        decision, reason = UNDECIDED, f"{failed} of {len(a.jobs)} runs of {a.name} failed: train them again"
    paired, verdict = adjusted.decisive, adjusted.verdict
    if adjusted.is_significant and not adjusted.holds_at_any_look:
        verdict += f", if {paired.n} seeds were planned"
    if common:
        verdict += f"; {', '.join(common)} varies along, so this is the effect of the combination"
    for side in (a, b):
        if incomplete := Row({}, list(side.jobs)).incomplete:
            verdict += f"; {side.name}: {incomplete}"
    cells_a, cells_b = dict(by_cell(a.tested, context)), dict(by_cell(b.tested, context))
    unmatched = [job.folder.name for cell in cells_a.keys() ^ cells_b.keys() for job in (cells_a | cells_b)[cell]]
    return Difference(
        *(a.name, b.name, paired.mean, paired.low, paired.high, paired.n, verdict, adjusted.p_value),
        *(adjusted.comparisons, tuple(sorted(unmatched)), margin, decision, above.anytime_p_value, reason, more_seeds),
    )


def exceeding(comparison: PairedComparison, margin: float) -> PairedComparison:
    """Subtract a margin from the difference, so that "no difference" means "as large as the margin"."""
    seeds, images = comparison.seeds, comparison.images
    return replace(
        comparison,
        seeds=replace(seeds, mean=seeds.mean - margin),
        images=images and replace(images, mean=images.mean - margin),
    )


def decide(above: PairedComparison) -> str:
    """Decide by the anytime-valid p-value whether a difference, from which the margin is subtracted, is positive."""
    if (p_value := above.anytime_p_value) is None or p_value >= SIGNIFICANCE:
        return UNDECIDED
    return BETTER if above.decisive.mean > 0 else NOT_BETTER


def explain(above: PairedComparison, family: int, margin: float) -> tuple[str, int | None]:
    """Explain a decision, and estimate how many more seeds an open one needs at this difference and variation."""
    if (decision := decide(above)) != UNDECIDED:
        return f"the difference is {'above' if decision == BETTER else 'below'} {100 * margin:g} points", None
    n, level, mean = above.decisive.n, SIGNIFICANCE / family, abs(above.decisive.mean)
    if (need := _need_seeds(n, family))[1]:
        return need
    if above.seeds.error is None:
        return above.verdict, None
    deviation, images = above.seeds.error * math.sqrt(n), above.decisive.images

    def is_enough(seeds: int) -> bool:
        return critical_difference(level, deviation / math.sqrt(seeds), seeds, above.image_error) < mean

    planned = f"significant if {n} seeds were planned; " if above.is_significant else ""
    if (seeds := bisect_left(range(MAX_SEEDS), True, lo=n + 1, key=is_enough)) < MAX_SEEDS:
        more = f"{seeds - n} more seeds decide" if seeds > n + 1 else "1 more seed decides"
        return f"{planned}about {more} it if the difference stays as it is", seeds - n
    of_images = critical_difference(level, 0.0, MAX_SEEDS, above.image_error)
    if of_images < mean or not images:
        return f"{planned}more than {MAX_SEEDS:,} seeds are needed", None
    needed = f"{math.ceil(images * (of_images / mean) ** 2):,}" if mean else "more"
    return f"{planned}images, not seeds, are the limit: it takes more than {needed} test images, not {images:,}", None


def _need_seeds(n: int, family: int) -> tuple[str, int | None]:
    """The number of further seeds without which no difference can be significant; None if there are enough."""
    fewest = next(seeds for seeds in count(2) if math.isfinite(critical_value(seeds, SIGNIFICANCE / family)))
    return (
        (f"no decision before {fewest} seeds: train at least {fewest - n} more", fewest - n)
        if n < fewest
        else ("", None)
    )


def _compare_nets(summary: Summary, a: Side, b: Side) -> Difference:
    """Compare two single runs on their test images: a statement about these two nets, not about their settings."""
    accuracies = [side.tested[0].result.metric("test/accuracy") for side in (a, b) if side.tested[0].result]
    difference, labels = accuracies[0] - accuracies[1], [labels_of(side.tested[0].folder) for side in (a, b)]
    known = [pair for pair in labels if pair is not None]
    if len(known) < 2 or known[0][0] != known[1][0]:
        verdict = "not tested: one run of each, without common predictions"
        return Difference(a.name, b.name, difference, None, None, 1, verdict)
    correct = [(predicted == np.frombuffer(truth, dtype=np.uint8)).tolist() for truth, predicted in known]
    family = math.comb(sum(job.result is not None for job in summary.jobs), 2)
    (p_value,) = holm([mcnemar(*correct).p_value], family)
    differ = "these two nets differ" if p_value < SIGNIFICANCE else "these two nets do not differ significantly"
    verdict = f"{differ} on these images; other seeds may give another outcome"
    return Difference(a.name, b.name, difference, None, None, 1, verdict, p_value, family)
