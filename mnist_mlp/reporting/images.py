"""Images of a page: test digits in rows with captions, the data of the digit browser."""

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

from mnist_mlp.compare.collect import Job
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels, read_predictions

MAX_DIGITS = 2000
"""In the sprite; at about 100 bytes each."""
CORRECT_OF_EACH = 12
"""Of each class, so many digits that the best run classifies correctly, whether or not another run misses them."""
MAX_PROBABILITY_BYTES = 380_000
"""Compressed; the best runs get theirs until they fill it."""
TILE, COLUMNS, GREYS = 28, 50, 16


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

    def matrices(self) -> NDArray[np.int64]:
        """(runs, 10, 10) confusion matrices, rows are truth."""
        cells = self.truth.astype(np.int64) * 10 + self.predicted
        return np.stack([np.bincount(row, minlength=100) for row in cells]).reshape(-1, 10, 10)


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
    gives some of each cell of its confusion matrix. confidence: (n,) of the best run.
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
        room = (most - int(chosen.sum())) // 2
        if len(wrong) > room:  # as many from each cell as it has, or as the others leave
            cells = truth[wrong].astype(np.int64) * 10 + predicted[wrong]
            order = np.argsort(cells, kind="stable")
            _, first, count = np.unique(cells[order], return_index=True, return_counts=True)
            rank = np.empty(len(wrong), dtype=np.int64)
            rank[order] = np.arange(len(wrong)) - np.repeat(first, count)
            wrong = wrong[np.argsort(rank, kind="stable")[:room]]
        chosen[wrong] = True
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
    return {
        "total": len(runs.truth),
        "complete": bool(runs.missed[shown].sum() == runs.missed.sum()),
        "columns": COLUMNS,
        "sprite": base64.b64encode(sprite(images[shown])).decode(),
        "places": shown.tolist(),
        "truth": "".join(map(str, runs.truth[shown])),
        "runs": [ids[job.folder] for job in runs.jobs],
        "predicted": _packed(runs.predicted[:, shown]),
        "matrices": _packed(runs.matrices().astype("<u2")),
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

    sources = [
        (job.result.data["source"], str(job.settings.get("data.root", ""))) for job in jobs if job.result is not None
    ]
    reason = UserError("no run says where its digits are")
    for source, root in dict.fromkeys(sources):
        try:
            return read_test_images(source, root, truth.astype(np.int64))
        except UserError as error:
            # a page that is shared names no folder
            reason = UserError(str(error).replace(str(Path(root)), "data.root"))
    raise reason


GALLERY_STYLES = ("gallery.css",)
"""What a section with a gallery needs."""


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
