"""predictions.npz: what a run predicted for each test image."""

import io
import zipfile
import zlib
from dataclasses import dataclass

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
    try:
        content = io.BytesIO(folder.predictions_file.read_bytes())  # a path given to np.load stays open where it fails
        with np.load(content, allow_pickle=False) as file:
            truth, predicted = (file[name].astype(np.int64) for name in ("truth", "prediction"))
            return Predictions(truth, predicted, np.nan_to_num(file["probabilities"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


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
