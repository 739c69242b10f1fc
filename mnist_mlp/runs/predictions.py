"""predictions.npz: what a run predicted for each test image."""

import csv
import io
import math
import statistics
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.runs.files import MAX_BYTES, read_content, read_text, write_bytes
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import CLASSES, MAX_NUMBER

Curves = Mapping[str, Sequence[float]]
"""Columns of metrics.csv by name, a number per epoch; NaN where there is none."""


def read_curves(path: Path) -> Curves:
    """The columns of a metrics.csv; empty where there is none or it cannot be read."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path) or "", newline="")))
    except (ValueError, csv.Error):
        return {}
    return {name: [_number(row.get(name)) for row in rows] for name in (rows[0] if rows else ()) if name}


def band(curves: Iterable[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Mean, lowest and highest at each epoch, over the curves that have a finite number there."""
    points = []
    for epoch in zip(*_same_length(list(curves)), strict=True):
        numbers = [number for number in epoch if math.isfinite(number)] or [math.nan]
        points.append((statistics.fmean(numbers), min(numbers), max(numbers)))
    return points


def _same_length(curves: Sequence[Sequence[float]]) -> list[list[float]]:
    longest = max(map(len, curves), default=0)
    return [[*curve, *[math.nan] * (longest - len(curve))] for curve in curves]


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return math.nan if abs(value) > MAX_NUMBER else value


@dataclass(frozen=True)
class Predictions:
    """Test images in file order. truth and predicted: (n,) digits; probabilities: (n, 10)."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def correct(self) -> NDArray[np.bool_]:
        return np.equal(self.predicted, self.truth)


def read_predictions(folder: RunFolder) -> Predictions | None:
    """The content of predictions.npz; None where there is none that can be read. Nothing in it is ever unpickled."""
    found = _read(folder, "truth", "prediction", "probabilities")
    if found is None:
        return None
    truth, predicted, probabilities = found
    finite = np.clip(np.nan_to_num(probabilities), 0, 1).astype(np.float32)
    return Predictions(truth.astype(np.int64), predicted.astype(np.int64), finite)


def read_labels(folder: RunFolder) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Truth and prediction (n,) alone, which is quick; None where there is no predictions.npz that can be read."""
    found = _read(folder, "truth", "prediction")
    return None if found is None else (found[0].astype(np.uint8), found[1].astype(np.uint8))


def _read(folder: RunFolder, *names: str) -> list[NDArray[Any]] | None:
    try:
        content = read_content(folder.predictions_file)
        return None if content is None else _arrays(content, names)
    except Exception:  # zipfile, zlib and numpy raise a dozen kinds for damaged files
        return None


def _arrays(content: bytes, names: Sequence[str]) -> list[NDArray[Any]]:
    if sum(item.file_size for item in zipfile.ZipFile(io.BytesIO(content)).infolist()) > MAX_BYTES:
        raise ValueError("it unpacks to more than any run writes")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        found = {name: file[name] for name in names}
    n = len(found["truth"])
    for name, values in found.items():
        shape, kinds = ((n, CLASSES), "f") if name == "probabilities" else ((n,), "iu")
        if not n or values.shape != shape or values.dtype.kind not in kinds:
            raise ValueError(f"{name} is no array of this kind")
        if kinds == "iu" and (values.min() < 0 or values.max() >= CLASSES):
            raise ValueError(f"{name} has other values than digits")
    return list(found.values())


def write_predictions(
    folder: RunFolder, truth: NDArray[np.int64], predicted: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> None:
    """Write index, truth, prediction (n,) and probabilities (n, 10) of the test images in file order.

    predicted: from the logits; float32 probabilities can tie where logits do not.
    """
    content = io.BytesIO()
    np.savez_compressed(
        content,
        index=np.arange(len(truth)),
        truth=truth.astype(np.uint8),
        prediction=predicted.astype(np.uint8),
        probabilities=probabilities.astype(np.float32),
    )
    write_bytes(folder.predictions_file, content.getvalue())
