"""Test digits on the page: galleries, the confusion matrix with the digits behind it, and what all runs say of them."""

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.compare.collect import Job, Summary
from mnist_mlp.compare.digits import DOUBTFUL_FRACTION, Votes, votes
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.data import Compared, as_block, best_job
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels, read_predictions

MAX_DIGITS = 2000
"""In the sprite; at about 100 bytes each."""
CORRECT_OF_EACH = 12
"""Of each class, so many digits that the best run classifies correctly, whether or not another run misses them."""
MAX_PROBABILITY_BYTES = 380_000
"""Compressed; the best runs get theirs until they fill it."""
TILE, COLUMNS, GREYS = 28, 50, 16
GALLERY_STYLES = ("gallery.css",)
"""What a section with a gallery needs."""
MAX_SHOWN = 24
STYLES, SCRIPTS = ("gallery.css", "digits.css"), ("digit_model.js", "digits.js")
CONTRAST = 0.5
"""The color of a cell grows with this power of its count, or single mistakes would look like none."""


@dataclass(frozen=True)
class Labelled:
    """Runs, best first, that predicted the same n test images. truth: (n,); predicted: (runs, n)."""

    jobs: Sequence[Job]
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]

    @property
    def missed(self) -> NDArray[np.bool_]:
        """(n,) whether a run is wrong."""
        return np.asarray((self.predicted != self.truth).any(0))


def labelled(jobs: Sequence[Job]) -> Labelled | None:
    """Of these runs, best first, the finished ones with predictions of the images that most have; None without any."""
    groups: dict[tuple[str, bytes], list[tuple[Job, NDArray[np.uint8], NDArray[np.uint8]]]] = {}
    for job in jobs:
        if job.result is not None and (labels := read_labels(RunFolder(job.folder))) is not None:
            groups.setdefault((job.result.data["source"], labels[0].tobytes()), []).append((job, *labels))
    if not groups:
        return None
    largest = max(groups.values(), key=len)
    return Labelled([job for job, *_ in largest], largest[0][1], np.stack([predicted for *_, predicted in largest]))


def shown_digits(runs: Labelled, confidence: NDArray[np.float32], most: int = MAX_DIGITS) -> NDArray[np.int64]:
    """Indices of the digits to show, ascending: a few correct ones of each class, and every one that a run misses.

    If those are more than `most`, the best runs come first, and a run with more mistakes than half of what is left
    gives an even sample over its confusion matrix. confidence: (n,) of the best run.
    """
    truth = runs.truth
    chosen = np.zeros(len(truth), dtype=bool)
    for digit in range(10):
        correct = np.flatnonzero((truth == digit) & (runs.predicted[0] == digit))
        correct = correct[np.argsort(-confidence[correct], kind="stable")]
        chosen[evenly(correct, CORRECT_OF_EACH)] = True
    if (chosen | runs.missed).sum() <= most:
        return np.flatnonzero(chosen | runs.missed)
    for predicted in runs.predicted:
        wrong = np.flatnonzero((predicted != truth) & ~chosen)
        by_cell = wrong[np.argsort(10 * truth[wrong].astype(np.int64) + predicted[wrong], kind="stable")]
        chosen[evenly(by_cell, (most - int(chosen.sum())) // 2)] = True
    return np.flatnonzero(chosen)


def evenly(items: NDArray[Any], most: int) -> NDArray[Any]:
    """At most `most` of these, evenly spaced, first and last among them."""
    return np.asarray(items[np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)])


def digits_data(
    runs: Labelled, shown: NDArray[np.int64], images: NDArray[np.uint8], ids: Mapping[Path, int]
) -> dict[str, Any]:
    """The content of the block digits-data. images: (n, 28, 28), of all; ids: of the runs, by folder.

    complete: every digit that a run misses is shown. Arrays are compressed by zlib, little-endian, in base64.
    predicted: (runs, shown) bytes; matrices: (runs, 10, 10) of two bytes; probabilities: (runs of "certain", shown,
    10) bytes, where 255 is 1.
    """
    certain: list[int] = []
    kept, room = np.zeros((0, len(shown), 10), dtype=np.uint8), MAX_PROBABILITY_BYTES
    for number, job in enumerate(runs.jobs):
        if (predictions := read_predictions(RunFolder(job.folder))) is None:
            continue
        values = np.round(255 * predictions.probabilities[None, shown]).astype(np.uint8)
        room -= len(zlib.compress(values.tobytes(), 6))
        if room < 0:
            break
        certain.append(number)
        kept = np.concatenate((kept, values))
    cells = runs.truth.astype(np.int64) * 10 + runs.predicted
    return {
        "total": len(runs.truth),
        "complete": bool(runs.missed[shown].sum() == runs.missed.sum()),
        "columns": COLUMNS,
        "sprite": base64.b64encode(sprite(images[shown])).decode(),
        "places": shown.tolist(),
        "truth": "".join(map(str, runs.truth[shown])),
        "runs": [ids[job.folder] for job in runs.jobs],
        "predicted": _packed(runs.predicted[:, shown]),
        "matrices": _packed(np.stack([np.bincount(row, minlength=100) for row in cells]).astype("<u2")),
        "certain": certain,
        "probabilities": _packed(kept),
    }


def sprite(images: NDArray[np.uint8]) -> bytes:
    """A PNG of the images (n, 28, 28) in rows of COLUMNS, ink dark on white, in GREYS shades: four bits a pixel."""
    rows = max(1, -(-len(images) // COLUMNS))
    tiles = np.zeros((rows * COLUMNS, TILE, TILE), dtype=np.uint8)
    tiles[: len(images)] = images
    sheet = tiles.reshape(rows, COLUMNS, TILE, TILE).swapaxes(1, 2).reshape(rows * TILE, COLUMNS * TILE)
    step = 255 // (GREYS - 1)
    picture = Image.fromarray(GREYS - 1 - ((sheet.astype(np.int64) + step // 2) // step).astype(np.uint8))
    picture.putpalette([shade * step for shade in range(GREYS) for _ in range(3)])
    content = io.BytesIO()
    picture.save(content, "png", bits=4, optimize=True)
    return content.getvalue()


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def images_of(jobs: Sequence[Job], truth: NDArray[Any]) -> NDArray[np.uint8]:
    """The test images (n, 28, 28) with these labels, from where one of the runs had them; UserError without any."""
    from mnist_mlp.data.mnist import read_test_images  # deferred: torch, for pages that show digits

    finished = [(job.result.data["source"], str(job.settings.get("data.root", ""))) for job in jobs if job.result]
    reason = UserError("no run says where its digits are")
    for source, root in dict.fromkeys(finished):
        try:
            return read_test_images(source, root, truth.astype(np.int64))
        except UserError as error:  # a page that is shared names no folder
            reason = UserError(str(error).replace(str(Path(root)), "data.root"))
    raise reason


def gallery(images: NDArray[np.uint8], captions: Sequence[tuple[str, str]], title: str = "") -> Markup:
    """The images (n, 28, 28), each with two captions: what it is taken for, and how surely or how often."""
    tiles = Markup().join(
        Markup(
            '<li><span class="digit" role="img" aria-label="Digit {}" style="--x: {}; --y: {}"></span>'
            "<b>{}</b><span>{}</span></li>"
        ).format(number + 1, number % COLUMNS, number // COLUMNS, *caption)
        for number, caption in enumerate(captions)
    )
    heading = Markup("<h3>{}</h3>").format(title) if title else Markup()
    source = base64.b64encode(sprite(images)).decode()
    return heading + Markup(
        '<ul class="gallery" style="--sprite: url(data:image/png;base64,{}); --columns: {}">{}</ul>'
    ).format(source, COLUMNS, tiles)


def digits_section(summary: Summary) -> Section | None:
    """None if fewer than three runs predicted the same test images."""
    found = votes(summary)
    if found is None:
        return None
    doubtful, n = int(found.doubtful.sum()), len(found.truth)
    sentences = [
        f"Of {n:,} test digits, {int((found.missed > 0).sum()):,} are missed by a run, {len(found.missed_by_all):,} by "
        f"all {found.runs} runs. For {doubtful}, at least {100 * DOUBTFUL_FRACTION:.0f} % of the runs agree on "
        "another label than the given one: some of these labels are known to be wrong, others are just hard digits."
    ]
    if found.left_out:
        sentences.append(f"Left out are {found.left_out} runs without predictions of these images.")
    shown, notes, table = Markup(), [], None
    try:
        shown = _galleries(found, images_of(summary.jobs, found.truth))
    except UserError as error:
        notes.append(f"The digits are not shown: {error}.")
    if doubtful:
        header = ["setting", "test acc %", f"second figure: without the {doubtful} doubtful digits"]
        rows = [
            [name or "all", f"{100 * official:.2f}", f"{100 * without:.2f}"]
            for name, (official, without) in zip(found.names, found.accuracies(), strict=True)
        ]
        table = Table(header, rows, numeric=frozenset({1, 2}))
        notes.append(
            "The accuracy without doubtful digits is a second figure, for reading only: the nets themselves chose what "
            "to leave out, which flatters them, and nothing is ever ranked or selected by it."
        )
    notes.append("Every digit that a run misses is in digits.csv, which the report of a sweep's folder writes.")
    return Section("Test digits over all runs", sentences, table, notes=notes, markup=shown, styles=GALLERY_STYLES)


def _galleries(found: Votes, images: NDArray[np.uint8]) -> Markup:
    """Digits worth a look; images: (n, 28, 28), of all."""
    missed = 100 * found.missed_fraction

    def agreement(n: int) -> tuple[str, str]:
        return f"{found.truth[n]} → {found.majority_label[n]}", f"{found.majority_votes[n]} of {found.runs}"

    def spread(n: int) -> tuple[str, str]:
        return f"a {found.truth[n]}", f"{missed[:, n].min():.0f} to {missed[:, n].max():.0f} %"

    agreed = np.flatnonzero(found.doubtful)
    agreed = agreed[np.argsort(-found.majority_votes[agreed], kind="stable")]
    scattered = found.missed_by_all[~found.doubtful[found.missed_by_all]]
    markup = Markup()
    for title, indices, caption in (
        ("Doubtful labels: {}. Given → predicted, by so many runs", agreed, agreement),
        ("Missed by every run, without agreement: {}. Given → most frequent, runs", scattered, agreement),
        ("Where settings differ most: {}. Label, and how many of a setting's runs miss it", found.most_telling, spread),
    ):
        shown = indices[:MAX_SHOWN]
        if len(shown):
            title = title.format(f"{MAX_SHOWN} of {len(indices)}" if len(indices) > MAX_SHOWN else len(indices))
            markup += gallery(images[shown], [caption(n) for n in shown], title)
    return markup


def digit_browser(compared: Compared, first: Job | None = None) -> Section | None:
    """The confusion matrix of one run, and with scripts of any run or group, with its digits.

    None if no run has finished. first: a finished run to begin with; the best by default.
    """
    ids = {job.folder: run for run, job in enumerate(compared.jobs)}
    first = first or best_job(compared.summary)
    if first is None:
        return None
    jobs = [first, *(job for job in compared.jobs if job.result is not None and job is not first)]
    runs = labelled(jobs)
    best = runs.jobs[0] if runs else first
    assert best.result is not None
    run = ids[best.folder]
    table = confusion_table(np.array(best.result.confusion_matrix), run, compared.run_names[run])
    data, notes = Markup(), []
    try:
        if runs is None:
            raise UserError("there is no predictions.npz that can be read")
        images = images_of(runs.jobs, runs.truth)
        predictions = read_predictions(RunFolder(best.folder))
        confidence = np.zeros(len(runs.truth)) if predictions is None else predictions.probabilities.max(1)
        shown = shown_digits(runs, confidence.astype(np.float32))
        content = digits_data(runs, shown, images, ids)
        data = as_block("digits-data", content)
        missed, held, certain = int(runs.missed.sum()), int(runs.missed[shown].sum()), len(content["certain"])
        if held < missed:
            notes.append(
                f"Of {missed:,} test digits that a run misses, the page holds {held:,}: the best runs' first, "
                "of the others a sample over all cells."
            )
        if certain < len(runs.jobs):
            kept = f"the best {certain} of {len(runs.jobs)} runs"
            notes.append(f"Probabilities are held for {kept}; for the others, votes.")
        if len(runs.jobs) < len(jobs):
            notes.append(f"Left out are {len(jobs) - len(runs.jobs)} runs without predictions of these images.")
    except UserError as error:
        notes = [f"No digits are shown: {error}."]
    colors = "blue is right, orange a mistake"
    sentence = f"Each row is a true digit, each column an answer: {colors}. A cell opens its digits."
    markup = Markup('<div class="digits">{}</div>').format(table) + data
    title = "Confusion matrix and test digits"
    return Section(title, [sentence], markup=markup, notes=notes, styles=STYLES, scripts=SCRIPTS)


def confusion_table(matrix: NDArray[np.int64], run: int, name: str) -> Markup:
    """A (10, 10) confusion matrix as a table, rows are truth; scripts make it open digits. run: its id in runs-data."""
    hits = np.eye(10, dtype=bool)
    mistakes = (matrix / max(int(matrix[~hits].max()), 1)) ** CONTRAST
    heat = np.where(hits, matrix / np.maximum(matrix.sum(1, keepdims=True), 1), mistakes)
    cell = Markup('<td class="{}" style="--heat: {:.3f}">{}</td>')
    rows = Markup()
    for truth, counts in enumerate(matrix.tolist()):
        kinds = ["hit" if truth == answer else "miss" for answer in range(10)]
        cells = (cell.format(*one) for one in zip(kinds, heat[truth], (count or "" for count in counts), strict=True))
        rows += Markup('<tr><th scope="row">{}</th>{}</tr>').format(truth, Markup().join(cells))
    head = Markup().join(Markup('<th scope="col">{}</th>').format(digit) for digit in range(10))
    return Markup(
        '<table class="confusion" data-run="{}"><caption>Confusion matrix of {}</caption><thead>'
        '<tr><td></td><th scope="colgroup" colspan="10">predicted digit</th></tr>'
        '<tr><th scope="col">true</th>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(run, name, head, rows)
