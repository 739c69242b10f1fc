"""Page sections with test images: galleries, the confusion matrix browser, and votes across all runs."""

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

from mnist_mlp.compare.collect import Summary
from mnist_mlp.compare.digits import DOUBTFUL_FRACTION, Votes, votes
from mnist_mlp.compare.load import Job
from mnist_mlp.console import shortened
from mnist_mlp.datasets import DIGITS, class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.data import PageContext, best_job, json_block
from mnist_mlp.reporting.elements import Section, Table, render
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels, read_predictions

MAX_IMAGES = 2000
"""Images in the sprite, about 100 bytes each."""
CORRECT_PER_CLASS = 12
"""Images per class that the best run classifies correctly, regardless of other runs."""
MAX_PROBABILITY_BYTES = 380_000
"""Compressed size limit; probabilities are included for the best runs until it is reached."""
TILE, COLUMNS, GREYS = 28, 50, 16
GALLERY_STYLES = ("gallery.css",)
MAX_SHOWN = 24
STYLES, SCRIPTS = ("gallery.css", "digits.css"), ("digit_model.js", "digits.js")
MAX_NAME = 20  # characters; longer names of classes are shortened in the confusion matrix
CONTRAST = 0.5
"""Exponent applied to cell counts, which keeps the color of single mistakes visible."""


@dataclass(frozen=True)
class PredictedRuns:
    """Runs, best first, and their predictions of the same n test images. truth: (n,); predicted: (runs, n)."""

    jobs: Sequence[Job]
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    classes: Sequence[str] = DIGITS

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Whether at least one run misclassifies each image: (n,)."""
        return np.asarray((self.predicted != self.truth).any(0))


def load_predicted_runs(jobs: Sequence[Job]) -> PredictedRuns | None:
    """The largest group of finished runs with predictions of the same images; None without any. jobs: best first."""
    groups: dict[tuple[object, ...], list[tuple[Job, NDArray[np.uint8], NDArray[np.uint8]]]] = {}
    for job in jobs:
        if job.result is not None and (labels := read_labels(RunFolder(job.folder), len(job.classes))) is not None:
            images = job.result.data["source"], job.result.source, *job.classes, labels[0].tobytes()
            groups.setdefault(images, []).append((job, *labels))
    if not groups:
        return None
    largest = max(groups.values(), key=len)
    predicted = np.stack([labels for *_, labels in largest])
    return PredictedRuns([job for job, *_ in largest], largest[0][1], predicted, largest[0][0].classes)


def select_images(runs: PredictedRuns, confidence: NDArray[np.float32], limit: int = MAX_IMAGES) -> NDArray[np.int64]:
    """Ascending indices of the images to show: some correct ones per class, and all that a run misclassifies.

    If these exceed `limit`, runs are processed best first; each fills at most half of the remaining capacity with
    an even sample over the cells of its confusion matrix. confidence: (n,) of the best run.
    """
    truth, count = runs.truth, len(runs.classes)
    chosen = np.zeros(len(truth), dtype=bool)
    for label in range(count):
        correct = np.flatnonzero((truth == label) & (runs.predicted[0] == label))
        correct = correct[np.argsort(-confidence[correct], kind="stable")]
        chosen[sample_evenly(correct, min(CORRECT_PER_CLASS, limit // (2 * count)))] = True
    if (chosen | runs.missed).sum() <= limit:
        return np.flatnonzero(chosen | runs.missed)
    for predicted in runs.predicted:
        incorrect = np.flatnonzero((predicted != truth) & ~chosen)
        cells = count * truth[incorrect].astype(np.int64) + predicted[incorrect]
        by_cell = incorrect[np.argsort(cells, kind="stable")]
        chosen[sample_evenly(by_cell, (limit - int(chosen.sum())) // 2)] = True
    return np.flatnonzero(chosen)


def sample_evenly(items: NDArray[Any], limit: int) -> NDArray[Any]:
    """At most `limit` evenly spaced items, including the first and the last."""
    return np.asarray(items[np.linspace(0, len(items) - 1, min(limit, len(items))).astype(int)])


def digits_data(
    runs: PredictedRuns, shown: NDArray[np.int64], images: NDArray[np.uint8], ids: Mapping[Path, int]
) -> dict[str, Any]:
    """The content of the JSON block digits-data. images: (n, 28, 28); ids: run id by folder.

    `complete` states whether all misclassified images are shown. Arrays are little-endian, zlib-compressed, in base64:
    predicted: (runs, shown) uint8; matrices: (runs, classes, classes) uint16; probabilities: (len(certain), shown,
    classes) uint8, scaled by 255; `certain` lists the runs with probabilities.
    """
    certain: list[int] = []
    count, bytes_left = len(runs.classes), MAX_PROBABILITY_BYTES
    kept = np.zeros((0, len(shown), count), dtype=np.uint8)
    for number, job in enumerate(runs.jobs):
        if (predictions := read_predictions(RunFolder(job.folder), len(job.classes))) is None:
            continue
        values = np.round(255 * predictions.probabilities[None, shown]).astype(np.uint8)
        bytes_left -= len(zlib.compress(values.tobytes(), 6))
        if bytes_left < 0:
            break
        certain.append(number)
        kept = np.concatenate((kept, values))
    cells = runs.truth.astype(np.int64) * count + runs.predicted
    return {
        "total": len(runs.truth),
        "complete": bool(runs.missed[shown].sum() == runs.missed.sum()),
        "columns": COLUMNS, "sprite": base64.b64encode(sprite(images[shown])).decode(),
        "classes": list(runs.classes), "indices": shown.tolist(), "truth": runs.truth[shown].tolist(),
        "runs": [ids[job.folder] for job in runs.jobs], "predicted": _compress(runs.predicted[:, shown]),
        "matrices": _compress(np.stack([np.bincount(row, minlength=count**2) for row in cells]).astype("<u2")),
        "certain": certain, "probabilities": _compress(kept),
    }  # fmt: skip


def sprite(images: NDArray[np.uint8]) -> bytes:
    """A PNG of the images (n, 28, 28) in rows of COLUMNS, dark on white, in GREYS shades (4 bits per pixel)."""
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


def _compress(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def load_test_images(jobs: Sequence[Job], truth: NDArray[Any]) -> NDArray[np.uint8]:
    """Load the test images (n, 28, 28) with these labels from the data of one of the runs; UserError on failure."""
    from mnist_mlp.data.mnist import read_test_images  # deferred: imports torch, for pages with images

    finished = [(job.result.data["source"], job.text("data.root"), job.text("data.name")) for job in jobs if job.result]
    reason = UserError("no run states the location of its images")
    for source, root, name in dict.fromkeys(finished):
        try:
            return read_test_images(source, root, truth.astype(np.int64), name)
        except UserError as error:  # pages are shared: no private paths
            reason = UserError(str(error).replace(str(Path(root)), "data.root"))
    raise reason


def gallery(images: NDArray[np.uint8], captions: Sequence[tuple[str, str]], title: str = "") -> Markup:
    """Images (n, 28, 28), each with two captions: labels, and confidence or frequency."""
    picture = base64.b64encode(sprite(images)).decode()
    return render("gallery.html", sprite=picture, columns=COLUMNS, captions=captions, title=title)


def digits_section(summary: Summary) -> Section | None:
    """Test images that many runs misclassify; None if fewer than three runs share test images."""
    tally = votes(summary)
    if tally is None:
        return None
    doubtful, n = int(tally.doubtful.sum()), len(tally.truth)
    sentences = [
        f"Of {n:,} test images, {int((tally.missed > 0).sum()):,} are misclassified by at least one run, "
        f"{len(tally.missed_by_all):,} by all {tally.runs} runs. For {doubtful}, at least "
        f"{100 * DOUBTFUL_FRACTION:.0f} % of the runs agree on a label other than the true one: some are known label "
        "errors, others hard images."
    ]
    if tally.left_out:
        sentences.append(f"Excluded: {tally.left_out} runs without predictions of these images.")
    shown, notes, table = Markup(), [], None
    try:
        classes = max((job.classes for job in summary.jobs), key=len)
        shown = _galleries(tally, load_test_images(summary.jobs, tally.truth), classes)
    except UserError as error:
        notes.append(f"Images are not shown: {error}.")
    if doubtful:
        header = ["setting", "test acc %", f"test acc % without the {doubtful} doubtful labels"]
        rows = [
            [name or "all", f"{100 * official:.2f}", f"{100 * without:.2f}"]
            for name, (official, without) in zip(tally.names, tally.accuracies(), strict=True)
        ]
        table = Table(header, rows, numeric=frozenset({1, 2}))
        notes.append(
            "The accuracy without doubtful labels is for information only and never used for ranking or selection: the "
            "networks themselves determine which images are excluded, which biases it upward."
        )
    notes.append("digits.csv, written with the report of a sweep, lists all misclassified images.")
    return Section("Test images across all runs", sentences, table, notes=notes, markup=shown, styles=GALLERY_STYLES)


def _galleries(tally: Votes, images: NDArray[np.uint8], classes: Sequence[str]) -> Markup:
    """Galleries of doubtful, hard and discriminating images. images: (n, 28, 28)."""
    missed = 100 * tally.missed_fraction

    def agreement(n: int) -> tuple[str, str]:
        true, majority = classes[tally.truth[n]], classes[tally.majority_label[n]]
        return f"{true} → {majority}", f"{tally.majority_votes[n]} of {tally.runs}"

    def spread(n: int) -> tuple[str, str]:
        return f"true {classes[tally.truth[n]]}", f"{missed[:, n].min():.0f} to {missed[:, n].max():.0f} %"

    agreed = np.flatnonzero(tally.doubtful)
    agreed = agreed[np.argsort(-tally.majority_votes[agreed], kind="stable")]
    scattered = tally.missed_by_all[~tally.doubtful[tally.missed_by_all]]
    markup = Markup()
    for title, indices, caption in (
        ("Doubtful labels: {}. True → predicted, number of runs", agreed, agreement),
        ("Misclassified by all runs: {}. True → most frequent prediction, number of runs", scattered, agreement),
        ("Largest differences between settings: {}. True label, range of error rates", tally.most_telling, spread),
    ):
        shown = indices[:MAX_SHOWN]
        if len(shown):
            title = title.format(f"{MAX_SHOWN} of {len(indices)}" if len(indices) > MAX_SHOWN else len(indices))
            markup += gallery(images[shown], [caption(n) for n in shown], title)
    return markup


def digit_browser(context: PageContext, first: Job | None = None) -> Section | None:
    """Confusion matrix of one run; with JavaScript, of any run or group, with the images of each cell.

    None if no run has finished. first: the finished run shown initially, by default the best.
    """
    ids = {job.folder: run for run, job in enumerate(context.jobs)}
    first = first or best_job(context.summary)
    if first is None:
        return None
    jobs = [first, *(job for job in context.jobs if job.result is not None and job is not first)]
    runs = load_predicted_runs(jobs)
    best = runs.jobs[0] if runs else first
    assert best.result is not None
    run = ids[best.folder]
    table = confusion_table(np.array(best.result.confusion_matrix), run, context.run_names[run], best.classes)
    data, notes = Markup(), []
    try:
        if runs is None:
            raise UserError("no readable predictions.npz")
        images = load_test_images(runs.jobs, runs.truth)
        predictions = read_predictions(RunFolder(best.folder), len(best.classes))
        confidence = np.zeros(len(runs.truth)) if predictions is None else predictions.probabilities.max(1)
        shown = select_images(runs, confidence.astype(np.float32))
        content = digits_data(runs, shown, images, ids)
        data = json_block("digits-data", content)
        missed, included, certain = int(runs.missed.sum()), int(runs.missed[shown].sum()), len(content["certain"])
        if included < missed:
            notes.append(
                f"The page has {included:,} of {missed:,} misclassified test images: those of the best runs first, "
                "for other runs a sample over all cells."
            )
        if certain < len(runs.jobs):
            kept = f"the best {certain} of {len(runs.jobs)} runs"
            notes.append(f"Probabilities are available for {kept}; other runs show votes.")
        if len(runs.jobs) < len(jobs):
            notes.append(f"Excluded: {len(jobs) - len(runs.jobs)} runs without predictions of these images.")
    except UserError as error:
        notes = [f"No images are shown: {error}."]
    sentence = (
        f"Rows are true {class_noun(best.classes, is_plural=True)}, columns predictions; blue is correct, orange "
        "incorrect. Click a cell for its images."
    )
    dataset = next((title for title, part in context.summary.by_dataset.items() if best in part.jobs), "")
    title = f"Confusion matrix and test images{f' on {dataset}' * bool(dataset)}"
    return Section(title, [sentence], markup=table + data, notes=notes, styles=STYLES, scripts=SCRIPTS)


def confusion_table(matrix: NDArray[np.int64], run: int, name: str, classes: Sequence[str] = DIGITS) -> Markup:
    """A confusion matrix (classes, classes) as a table, rows are truth. run: the id in runs-data, for digits.js."""
    hits = np.eye(len(classes), dtype=bool)
    mistakes = (matrix / max(int(matrix[~hits].max()), 1)) ** CONTRAST
    heat = np.where(hits, matrix / np.maximum(matrix.sum(1, keepdims=True), 1), mistakes)
    names = [shortened(name, MAX_NAME, "…") for name in classes]
    labels = {"classes": names, "noun": class_noun(classes), "longest": max(map(len, names))}
    return render("confusion.html", matrix=matrix.tolist(), heat=heat.tolist(), run=run, name=name, **labels)
