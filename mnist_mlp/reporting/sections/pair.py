"""The section on two runs: the digits on which they differ, McNemar's test, the settings that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Job
from mnist_mlp.analysis.statistics import McNemar, mcnemar
from mnist_mlp.config import non_result_keys
from mnist_mlp.errors import UserError
from mnist_mlp.plots.sample_grids import MOST_DISAGREEMENTS, disagreements
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.elements import Picture, Section, Table
from mnist_mlp.reporting.test_images import images_of
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Predictions, read_predictions
from mnist_mlp.runs.settings import differences, value_text
from mnist_mlp.runs.tables import percent


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
    pictures, notes = _pictures(first, one, other, found)
    rows = _changes(first.settings, second.settings)
    table = Table(["setting", "A", "B"], rows) if rows else None
    if table is None:
        sentences.append("Their settings do not differ.")
    return Section("A against B", sentences, table, "", pictures, notes)


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


def _pictures(job: Job, one: Predictions, other: Predictions, found: Disagreements) -> tuple[list[Picture], list[str]]:
    try:
        images = images_of([job], one.truth)
    except UserError as error:
        return [], [f"The digits that flipped are not shown: {error}."]
    pictures = []
    for chosen, what in ((found.lost, "Right in A, wrong in B"), (found.gained, "Wrong in A, right in B")):
        most = f"{MOST_DISAGREEMENTS} of {len(chosen)}" if len(chosen) > MOST_DISAGREEMENTS else str(len(chosen))
        title = f"{what}: {most}; true → A / B"
        predicted = (one.predicted[chosen], other.predicted[chosen])
        pictures.append(Picture(svg(disagreements(images[chosen], one.truth[chosen], predicted, title)), what))
    return pictures, []
