"""Names of run and sweep folders, as the resolvers of conf/config.yaml."""

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime

from mnist_mlp.config import non_result_keys
from mnist_mlp.runs.settings import short_names

SWEPT_KEYS = "MNIST_MLP_SWEPT_KEYS"
"""Environment variable with the keys that the sweep varies, since jobs may run in other processes."""
NAME_LENGTH = 180
"""Longest job name; file systems allow 255 bytes."""


def run_folder(name: str | None, resume: str) -> str:
    """The folder of a single run. The time has microseconds, since two runs may start within one second."""
    if resume not in ("auto", "never"):
        return resume
    return f"outputs/train/{name or _time()}"


def sweep_folder(name: str | None) -> str:
    """The folder of a sweep."""
    return f"outputs/sweeps/{name or _time()}"


def job_folder(overrides: Sequence[str]) -> str:
    """A job's folder from its overrides: readable, the same in whatever order they were given, without "=".

    An option that does not affect the result is part of the name only where the sweep varies it: one folder, one job.
    Short enough for any file system; a hash tells names apart from which characters had to be dropped.
    """
    pairs = sorted(override.lstrip("+~").partition("=")[::2] for override in overrides)
    silent = (non_result_keys() | {"search"}) - set(os.environ.get(SWEPT_KEYS, "").split(","))
    pairs = [(key, value) for key, value in pairs if key not in silent]
    short = short_names([key for key, _ in pairs])
    exact = "_".join(f"{short[key]}-{value}" for key, value in pairs) or "defaults"
    simple = re.sub(r"\[([\w.,-]+)\]", lambda found: found.group(1).replace(",", "-"), exact)
    name = re.sub(r"[^\w.+-]+", "-", simple)[:NAME_LENGTH]
    return name if name == simple else f"{name}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _time() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
