"""The download of the official files from torchvision's mirrors: checked, and neither endless nor for ever."""

import gzip
import hashlib
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import IncompleteRead
from pathlib import Path
from shutil import rmtree

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONNECT_SECONDS = 10
SLOWEST, SLOW_SECONDS = 5_000, 20.0
"""Bytes per second below which a download is given up, and the seconds it has to get there."""
MOST_BYTES = 64 * 2**20
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
            if len(received) > MOST_BYTES:
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
