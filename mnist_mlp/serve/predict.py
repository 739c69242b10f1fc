"""What a trained net says about pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.data.picture import Picture, prepare, prepare_row, read_picture
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.serve.nets import load_classifier, locate
from mnist_mlp.training.classifier import DigitClassifier

ENDINGS = frozenset(
    (
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".avif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".tga",
        ".ico",
    )
)
"""Files in a folder that are taken for pictures."""


THUMBNAIL = 160
"""Longer side of a picture that is kept to be shown, in pixels."""


@dataclass(frozen=True)
class Prediction:
    """One digit in one picture, or why there is none.

    probabilities: ten numbers; pixels: (28, 28), what the net saw; place: which digit of a row, from 0; thumbnail:
    (height, width, 3), the picture as it was.
    """

    file: str
    probabilities: tuple[float, ...] = ()
    pixels: NDArray[np.uint8] | None = None
    place: int = 0
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
        """`file` and `error`, or `file`, `digit`, `probability`, `runner_up`, `probabilities` and `place`."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        return {
            "file": self.file,
            "place": self.place,
            "digit": self.digit,
            "probability": self.probability,
            "runner_up": self.runner_up,
            "probabilities": list(self.probabilities),
        }


def predict_pictures(
    model: DigitClassifier,
    pictures: Iterable[Picture],
    names: Sequence[str] | None = None,
    row: bool = False,
    thumbnails: bool = False,
) -> list[Prediction]:
    """Prepare each picture as MNIST was made and say which digit it is; in order, one Prediction for each.

    With row, a picture has several digits side by side and gets one Prediction for each of them. A picture that cannot
    be read gets one with `error`; the others are predicted all the same. names: default is the file's, else "picture
    1".
    """
    prepared: list[Prediction] = []
    for number, picture in enumerate(pictures):
        name = names[number] if names is not None else _name(picture, number)
        try:
            colours = read_picture(picture)
            seen = prepare_row(colours) if row else [prepare(colours)]
        except (UserError, OSError) as error:
            prepared.append(Prediction(name, error=_reason(error)))
        else:
            small = _thumbnail(colours) if thumbnails else None
            prepared += [Prediction(name, (), pixels, place, small) for place, pixels in enumerate(seen)]
    images = [item.pixels for item in prepared if item.pixels is not None]
    if not images:
        return prepared
    told = iter(model.probabilities(torch.from_numpy(np.stack(images))).double().tolist())
    return [item if item.pixels is None else replace(item, probabilities=tuple(next(told))) for item in prepared]


def predict_run(
    run: str | Path, pictures: Iterable[Picture], names: Sequence[str] | None = None, row: bool = False
) -> list[Prediction]:
    """As `predict_pictures`, by a run: its folder, a checkpoint, a name under outputs/, or "latest"."""
    return predict_pictures(load_classifier(locate(run).checkpoint), pictures, names, row)


def as_pictures(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture, or several, as a list; an array (n, height, width) with width above 4 is n pictures."""
    if isinstance(pictures, np.ndarray):
        return list(pictures) if pictures.ndim == 3 and pictures.shape[2] > 4 else [pictures]
    return list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]  # type: ignore[list-item]


def picture_files(paths: Iterable[Path]) -> list[Path]:
    """The paths, with each folder replaced by the pictures in it, by name. UserError where a folder has none."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(item for item in path.iterdir() if item.suffix.lower() in ENDINGS and item.is_file())
        if not inside:
            raise UserError(f"{path} has no pictures in it ({', '.join(sorted(ENDINGS))})")
        found += inside
    return found


def _name(picture: Picture, number: int) -> str:
    if isinstance(picture, (str, Path)):
        return str(picture)
    named = getattr(picture, "filename" if isinstance(picture, Image.Image) else "name", None)
    return named if isinstance(named, str) and named else f"picture {number + 1}"


def _thumbnail(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(colours)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return str(error)
