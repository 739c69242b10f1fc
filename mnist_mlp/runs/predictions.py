"""The arrays of a run folder: learning curves (metrics.csv) and test predictions (predictions.npz)."""

import csv
import io
import math
import statistics
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.datasets import DIGITS, MAX_CLASSES
from mnist_mlp.runs.files import MAX_BYTES, read_content, read_text, write_bytes
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import MAX_NUMBER

Curves = Mapping[str, Sequence[float]]
"""Columns of metrics.csv by name: one number per epoch, NaN if missing."""


def read_curves(path: Path) -> Curves:
    """Read the columns of a metrics.csv; empty if it is missing or invalid."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path) or "", newline="")))
    except (ValueError, csv.Error):
        return {}
    return {name: [_number(row.get(name)) for row in rows] for name in (rows[0] if rows else ()) if name}


def band(curves: Iterable[Sequence[float]]) -> list[tuple[float, float | None]]:
    """Return (mean, sample standard deviation) of the finite values per epoch; NaN without any, None below two."""
    points = []
    for values in zip_longest(*curves, fillvalue=math.nan):
        numbers = list(filter(math.isfinite, values))
        mean, freedom = statistics.fmean(numbers or [math.nan]), len(numbers) - 1
        # statistics.stdev uses fractions and takes ten times as long
        points.append((mean, math.dist(numbers, [mean] * len(numbers)) / freedom**0.5 if freedom > 0 else None))
    return points


def shared_epochs(curves: Iterable[Sequence[float]]) -> int:
    """Count the epochs before some runs of several have no value any more: means of later ones are over fewer runs."""
    known = [[math.isfinite(value) for value in values] for values in zip_longest(*curves, fillvalue=math.nan)]
    return next((epoch for epoch, values in enumerate(known) if any(values) and not all(values)), len(known))


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return math.nan if abs(value) > MAX_NUMBER else value


@dataclass(frozen=True)
class Predictions:
    """Predictions of the test images in file order: true and predicted classes (n,), probabilities (n, classes)."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct, (n,)."""
        return np.equal(self.predicted, self.truth)


def read_predictions(folder: RunFolder, classes: int = len(DIGITS)) -> Predictions | None:
    """Read predictions.npz, without unpickling; None if it is missing or invalid."""
    if (arrays := _read(folder, classes, "truth", "prediction", "probabilities")) is None:
        return None
    probabilities = np.clip(np.nan_to_num(arrays[2]), 0, 1).astype(np.float32)
    return Predictions(arrays[0].astype(np.int64), arrays[1].astype(np.int64), probabilities)


def read_labels(folder: RunFolder, classes: int = MAX_CLASSES) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Read only the true and predicted classes (n,), which is fast; None if predictions.npz is missing or invalid."""
    arrays = _read(folder, classes, "truth", "prediction")
    return None if arrays is None else (arrays[0].astype(np.uint8), arrays[1].astype(np.uint8))


def _read(folder: RunFolder, classes: int, *names: str) -> list[NDArray[Any]] | None:
    try:
        content = io.BytesIO(read_content(folder.predictions_file) or b"")
        if sum(item.file_size for item in zipfile.ZipFile(content).infolist()) > MAX_BYTES:
            return None
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
        n = len(arrays["truth"])
    except Exception:  # zipfile, zlib and numpy raise a dozen types for damaged files
        return None
    for name, values in arrays.items():
        shape, dtype_kinds = ((n, classes), "f") if name == "probabilities" else ((n,), "iu")
        is_valid = n and values.shape == shape and values.dtype.kind in dtype_kinds
        if not is_valid or (dtype_kinds == "iu" and (values.min() < 0 or values.max() >= classes)):
            return None
    return list(arrays.values())


def write_predictions(
    folder: RunFolder, truth: NDArray[np.int64], predicted: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> None:
    """Write the true and predicted classes (n,) and the probabilities (n, classes) of the test images in file order.

    Predictions are the argmax of the logits: float32 probabilities can tie when the logits do not.
    """
    content = io.BytesIO()
    np.savez(
        content,  # compressing takes 13 ms of a job and saves a fifth of the bytes
        index=np.arange(len(truth)),
        truth=truth.astype(np.uint8),
        prediction=predicted.astype(np.uint8),
        probabilities=probabilities.astype(np.float32),
    )
    write_bytes(folder.predictions_file, content.getvalue())
