"""Find a dataset's IDX files (format: yann.lecun.com/exdb/mnist) by name or content, and read them."""

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from glob import glob
from pathlib import Path
from statistics import mode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.datasets import DATASETS, IdxFile
from mnist_mlp.errors import UserError

MAX_FILE_BYTES = 2**30
DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""By the third byte of a file; the fourth is the number of dimensions."""
FORMATS = {"idx3-ubyte": (0x803, [28, 28]), "idx1-ubyte": (0x801, []), "idx2-int": (0xC02, [8])}
"""Magic number, and shape of an image or label, by the end of a file's official name."""
APPENDED = re.compile("(?<=ubyte).*|(?<=idx2-int).*|-gz$")


def locate_files(root: str, name: str) -> tuple[Path, dict[str, Path]]:
    """Find a dataset's files by official name, and their folder: root/MNIST/raw as torchvision has it, root, root/raw.

    In torchvision's folders of other datasets, only the content counts.
    """
    dataset, top = DATASETS[name], Path(root).expanduser()
    default = top / dataset.folder / "raw"
    own = (default, top, top / "raw")
    others = [top / other.folder / "raw" for other in DATASETS.values() if dataset.files[0].crc32]
    for folder in dict.fromkeys((*own, *others)):
        # programs rename files to "train-images.idx3-ubyte" or "... (1).gz"; Kaggle puts each in a folder of its name
        entries = sorted(glob("*", root_dir=folder) + glob("*idx*/*", root_dir=folder), reverse=True)
        paths = [folder / entry for entry in entries if os.path.isfile(folder / entry)]
        spelled = {APPENDED.sub("", path.name.lower().replace(".", "-")): path for path in paths}
        files = {file.name: spelled[file.name] for file in dataset.files if file.name in spelled and folder in own}
        if len(files) < len(dataset.files):
            files = (_by_role(spelled.values()) if name == "idx" else _by_content(paths, name)) | files
        if len(files) == len(dataset.files) or (files and folder in own):
            return folder, files
    return default, {}


def datasets_in(root: str) -> list[str]:
    """Return the names of the datasets whose four files are under root, by content or in torchvision's folder."""

    def is_complete(name: str) -> bool:
        (folder, paths), dataset = locate_files(root, name), DATASETS[name]
        expected = {file.name: (name, file.name) if file.crc32 else None for file in dataset.files}
        is_known = dataset.files[0].crc32 is not None or folder.parent.name == dataset.folder
        return is_known and {file: _identify(path) for file, path in paths.items()} == expected

    return [name for name in DATASETS if name != "idx" and is_complete(name)]


def stamp(path: Path) -> tuple[int, ...]:
    """Return numbers that differ once a file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _by_role(paths: Iterable[Path]) -> dict[str, Path]:
    """Recognize files by "train", "test" or "t10k" in their name and their number of dimensions."""
    files: dict[str, Path] = {}
    for path in paths:
        split, header = re.search("train|test|t10k", path.name.lower()), _try_read(path, 4)
        if split and len(header) == 4 and header[:2] == b"\0\0" and header[2] in DTYPES:
            role = f"{split[0].replace('test', 't10k')}-{'images-idx3' if header[3] > 2 else 'labels-idx1'}-ubyte"
            if role in files:
                raise UserError(f"{path.parent} has {files[role].name} and {path.name}: leave one, or name it {role}")
            files[role] = path
    return files


def _by_content(paths: Iterable[Path], name: str) -> dict[str, Path]:
    """Recognize files with the content of one of the dataset's official files."""
    identified = [(path, _identify(path)) for path in paths]
    return {owner[1]: path for path, owner in identified if owner and owner[0] == name}


def _official_contents() -> dict[int, tuple[str, str]]:
    """Return dataset and file name by CRC-32."""
    return {file.crc32: (name, file.name) for name, dataset in DATASETS.items() for file in dataset.files if file.crc32}


def _identify(path: Path) -> tuple[str, str] | None:
    """Return dataset and name of the official file with the content of this file."""
    return _official_contents().get(_checksum(path, stamp(path)) or 0)


@lru_cache
def _checksum(path: Path, stamp: tuple[int, ...]) -> int | None:
    """Return the CRC-32 of an IDX file of unsigned bytes; None for any other file."""
    return zlib.crc32(_try_read(path, MAX_FILE_BYTES)) if _try_read(path, 3) == b"\0\0\x08" else None


def _try_read(path: Path, size: int) -> bytes:
    """Return at most `size` bytes of a file, or none if it cannot be read."""
    with suppress(OSError, EOFError, zlib.error):
        return _read(path, size)
    return b""


def _read(path: Path, size: int) -> bytes:
    """Return at most `size` bytes of a file, decompressed if its content is gzip."""
    with path.open("rb") as file:
        return (gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file).read(size)


def read_files(name: str, files: Mapping[str, Path]) -> list[NDArray[Any]]:
    """Read a dataset's files: training images (n, 28, 28), training labels (n,), test images, test labels.

    Raises:
        UserError: A file is damaged, has another format, or is an official file of another dataset.
    """
    dataset, known = DATASETS[name], _official_contents()
    arrays, checksums = zip(*(_read_idx(files[file.name], file, name) for file in dataset.files), strict=True)
    names = [known[checksum][0] for checksum in checksums if checksum in known]
    expected = mode(names) if names and name == "idx" else name  # four files of one dataset are IDX files, too
    for file, values, checksum in zip(dataset.files, arrays, checksums, strict=True):
        path, (owner, content) = files[file.name], known.get(checksum, (expected, file.name))
        actual, title = DATASETS[owner].title, DATASETS[expected].title
        if names == [owner] * len(files) != [expected] * len(files):
            raise UserError(f"{path.parent} has {actual}, not {title}: use data.name={owner}, or set data.root")
        if (owner, content) != (expected, file.name):
            raise UserError(f"{path} is {content} of {actual}, not {file.name} of {title}: replace it")
        if len(values) == file.items and file.crc32 not in (None, checksum):
            official = f"the official content (CRC-32 {file.crc32:08x})"
            raise _unsuitable(path, name, official, f"{checksum:08x}")
    return [np.ascontiguousarray(v.transpose(0, 2, 1)) if dataset.transposed and v.ndim == 3 else v for v in arrays]


def _unsuitable(path: Path, name: str, expected: object, actual: object) -> UserError:
    return UserError(
        f"{path} does not fit data.name={name}: expected {expected}, got {actual}; "
        "move it, or set data.root or data.name"
    )


def _read_idx(path: Path, file: IdxFile, name: str) -> tuple[NDArray[Any], int]:
    """Read images or labels, and the CRC-32 of the file's content; UserError unless it has the official format."""
    try:
        content = _read(path, MAX_FILE_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unsuitable(path, name, "a gzip file", error) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise _unsuitable(path, name, f"at most {MAX_FILE_BYTES:,} bytes", "more")
    official, item = FORMATS["-".join(file.name.split("-")[-2:])]
    header = 4 * (2 + len(item))
    if len(content) < header:
        raise _unsuitable(path, name, f"at least {header} bytes", len(content))
    magic, *shape = (int(number) for number in np.frombuffer(content, ">u4", count=2 + len(item)))
    if magic != official:
        raise _unsuitable(path, name, _describe(official), _describe(magic))
    if shape[1:] != item:
        raise _unsuitable(path, name, *(f"items of {' x '.join(map(str, sizes))}" for sizes in (item, shape[1:])))
    dtype = np.dtype(DTYPES[magic >> 8])
    size = header + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        raise _unsuitable(path, name, f"{size} bytes for {shape[0]} items", len(content))
    values = np.frombuffer(content, dtype, offset=header).reshape(shape)
    return values[:, 0] if len(item) == 1 else values, zlib.crc32(content)  # QMNIST's first column is the class


def _describe(magic: int) -> str:
    known = f" ({np.dtype(DTYPES[magic >> 8]).name}, dimensions: {magic & 255})" if magic >> 8 in DTYPES else ""
    return f"magic number {magic:#06x}{known}"
