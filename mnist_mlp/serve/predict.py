"""Predict the classes of pictures of any size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.data.picture import Picture, fit_to_field, prepare, read_picture
from mnist_mlp.datasets import DIGITS, class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.serve.nets import load_classifier, locate
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.trainer import default_torch_state

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".avif", ".ppm", ".pgm", ".pbm", ".tga", ".ico"),
)
"""File extensions of pictures in a folder."""
THUMBNAIL = 160
"""Longer side of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Prediction:
    """The predicted class of one picture, or the error that prevented it.

    Attributes:
        probabilities: Of the classes; empty if there is an error.
        pixels: (28, 28); the input of the network.
        thumbnail: (height, width, 3); the original picture, scaled down.
        classes: Names of the classes.
    """

    file: str
    probabilities: tuple[float, ...] = ()
    pixels: NDArray[np.uint8] | None = None
    thumbnail: NDArray[np.uint8] | None = None
    error: str | None = None
    classes: tuple[str, ...] = DIGITS

    @property
    def digit(self) -> int:
        """The most probable digit, or index of the class; UserError if there is an error."""
        return int(np.argmax(self._checked()))

    @property
    def class_name(self) -> str:
        """The name of the most probable class."""
        return self.classes[self.digit]

    @property
    def probability(self) -> float:
        """The probability of `digit`."""
        return max(self._checked())

    @property
    def runner_up(self) -> int:
        """The second most probable digit, or index of the class."""
        return int(np.argsort(self._checked(), kind="stable")[-2])

    def _checked(self) -> tuple[float, ...]:
        if self.error is not None:
            raise UserError(f"{self.file} has no digit: {self.error}")
        return self.probabilities

    def to_json(self) -> JSON:
        """Return file, digit, probability, runner_up and probabilities (by name for classes), or file and error."""
        keys = ("file", "digit", "probability", "runner_up", "probabilities")
        if self.error is None and class_noun(self.classes) == "class":
            values = (self.file, self.class_name, self.probability, self.classes[self.runner_up])
            by_name = dict(zip(self.classes, self.probabilities, strict=True))
            return dict(zip(("file", "class", *keys[2:]), (*values, by_name), strict=True))
        return {key: getattr(self, key) for key in (keys if self.error is None else ("file", "error"))}


def predict_pictures(
    model: DigitClassifier, pictures: Iterable[Picture], names: Sequence[str] | None = None, thumbnails: bool = False
) -> list[Prediction]:
    """Preprocess each picture like the training images and predict its class; one prediction per picture, in order.

    Networks for digits get pictures prepared as MNIST's (`prepare`), others as Fashion-MNIST's (`fit_to_field`).
    An unreadable picture gets a prediction with `error`. The default name is the file's, else "picture 1" and so on.
    """
    predictions, classes = list[Prediction](), model.class_names
    preprocess = prepare if class_noun(classes) == "digit" else fit_to_field
    for index, picture in enumerate(pictures):
        name = names[index] if names is not None else _name(picture, index)
        try:
            colors = read_picture(picture)
            pixels = preprocess(colors)
        except UserError as error:
            predictions.append(Prediction(name, error=str(error), classes=classes))
        except OSError as error:
            predictions.append(Prediction(name, error=f"cannot be read ({error.strerror or error})", classes=classes))
        else:
            thumbnail = Image.fromarray(colors) if thumbnails else None
            if thumbnail:
                thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
            array = np.asarray(thumbnail) if thumbnail else None
            predictions.append(Prediction(name, (), pixels, array, classes=classes))
    images = [item.pixels for item in predictions if item.pixels is not None]
    if not images:
        return predictions
    rows = iter(model.probabilities(torch.from_numpy(np.stack(images))).double().tolist())
    return [item if item.error else replace(item, probabilities=tuple(next(rows))) for item in predictions]


@default_torch_state()
def predict_run(run: str | Path, pictures: Iterable[Picture], names: Sequence[str] | None = None) -> list[Prediction]:
    """Predict with a run: its folder, a checkpoint, a name under outputs/, or "latest"."""
    return predict_pictures(load_classifier(locate(run).checkpoint), pictures, names)


def as_pictures(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    """List one or several pictures; an array (n, height, width) with width > 4 holds n of them, without channels."""
    if isinstance(pictures, np.ndarray):
        return list(pictures) if pictures.ndim == 3 and pictures.shape[2] > 4 else [pictures]
    return list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]  # type: ignore[list-item]


def picture_files(paths: Iterable[Path]) -> list[Path]:
    """Replace each folder by the picture files in it, sorted by name; UserError if it has none."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names = (item for item in path.iterdir() if not item.name.startswith("."))  # macOS adds ._NAME
        pictures = sorted(item for item in names if item.suffix.lower() in SUFFIXES and item.is_file())
        if not pictures:
            raise UserError(f"{path} contains no pictures ({', '.join(sorted(SUFFIXES))})")
        files += pictures
    return files


def _name(picture: Picture, index: int) -> str:
    attribute = "filename" if isinstance(picture, Image.Image) else "name"
    name = str(picture) if isinstance(picture, (str, Path)) else getattr(picture, attribute, None)
    return name if isinstance(name, str) and name else f"picture {index + 1}"
