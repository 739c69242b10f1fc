"""Load runs from their folders, for comparisons."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.config import ModelConfig
from mnist_mlp.datasets import DIGITS
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, UnreadableFileError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels
from mnist_mlp.runs.result import RunResult, is_at_chance
from mnist_mlp.runs.settings import flatten, value_text, with_defaults

LAYERS = "model.hidden_layers"
UNKNOWN = "unknown"  # digest of the data of runs of older versions, which did not record it
OWN_FOLDERS = frozenset({"checkpoints", "tensorboard", "figures"})
"""Folders of a run that never contain other runs."""
Stamp = tuple[tuple[int, ...] | None, ...]
"""Inode, size, mtime and ctime of each marker file. Writers replace files, so any change alters it."""
Labels = tuple[bytes, NDArray[np.uint8]]
"""True labels (n,) as hashable bytes, and predicted labels (n,)."""


@dataclass(frozen=True)
class Job:
    """A run folder in a comparison. settings: by dotted key; reason: why it failed or cannot be read.

    status: finished, diverged, failed, unfinished, unreadable or running.
    """

    folder: Path
    status: str
    settings: JSON
    result: RunResult | None = None
    reason: str = ""
    fingerprint: str = ""

    @property
    def seed(self) -> int:
        """The seed; 0 if a job failed because its seed is not an integer."""
        seed = self.settings.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    @property
    def outcome(self) -> str:
        """The status; "at chance level" for a finished run whose test accuracy is."""
        return "at chance level" if self.status == "finished" and self.is_at_chance else self.status

    @property
    def accuracy(self) -> float:
        """The test accuracy; NaN without a result."""
        return self.result.metric("test/accuracy") if self.result is not None else math.nan

    @property
    def is_at_chance(self) -> bool:
        """Whether the test accuracy is close to chance level."""
        return is_at_chance(self.accuracy, len(self.classes))

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.result.classes if self.result is not None else list(DIGITS)

    def text(self, key: str) -> str:
        """A setting as text; a dash if the run does not have it."""
        return value_text(self.settings.get(key))


def find_jobs(paths: Iterable[Path]) -> list[Job]:
    """Find all runs in and below these folders, except in hidden folders.

    Cached: a run is read again only if one of its files has been replaced or could not be read.
    """
    jobs: dict[Path, Job] = {}
    for folder in (folder for path in paths for folder in sorted(run_folders(path))):
        # stamped before reading, so a file replaced in between is read again next time
        job = _load_cached(folder, tuple(_file_stamp(folder / name) for name in RunFolder.MARKER_FILES))
        if job is not None and job.status == "unreadable":  # the cause may be transient
            job = load_job(folder)
        if job is not None:
            jobs.setdefault(folder.resolve(), job)
    return _mark_unknown_data(list(jobs.values()))


@lru_cache(maxsize=10_000)
def _load_cached(folder: Path, stamp: Stamp) -> Job | None:
    return load_job(folder)


def load_job(path: Path) -> Job | None:
    """Load the run in a folder; status "unreadable" if a required file cannot be read, None if no run started."""
    folder, run = RunFolder(path), None
    try:
        # resuming removes failure.json, so one next to result.json is newer
        if (failure := folder.failure()) is not None:
            return Job(path, "failed", _flat_settings(failure["config"]), reason=failure["reason"])
        if (result := folder.result()) is not None:
            return Job(path, result.status, _result_settings(vars(result)), result, "", result.fingerprint)
        run = folder.run()
        return Job(path, "unfinished", _result_settings(run)) if run is not None else None
    except UnreadableFileError as error:
        reason = f"{path.name}: {error.reason}"
    with suppress(UnreadableFileError):
        run = folder.run()
    return Job(path, "unreadable", _flat_settings(run["config"]) if run else {}, reason=reason)


def _result_settings(run: Mapping[str, Any]) -> JSON:
    """The settings, data digest and custom callbacks; runs that differ in any of them are not replicates."""
    callbacks = {"callbacks": ", ".join(run["callbacks"])} if run.get("callbacks") else {}
    return {**_flat_settings(run["config"]), "data.digest": run.get("data", {}).get("digest"), **callbacks}


def _flat_settings(config: JSON) -> JSON:
    """The settings by dotted key; options that an older run lacks take their defaults."""
    rows = with_defaults(flatten(config)) if config else {}
    if rows and rows[LAYERS] is None:  # in a job that failed because of another setting
        with suppress(UserError):
            rows[LAYERS] = ModelConfig(hidden_units=rows["model.hidden_units"]).hidden_layers
    return rows


def run_folders(path: Path) -> Iterator[Path]:
    """Run folders in and below a path, each once, through symbolic links; skips those that vanish or are unreadable."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(path, followlinks=True):
        is_run = not set(files).isdisjoint(RunFolder.MARKER_FILES)
        is_new = (real := os.path.realpath(folder)) not in seen  # a link may lead back to a parent
        seen.add(real)
        subfolders[:] = [n for n in subfolders if is_new and n[0] != "." and not (is_run and n in OWN_FOLDERS)]
        subfolders.sort(key=lambda name: os.path.islink(os.path.join(folder, name)))  # a run keeps its own name
        if is_run and is_new:
            yield Path(folder)


def _file_stamp(path: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return None


def labels_of(folder: Path) -> Labels | None:
    """The test labels of a run, true and predicted; None if unreadable or for fewer than two images."""
    return _read_labels(folder, _file_stamp(RunFolder(folder).predictions_file))


@lru_cache(maxsize=4096)  # a sweep compares again after every job
def _read_labels(folder: Path, stamp: tuple[int, ...] | None) -> Labels | None:
    labels = read_labels(RunFolder(folder))
    return None if labels is None or len(labels[0]) < 2 else (labels[0].tobytes(), labels[1])


def _mark_unknown_data(jobs: list[Job]) -> list[Job]:
    """Give runs that recorded no digest "unknown" as digest if others did: equal labels do not show equal images."""
    unknown = {job.folder: job for job in jobs if job.result is not None and not job.settings.get("data.digest")}
    mark = {"data.digest": UNKNOWN} if len(unknown) < sum(job.result is not None for job in jobs) else {}
    return [replace(job, settings=job.settings | mark) if job.folder in unknown else job for job in jobs]


def same_test_images(jobs: Iterable[Job]) -> bool:
    """Whether these runs were tested on the same images, by digest, or by source and number if it is unknown."""
    results = [(job.settings.get("data.digest"), job.result.data) for job in jobs if job.result is not None]
    digests = {digest for digest, _ in results if digest}
    return len(digests or {(data["source"], data["test"]) for _, data in results}) < 2
