"""What a run predicted for each test image, and those images. Imports torch only to read images."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.errors import UserError
from mnist_mlp.runs import RunFolder


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
    """What predictions.npz says; None where there is none that can be read."""
    try:
        content = io.BytesIO(folder.predictions_file.read_bytes())  # a path given to np.load stays open where it fails
        with np.load(content, allow_pickle=False) as file:
            truth, predicted = (file[name].astype(np.int64) for name in ("truth", "prediction"))
            return Predictions(truth, predicted, np.nan_to_num(file["probabilities"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def read_test_images(source: str, root: str, truth: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The test images (n, 28, 28) behind predictions of these digits; UserError where they are not here.

    Never downloads: looking at results is no reason to fetch data.
    """
    from mnist_mlp.digits import files_are_there, load_digits  # deferred: torch

    if source != "sample" and not files_are_there(root):
        raise UserError(f"the official files are not in {Path(root)}")
    digits = load_digits(source, root)
    if not np.array_equal(digits.test_labels.numpy(), truth):
        raise UserError(f"{Path(root)} holds other test digits than those that were predicted")
    images: NDArray[np.uint8] = digits.test_images.numpy()
    return images
