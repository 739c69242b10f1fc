"""The section on the test digits over all runs: missed by every net, telling settings apart, doubtful labels."""

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Summary
from mnist_mlp.analysis.digits import NEARLY_ALL, Votes, votes
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.reporting.gallery import STYLES, gallery
from mnist_mlp.reporting.images import images_of

SHOWN = 24


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
    shown, notes = _galleries(summary, found)
    if doubtful.any():
        notes.append(
            "The accuracy without doubtful digits is a second figure, for reading only: the nets themselves chose what "
            "to leave out, which flatters them, and nothing is ever ranked or selected by it."
        )
    notes.append("Every digit that a run misses is in digits.csv, which the report of a sweep's folder writes.")
    table = _accuracies(found) if doubtful.any() else None
    return Section("Test digits over all runs", sentences, table, notes=notes, markup=shown, styles=STYLES)


def _accuracies(found: Votes) -> Table:
    header = ["setting", "test acc %", f"second figure: without the {int(found.doubtful.sum())} doubtful digits"]
    rows = [
        [name or "all", f"{100 * official:.2f}", f"{100 * without:.2f}"]
        for name, (official, without) in zip(found.names, found.accuracies(), strict=True)
    ]
    return Table(header, rows, numeric=frozenset({1, 2}))


def _galleries(summary: Summary, found: Votes) -> tuple[Markup, list[str]]:
    try:
        images = images_of(summary.jobs, found.truth)
    except UserError as error:
        return Markup(), [f"The digits are not shown: {error}."]
    return Markup().join(gallery(images[places], captions, title) for places, captions, title in _kinds(found)), []


def _kinds(found: Votes) -> Iterator[tuple[NDArray[np.int64], list[tuple[str, str]], str]]:
    """Places of digits worth a look, with their captions and what they have in common."""
    taken = [f"{given} → {said}" for given, said in zip(found.truth, found.favourite, strict=True)]
    agreed = np.flatnonzero(found.doubtful)
    agreed = agreed[np.argsort(-found.favoured[agreed], kind="stable")]
    if len(shown := agreed[:SHOWN]):
        captions = [(taken[place], f"{found.favoured[place]} of {found.runs}") for place in shown]
        yield shown, captions, f"Doubtful labels: {_some(shown, agreed)}. Given → predicted, by so many runs"
    scattered = found.missed_by_all[~found.doubtful[found.missed_by_all]]
    if len(shown := scattered[:SHOWN]):
        captions = [(taken[place], f"{found.favoured[place]} of {found.runs}") for place in shown]
        title = f"Missed by every run, without agreement: {_some(shown, scattered)}. Given → most frequent, runs"
        yield shown, captions, title
    telling = found.most_telling
    if len(found.names) > 1 and len(shown := telling[:SHOWN]):
        parts = 100 * found.missed_part
        captions = [
            (f"a {found.truth[place]}", f"{parts[:, place].min():.0f} to {parts[:, place].max():.0f} %")
            for place in shown
        ]
        title = f"Where settings differ most: {_some(shown, telling)}. Label, and how many of a setting's runs miss it"
        yield shown, captions, title


def _some(shown: NDArray[np.int64], of: NDArray[np.int64]) -> str:
    return f"{len(shown)} of {len(of)}" if len(shown) < len(of) else str(len(of))
