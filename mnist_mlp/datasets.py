"""The MNIST family: titles, classes and files of each dataset. Imports no torch."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

DIGITS = tuple(string.digits)
MNIST_STATISTICS = (0.1307, 0.3081)
"""Mean and standard deviation of MNIST's training pixels in [0, 1]."""
MAX_CLASSES = 255
_BALANCED_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
"""Lowercase letters that look like their uppercase form are merged with it (Cohen 2017)."""


class IdxFile(NamedTuple):
    """A file of a dataset: number of images or labels, and CRC-32 of its uncompressed content, None if unknown."""

    name: str
    items: int
    crc32: int | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset of 28 x 28 images.

    Attributes:
        title: Its name in texts.
        folder: Its class in torchvision.datasets, and the folder that torchvision creates for it.
        files: Training images, training labels, test images and test labels.
        classes: Names of the labels 0, 1, ...; empty: the labels themselves.
        digest: `Digits.digest` of the official files; empty if unknown.
        transposed: Whether rows and columns are swapped in the files.
    """

    title: str
    folder: str
    files: tuple[IdxFile, ...]
    classes: tuple[str, ...] = DIGITS
    digest: str = ""
    transposed: bool = field(default=False, kw_only=True)


def _files(prefix: str = "", train: int = 60_000, test: int = 10_000, *checksums: int) -> tuple[IdxFile, ...]:
    names = [f"{prefix}{split}-{content}" for split in ("train", "test" if prefix else "t10k")
             for content in ("images-idx3-ubyte", "labels-idx1-ubyte")]  # fmt: skip
    crc32s: Sequence[int | None] = checksums or (None,) * 4
    return tuple(map(IdxFile, names, (train, train, test, test), crc32s))


_QMNIST = (
    IdxFile("qmnist-train-images-idx3-ubyte", 60_000),
    IdxFile("qmnist-train-labels-idx2-int", 60_000),
    IdxFile("qmnist-test-images-idx3-ubyte", 60_000),
    IdxFile("qmnist-test-labels-idx2-int", 60_000),
)
_MNIST = _files("", 60_000, 10_000, 3925137587, 3771419346, 2436316127, 1253699577)
_FASHION = _files("", 60_000, 10_000, 3035799336, 1947878999, 1737482417, 2148805663)
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_KMNIST_CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

DATASETS = {
    "mnist": Dataset("MNIST", "MNIST", _MNIST, digest="25c98f992c005963"),
    "fashion_mnist": Dataset("Fashion-MNIST", "FashionMNIST", _FASHION, _FASHION_CLASSES, digest="eee656c63c1c7a3b"),
    "kmnist": Dataset("KMNIST", "KMNIST", _files(), _KMNIST_CLASSES),
    "emnist_digits": Dataset("EMNIST Digits", "EMNIST", _files("emnist-digits-", 240_000, 40_000), transposed=True),
    "emnist_balanced": Dataset(
        "EMNIST Balanced", "EMNIST", _files("emnist-balanced-", 112_800, 18_800), DIGITS + tuple(_BALANCED_LETTERS),
        transposed=True,
    ),
    "qmnist": Dataset("QMNIST", "QMNIST", _QMNIST),
    "idx": Dataset("IDX files", "MNIST", _files("", 0, 0), ()),
}  # fmt: skip
"""By `data.name`. Files, counts and class names are torchvision's; their MD5 checksums stay there."""
QMNIST_TESTS = {"qmnist50k": 10_000, "qmnist60k": 0}
"""Second tests of networks trained on MNIST: QMNIST's test images from this index on; the first 10,000 are MNIST's."""
OFFICIAL_DIGEST = DATASETS["mnist"].digest
