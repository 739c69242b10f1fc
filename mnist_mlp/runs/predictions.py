"""predictions.npz: what a run predicted for each test image."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.runs.files import write_bytes
from mnist_mlp.runs.folder import RunFolder


@dataclass(frozen=True)
class Predictions:
    """Test images in file order. truth and predicted: (n,) digits; probabilities: (n, 10)."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.equal(self.predicted, self.truth)


def read_predictions(folder: RunFolder) -> Predictions | None:
    """The content of predictions.npz; None where there is none that can be read."""
    found = _read(folder, "truth", "prediction", "probabilities")
    if found is None:
        return None
    truth, predicted, probabilities = found
    return Predictions(truth.astype(np.int64), predicted.astype(np.int64), np.nan_to_num(probabilities))


def read_labels(folder: RunFolder) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Truth and prediction (n,) alone, which is quick; None where there is no predictions.npz that can be read."""
    found = _read(folder, "truth", "prediction")
    return None if found is None else (found[0].astype(np.uint8), found[1].astype(np.uint8))


def _read(folder: RunFolder, *names: str) -> list[NDArray[Any]] | None:
    try:
        content = io.BytesIO(folder.predictions_file.read_bytes())  # a path given to np.load stays open where it fails
        with np.load(content, allow_pickle=False) as file:
            return [file[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def write_predictions(folder: RunFolder, truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
    """Write index, truth, prediction (n,) and probabilities (n, 10) of the test images in file order."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        index=np.arange(len(truth)),
        truth=truth.astype(np.uint8),
        prediction=probabilities.argmax(1).astype(np.uint8),
        probabilities=probabilities.astype(np.float32),
    )
    write_bytes(folder.predictions_file, content.getvalue())
