"""A dataset in a file that several processes map into memory, for the jobs of a sweep."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from tempfile import TemporaryDirectory

import torch

from mnist_mlp.data.mnist import Digits


@contextmanager
def shared_file(digits: Digits | None) -> Iterator[str]:
    """Write a dataset to a temporary file and yield its path; an empty path for None."""
    if digits is None:
        yield ""
        return
    digits.describe("standard")  # its cached values are stored, too
    with TemporaryDirectory(prefix="mnist_mlp-digits-") as folder:
        path = os.path.join(folder, "digits.pt")
        torch.save(digits, path)
        yield path


@lru_cache(maxsize=1)
def read_shared(path: str) -> Digits:
    """Read a dataset that `shared_file` has written; all processes share its memory."""
    digits: Digits = torch.load(path, mmap=True, weights_only=False)
    return digits
