"""Download a dataset's files from the addresses in torchvision, verified by the MD5 checksums there."""

import gzip
import hashlib
import io
import time
import urllib.request
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import torch

from mnist_mlp.console import can_redraw, error_summary
from mnist_mlp.datasets import Dataset
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import write_bytes

CONNECT_SECONDS = 10
MIN_BYTES_PER_SECOND, GRACE_SECONDS = 5_000, 20.0  # a slower download is aborted after the grace period
MAX_DOWNLOAD_BYTES, MAX_ARCHIVE_BYTES = 2**26, 2**30


class DownloadError(Exception):
    """No mirror served a file with the correct checksum."""


def download(dataset: Dataset, folder: Path, names: Collection[str]) -> None:
    """Download files of a dataset; writes them uncompressed once all are verified.

    Raises:
        DownloadError: No mirror served one of the files.
        OSError: The folder is not writable.
        UserError: torchvision cannot be imported.
    """
    try:
        import torchvision.datasets  # takes seconds
    except Exception as error:  # of several types, if it was built for another torch
        raise UserError(
            f"the download of {dataset.title} needs torchvision, which failed ({error_summary(error)}): "
            f"install the version for torch {torch.__version__}, or copy the files to {folder}"
        ) from error

    print(f"Downloading {dataset.title} into {folder} ...", flush=True)
    publisher = getattr(torchvision.datasets, dataset.folder)
    resources, mirrors = publisher.resources, publisher.mirrors
    if dataset.folder == "EMNIST":
        contents = _fetch_members(publisher.url, publisher.md5, folder, names)
    else:
        if isinstance(resources, dict):  # QMNIST's, by split, with complete addresses
            resources, mirrors = [*resources["train"], *resources["test"]], [""]
        checksums = {Path(address).stem: (address, md5) for address, md5 in resources}
        contents = {name: _fetch_file(mirrors, *checksums[name]) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if not (folder / name).is_file():  # another process may have written it, and have it open
            write_bytes(folder / name, gzip.decompress(content))


def _fetch_file(mirrors: Sequence[str], address: str, md5: str) -> bytes:
    file = io.BytesIO()
    _fetch([f"{mirror}{address}" for mirror in mirrors], md5, file, MAX_DOWNLOAD_BYTES)
    return file.getvalue()


def _fetch_members(url: str, md5: str, folder: Path, names: Collection[str]) -> dict[str, bytes]:
    """Fetch members of a large zip archive, which is kept in an unnamed temporary file on the folder's disk."""
    with TemporaryFile(dir=next(parent for parent in folder.parents if parent.is_dir())) as file:
        _fetch([url], md5, file, MAX_ARCHIVE_BYTES)
        with zipfile.ZipFile(file) as archive:
            members = {Path(member).stem: member for member in archive.namelist()}
            return {name: archive.read(members[name]) for name in names}


def _fetch(urls: Sequence[str], md5: str, file: IO[bytes], max_bytes: int) -> None:
    """Fetch a file from the first address that serves it, with the limits in time and size that torchvision lacks."""
    from rich.progress import Progress  # deferred: only needed to download

    reason = "torchvision has no mirrors"
    for url in urls:
        file.seek(0)
        file.truncate()
        size, start, checksum = 0, time.monotonic(), hashlib.md5(usedforsecurity=False)
        try:
            with (
                urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response,
                Progress(transient=True, disable=not can_redraw()) as progress,
            ):
                task = progress.add_task(url.rpartition("/")[2], total=response.length)
                while chunk := response.read1(2**16):  # read() would block until the chunk is full
                    file.write(chunk)
                    checksum.update(chunk)
                    size += len(chunk)
                    progress.update(task, completed=size)
                    if size > max_bytes:
                        raise OSError(f"{url} has more than {max_bytes:,} bytes")
                    if time.monotonic() - start > GRACE_SECONDS + size / MIN_BYTES_PER_SECOND:
                        raise OSError(f"{url} sends fewer than {MIN_BYTES_PER_SECOND:,} bytes per second")
            if checksum.hexdigest() == md5:
                return
            reason = f"{url} is incomplete or not the official file"
        except Exception as error:  # urllib raises a dozen types for malformed responses
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    raise DownloadError(reason)
