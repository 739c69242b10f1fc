"""The section on two runs: the digits on which they differ, McNemar's test, the settings that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Job
from mnist_mlp.analysis.statistics import McNemar, mcnemar
from mnist_mlp.config import non_result_keys
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.reporting.gallery import STYLES, gallery
from mnist_mlp.reporting.images import images_of
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Predictions, read_predictions
from mnist_mlp.runs.settings import differences, value_text
from mnist_mlp.runs.tables import percent

MOST_SHOWN = 24


@dataclass(frozen=True)
class Disagreements:
    """Places in the test set: lost is right in A and wrong in B, gained the other way round."""

    lost: NDArray[np.int64]
    gained: NDArray[np.int64]


def flipped(first: Predictions, second: Predictions) -> Disagreements:
    """The test images that one run has right and the other wrong."""
    return Disagreements(np.flatnonzero(first.right & ~second.right), np.flatnonzero(second.right & ~first.right))


def pair_section(first: Job, second: Job, names: Sequence[str]) -> Section | None:
    """A against B, by their names; None where they did not predict the same test images."""
    one, other = (read_predictions(RunFolder(job.folder)) for job in (first, second))
    sources = {value_text(job.settings.get("data.source")) for job in (first, second)}
    if one is None or other is None or len(sources) > 1 or not np.array_equal(one.truth, other.truth):
        return None
    found, n = flipped(one, other), len(one.truth)
    sentences = [
        f"A is {names[0]} ({_accuracy(one)} right), B is {names[1]} ({_accuracy(other)}).",
        f"Of {n:,} test images, {len(found.lost)} are right in A and wrong in B, {len(found.gained)} the other way "
        f"round; {int((one.right & other.right).sum()):,} are right and {int((~one.right & ~other.right).sum())} "
        "wrong in both.",
        mcnemar_sentence(mcnemar(one.right.tolist(), other.right.tolist())),
    ]
    shown, notes = _galleries((first, second), one, other, found)
    rows = _changes(first.settings, second.settings)
    table = Table(["setting", "A", "B"], rows) if rows else None
    if table is None:
        sentences.append("Their settings do not differ.")
    return Section("A against B", sentences, table, notes=notes, markup=shown, styles=STYLES)


def _accuracy(predictions: Predictions) -> str:
    return percent(float(predictions.right.mean()))


def mcnemar_sentence(test: McNemar) -> str:
    """What the test says about two runs, in words."""
    total = test.only_first + test.only_second
    if not total:
        return "McNemar's test: no image tells the two runs apart."
    ahead = "A" if test.only_first > test.only_second else "B"
    p = "p < 0.0001" if test.p_value < 1e-4 else f"p = {test.p_value:.4f}"
    if test.p_value < 0.05:
        meaning = f"{ahead} is better on images like these; whether it would be with another seed, this cannot say"
    else:
        meaning = "so uneven a split is no surprise between equally good runs: no difference is shown"
    split = f"{test.only_first} against {test.only_second}"
    return f"McNemar's exact test on the {total} that flipped ({split}): {p}; {meaning}."


def _changes(first: JSON, second: JSON) -> list[list[str]]:
    left_out = non_result_keys()
    kept = [{key: value for key, value in one.items() if key not in left_out} for one in (first, second)]
    keys = [line.partition(": ")[0] for line in differences(*kept)]
    return [[key, *(value_text(one.get(key)) for one in kept)] for key in keys]


def _galleries(
    jobs: Sequence[Job], one: Predictions, other: Predictions, found: Disagreements
) -> tuple[Markup, list[str]]:
    try:
        images = images_of(jobs, one.truth)
    except UserError as error:
        return Markup(), [f"The digits that flipped are not shown: {error}."]
    shown = Markup()
    for chosen, what in ((found.lost, "Right in A, wrong in B"), (found.gained, "Wrong in A, right in B")):
        some = chosen[np.linspace(0, len(chosen) - 1, min(MOST_SHOWN, len(chosen))).astype(int)]
        most = f"{len(some)} of {len(chosen)}" if len(some) < len(chosen) else str(len(chosen))
        answers = zip(one.truth[some], one.predicted[some], other.predicted[some], strict=True)
        captions = [(f"a {truth}", f"A {first}, B {second}") for truth, first, second in answers]
        shown += gallery(images[some], captions, f"{what}: {most}")
    return Markup("<noscript>{}</noscript>").format(shown), []  # with scripts, the digit browser shows them all
