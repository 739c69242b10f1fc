"""predictions.npz: what a run predicted for each test image."""

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.runs.files import write_bytes
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.reading import MOST_BYTES, read_content
from mnist_mlp.runs.schema import CLASSES


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
    """The content of predictions.npz; None where there is none that can be read. Nothing in it is ever unpickled."""
    try:
        content = read_content(folder.predictions_file)
        return None if content is None else _predictions(content)
    except Exception:  # zipfile, zlib and numpy raise a dozen kinds for damaged files
        return None


def _predictions(content: bytes) -> Predictions:
    if sum(item.file_size for item in zipfile.ZipFile(io.BytesIO(content)).infolist()) > MOST_BYTES:
        raise ValueError("it unpacks to more than any run writes")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        truth, predicted, probabilities = (file[name] for name in ("truth", "prediction", "probabilities"))
    n = len(truth)
    if not (n and truth.shape == predicted.shape == (n,) and probabilities.shape == (n, CLASSES)):
        raise ValueError("the arrays do not belong together")
    if probabilities.dtype.kind != "f" or any(one.dtype.kind not in "iu" for one in (truth, predicted)):
        raise ValueError("these are no digits and probabilities")
    if any(one.min() < 0 or one.max() >= CLASSES for one in (truth, predicted)):
        raise ValueError("these are no digits")
    finite = np.clip(np.nan_to_num(probabilities), 0, 1).astype(np.float32)
    return Predictions(truth.astype(np.int64), predicted.astype(np.int64), finite)


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
