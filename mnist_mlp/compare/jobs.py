"""The runs in folders, read from their files alone; a reader that reads again only what has changed."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mnist_mlp.runs.files import JSON, UnreadableFileError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten, with_defaults

Stamp = tuple[tuple[int, ...] | None, ...]
"""Of each file that says what a run is: inode, size, times of change. Our writers replace files, so a change shows."""
PARTS = frozenset({"checkpoints", "tensorboard", "figures"})
"""Folders of a run, in which no other run can be."""


@dataclass(frozen=True)
class Job:
    """A run folder in a comparison. settings: with dotted keys.

    status: finished, diverged, failed, unfinished or unreadable.
    reason: why it failed or cannot be read.
    """

    folder: Path
    status: str
    settings: JSON
    result: RunResult | None = None
    reason: str = ""
    fingerprint: str = ""

    @property
    def seed(self) -> int:
        """0 where a job failed for a seed that is no number."""
        seed = self.settings.get("seed", 0)
        return seed if isinstance(seed, int) else 0


class JobReader:
    """Reads the runs of folders as often as asked, each anew only where one of its files was replaced meanwhile."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Stamp, Job | None]] = {}

    def find(self, paths: Iterable[Path]) -> list[Job]:
        """As `find_jobs`."""
        found: dict[Path, Job] = {}
        for path in paths:
            for folder in sorted(_run_folders(path)):
                if (job := self.load(folder)) is not None:
                    found.setdefault(folder.resolve(), job)
        return list(found.values())

    def load(self, folder: Path) -> Job | None:
        """As `load_job`."""
        stamp = _stamp(folder)  # before reading: what is replaced meanwhile is read again the next time
        known = self._known.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        job = load_job(folder)
        if job is None or job.status != "unreadable":  # what kept a file from being read need not be in it
            self._known[folder] = stamp, job
        return job


def find_jobs(paths: Iterable[Path]) -> list[Job]:
    """The runs in these folders and below them, at any depth, but not in hidden folders."""
    return JobReader().find(paths)


def load_job(path: Path) -> Job | None:
    """The run in a folder, "unreadable" where a file that matters cannot be read; None if no run ever started there."""
    folder = RunFolder(path)
    try:
        # first: resuming a job removes its failure, so one beside a result is the newer of the two
        if (failure := folder.failure()) is not None:
            return Job(path, "failed", _completed(failure["config"]), reason=failure["reason"])
        if (result := folder.result()) is not None:
            settings = _decisive_settings(result.config, result.data, result.callbacks)
            return Job(path, result.status, settings, result, "", result.fingerprint)
        run = folder.run()
    except UnreadableFileError as error:
        return Job(path, "unreadable", _settings(folder), reason=f"{path.name}: {error.reason}")
    if run is None:
        return None
    return Job(path, "unfinished", _decisive_settings(run["config"], run.get("data", {}), run.get("callbacks", [])))


def _decisive_settings(config: JSON, data: JSON, callbacks: list[str]) -> JSON:
    """The settings with the digest of the data and the user's own callbacks: runs that differ there are no repeats."""
    own = {"callbacks": ", ".join(callbacks)} if callbacks else {}
    return {**_completed(config), "data.digest": data.get("digest"), **own}


def _completed(config: JSON) -> JSON:
    """The settings with dotted keys; one that an older run does not know has its default, as where runs are resumed."""
    return with_defaults(flatten(config)) if config else {}


def _settings(folder: RunFolder) -> JSON:
    """The settings in run.json; none where that cannot be read either."""
    try:
        run = folder.run()
    except UnreadableFileError:
        return {}
    return _completed(run["config"]) if run else {}


def _run_folders(path: Path) -> Iterator[Path]:
    """A folder that vanishes or that may not be read meanwhile is passed over."""
    for folder, below, files in os.walk(path):
        is_run = not set(files).isdisjoint(RunFolder.MARKER_FILES)
        below[:] = [name for name in below if not name.startswith(".") and not (is_run and name in PARTS)]
        if is_run:
            yield Path(folder)


def _stamp(folder: Path) -> Stamp:
    return tuple(_file_stamp(folder / name) for name in RunFolder.MARKER_FILES)


def _file_stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
