"""The section on the test digits over all runs: missed by every net, telling settings apart, doubtful labels."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Summary
from mnist_mlp.analysis.digits import NEARLY_ALL, Votes, votes
from mnist_mlp.errors import UserError
from mnist_mlp.plots.sample_grids import digit_grid
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.elements import Picture, Section, Table
from mnist_mlp.reporting.test_images import images_of

SHOWN = 20


def digits_section(summary: Summary) -> Section | None:
    """None where fewer than three runs predicted the same test images."""
    found = votes(summary)
    if found is None:
        return None
    doubtful, n = found.doubtful, len(found.truth)
    sentences = [
        f"Of {n:,} test digits, {int((found.missed > 0).sum()):,} are missed by a run, {len(found.missed_by_all):,} by "
        f"all {found.runs} runs. For {int(doubtful.sum())}, at least {100 * NEARLY_ALL:.0f} % of the runs agree on "
        "another label than the given one: some of these labels are known to be wrong, others are just hard digits."
    ]
    if found.left_out:
        sentences.append(f"Left out are {found.left_out} runs without predictions of these images.")
    pictures, notes = _pictures(summary, found)
    if doubtful.any():
        notes.append(
            "The accuracy without doubtful digits is a second figure, for reading only: the nets themselves chose what "
            "to leave out, which flatters them, and nothing is ever ranked or selected by it."
        )
    notes.append("Every digit that a run misses is in digits.csv, which the report of a sweep's folder writes.")
    table = _accuracies(found) if doubtful.any() else None
    return Section("Test digits over all runs", sentences, table, "", pictures, notes)


def _accuracies(found: Votes) -> Table:
    header = ["setting", "test acc %", f"second figure: without the {int(found.doubtful.sum())} doubtful digits"]
    rows = [
        [name or "all", f"{100 * official:.2f}", f"{100 * without:.2f}"]
        for name, (official, without) in zip(found.names, found.accuracies(), strict=True)
    ]
    return Table(header, rows, numeric=frozenset({1, 2}))


def _pictures(summary: Summary, found: Votes) -> tuple[list[Picture], list[str]]:
    try:
        images = images_of([job for job in summary.jobs if job.result is not None], found.truth)
    except UserError as error:
        return [], [f"The digits are not shown: {error}."]
    return list(_grids(images, found)), []


def _grids(images: NDArray[np.uint8], found: Votes) -> Iterator[Picture]:
    agreed = np.flatnonzero(found.doubtful)
    agreed = agreed[np.argsort(-found.favoured[agreed], kind="stable")]
    if len(agreed):
        shown = agreed[:SHOWN]
        captions = [
            f"{found.truth[place]}→{found.favourite[place]}  {found.favoured[place]}/{found.runs}" for place in shown
        ]
        title = f"Doubtful labels: {_some(shown, agreed)}; given → predicted by so many runs"
        yield Picture(svg(digit_grid(images[shown], captions, title)), "Test digits whose label nearly all runs deny")
    scattered = found.missed_by_all[~found.doubtful[found.missed_by_all]]
    if len(scattered):
        shown = scattered[:SHOWN]
        captions = [f"{found.truth[place]}→{found.favourite[place]}  {found.favoured[place]}" for place in shown]
        title = f"Missed by every run, without agreement: {_some(shown, scattered)}; given → most frequent, runs"
        yield Picture(svg(digit_grid(images[shown], captions, title)), "Test digits that every run misses")
    telling = found.most_telling
    if len(found.names) > 1 and len(telling):
        shown, parts = telling[:SHOWN], found.missed_part
        captions = [
            f"{found.truth[place]}  {100 * parts[:, place].min():.0f}-{100 * parts[:, place].max():.0f} %"
            for place in shown
        ]
        title = f"Where settings differ most: {_some(shown, telling)}; label, runs of a setting that miss it"
        yield Picture(svg(digit_grid(images[shown], captions, title)), "Test digits on which settings differ most")


def _some(shown: NDArray[np.int64], of: NDArray[np.int64]) -> str:
    return f"{len(shown)} of {len(of)}" if len(shown) < len(of) else str(len(of))
