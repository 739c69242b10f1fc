"""Predict the digits on pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.data.picture import Picture, prepare, read_picture
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.serve.nets import load_classifier, locate
from mnist_mlp.training.classifier import DigitClassifier

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".avif", ".ppm", ".pgm", ".pbm", ".tga", ".ico"),
)
"""Files in a folder that are taken for pictures."""
THUMBNAIL = 160
"""Longer side of a picture that is kept to be shown, in pixels."""


@dataclass(frozen=True)
class Prediction:
    """The digit in one picture, or the reason why it has none.

    probabilities: ten numbers; pixels: (28, 28), the input of the net; thumbnail: (height, width, 3), the picture as it
    was.
    """

    file: str
    probabilities: tuple[float, ...] = ()
    pixels: NDArray[np.uint8] | None = None
    thumbnail: NDArray[np.uint8] | None = None
    error: str | None = None

    @property
    def digit(self) -> int:
        return int(np.argmax(self.probabilities))

    @property
    def probability(self) -> float:
        return max(self.probabilities)

    @property
    def runner_up(self) -> int:
        return int(np.argsort(self.probabilities, kind="stable")[-2])

    def to_json(self) -> JSON:
        """`file` and `error`, or `file`, `digit`, `probability`, `runner_up` and `probabilities`."""
        keys = ("file", "digit", "probability", "runner_up", "probabilities")
        return {key: getattr(self, key) for key in (keys if self.error is None else ("file", "error"))}


def predict_pictures(
    model: DigitClassifier, pictures: Iterable[Picture], names: Sequence[str] | None = None, thumbnails: bool = False
) -> list[Prediction]:
    """Prepare each picture as MNIST was made and predict its digit; one Prediction for each, in order.

    A picture that cannot be read gets one with `error`; the others are predicted all the same.

    Args:
        names: of the pictures; default is the file's, else "picture 1".
        thumbnails: keep a small copy of each picture.
    """
    predictions: list[Prediction] = []
    for number, picture in enumerate(pictures):
        name = names[number] if names is not None else _name(picture, number)
        try:
            colours = read_picture(picture)
            pixels = prepare(colours)
        except UserError as error:
            predictions.append(Prediction(name, error=str(error)))
        except OSError as error:
            predictions.append(Prediction(name, error=f"cannot be read ({error.strerror or error})"))
        else:
            thumbnail = Image.fromarray(colours) if thumbnails else None
            if thumbnail:
                thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
            predictions.append(Prediction(name, (), pixels, np.asarray(thumbnail) if thumbnail else None))
    images = [item.pixels for item in predictions if item.pixels is not None]
    if not images:
        return predictions
    rows = iter(model.probabilities(torch.from_numpy(np.stack(images))).double().tolist())
    return [item if item.error else replace(item, probabilities=tuple(next(rows))) for item in predictions]


def predict_run(run: str | Path, pictures: Iterable[Picture], names: Sequence[str] | None = None) -> list[Prediction]:
    """As `predict_pictures`, by a run: its folder, a checkpoint, a name under outputs/, or "latest"."""
    return predict_pictures(load_classifier(locate(run).checkpoint), pictures, names)


def as_pictures(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture, or several, as a list; an array (n, height, width) with width above 4 is n pictures."""
    if isinstance(pictures, np.ndarray):
        return list(pictures) if pictures.ndim == 3 and pictures.shape[2] > 4 else [pictures]
    return list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]  # type: ignore[list-item]


def picture_files(paths: Iterable[Path]) -> list[Path]:
    """The paths, with each folder replaced by the pictures in it, by name.

    Raises:
        UserError: a folder has none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(item for item in path.iterdir() if item.suffix.lower() in SUFFIXES and item.is_file())
        if not inside:
            raise UserError(f"{path} has no pictures in it ({', '.join(sorted(SUFFIXES))})")
        files += inside
    return files


def _name(picture: Picture, number: int) -> str:
    attribute = "filename" if isinstance(picture, Image.Image) else "name"
    name = str(picture) if isinstance(picture, (str, Path)) else getattr(picture, attribute, None)
    return name if isinstance(name, str) and name else f"picture {number + 1}"
