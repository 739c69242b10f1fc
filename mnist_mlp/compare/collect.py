"""Runs read back from their folders, grouped over seeds, ranked, and compared with the best."""

import math
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.statistics import (
    PairedComparison,
    Variance,
    correct_for_all_pairs,
    crossed_difference,
    paired_difference,
)
from mnist_mlp.runs.files import JSON, UnreadableFileError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten, short_names, short_values, value_text, with_defaults

VALUES: dict[str, Callable[[RunResult], float | None]] = {
    "val_accuracy": lambda result: result.metrics.get("val/accuracy"),
    "test_accuracy": lambda result: result.metrics["test/accuracy"],
    "test_f1_macro": lambda result: result.metrics["test/f1_macro"],
    "test_loss": lambda result: result.metrics["test/loss"],
    "parameters": lambda result: result.parameters,
    "fit_seconds": lambda result: result.timing["fit_seconds"],
}
"""Columns of the summary, read from result.json."""
EXCLUDED_KEYS = re.compile(
    r"name|resume|data\.root|trainer\.(figures|logger|progress|profiler|test_curve)|reference\.(?!id$).*"
)
"""Settings that a comparison leaves out; of a published result it shows the name alone."""
MAX_NOTES = 3  # copies that are named
OWN_FOLDERS = frozenset({"checkpoints", "tensorboard", "figures"})
"""Folders of a run, which hold no other run."""
Stamp = tuple[tuple[int, ...] | None, ...]
"""Inode, size and times of change of each marker file. Writers replace files, so a change shows."""
Labels = tuple[bytes, NDArray[np.uint8]]
"""True labels (n,) as bytes, and predicted labels (n,)."""


@dataclass(frozen=True)
class Job:
    """A run folder in a comparison. settings: with dotted keys; reason: why it failed or cannot be read.

    status: finished, diverged, failed, unfinished or unreadable.
    """

    folder: Path
    status: str
    settings: JSON
    result: RunResult | None = None
    reason: str = ""
    fingerprint: str = ""

    @property
    def seed(self) -> int:
        """0 if a job failed for a seed that is not a number."""
        seed = self.settings.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    def text(self, key: str) -> str:
        """A setting as text; a dash if the run does not know it."""
        return value_text(self.settings.get(key))


def find_jobs(paths: Iterable[Path]) -> list[Job]:
    """The runs in these folders and below them, at any depth, but not in hidden folders.

    A run is read again only if one of its files was replaced meanwhile, or could not be read.
    """
    jobs: dict[Path, Job] = {}
    for folder in (folder for path in paths for folder in sorted(_run_folders(path))):
        # before reading: what is replaced meanwhile is read again the next time
        job = _unless_replaced(folder, tuple(_file_stamp(folder / name) for name in RunFolder.MARKER_FILES))
        if job is not None and job.status == "unreadable":  # what kept a file from being read need not be in it
            job = load_job(folder)
        if job is not None:
            jobs.setdefault(folder.resolve(), job)
    return list(jobs.values())


@lru_cache(maxsize=10_000)
def _unless_replaced(folder: Path, stamp: Stamp) -> Job | None:
    return load_job(folder)


def load_job(path: Path) -> Job | None:
    """The run in a folder; "unreadable" if a file that matters cannot be read, None if no run ever started there."""
    folder, run = RunFolder(path), None
    try:
        # first: resuming a job removes its failure, so one next to a result is the newer of the two
        if (failure := folder.failure()) is not None:
            return Job(path, "failed", _complete(failure["config"]), reason=failure["reason"])
        if (result := folder.result()) is not None:
            return Job(path, result.status, _decisive_settings(vars(result)), result, "", result.fingerprint)
        run = folder.run()
        return Job(path, "unfinished", _decisive_settings(run)) if run is not None else None
    except UnreadableFileError as error:
        reason = f"{path.name}: {error.reason}"
    with suppress(UnreadableFileError):
        run = folder.run()
    return Job(path, "unreadable", _complete(run["config"]) if run else {}, reason=reason)


def _decisive_settings(run: Mapping[str, Any]) -> JSON:
    """The settings with the digest of the data and the user's own callbacks: runs that differ there are no repeats."""
    own = {"callbacks": ", ".join(run["callbacks"])} if run.get("callbacks") else {}
    return {**_complete(run["config"]), "data.digest": run.get("data", {}).get("digest"), **own}


def _complete(config: JSON) -> JSON:
    """The settings with dotted keys; those that an older run does not know have their defaults."""
    return with_defaults(flatten(config)) if config else {}


def _run_folders(path: Path) -> Iterator[Path]:
    """Skips folders that vanish meanwhile or that may not be read."""
    for folder, below, files in os.walk(path):
        is_run = not set(files).isdisjoint(RunFolder.MARKER_FILES)
        below[:] = [name for name in below if not name.startswith(".") and not (is_run and name in OWN_FOLDERS)]
        if is_run:
            yield Path(folder)


def _file_stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def labels_of(folder: Path) -> Labels | None:
    """The labels of the run in this folder; None if they cannot be read or are of fewer than two images."""
    return _read_labels(folder, _file_stamp(RunFolder(folder).predictions_file))


@lru_cache(maxsize=4096)  # a sweep compares again after every job
def _read_labels(folder: Path, stamp: tuple[int, ...] | None) -> Labels | None:
    labels = read_labels(RunFolder(folder))
    return None if labels is None or len(labels[0]) < 2 else (labels[0].tobytes(), labels[1])


def compare(first: Iterable[Job], second: Iterable[Job]) -> PairedComparison | None:
    """Compare first - second over the seeds that both have; None without one. Not corrected for other comparisons.

    Several runs of one seed count as their mean, which has no predictions.
    """
    both = _accuracies_by_seed(first), _accuracies_by_seed(second)
    shared = sorted(both[0].keys() & both[1].keys())
    accuracies = ({seed: statistics.fmean(accuracy for _, accuracy in runs[seed]) for seed in shared} for runs in both)
    over_seeds = paired_difference(*accuracies)
    if over_seeds is None:
        return None
    labels = [[labels_of(runs[seed][0][0].folder) for seed in shared if len(runs[seed]) == 1] for runs in both]
    known = [[pair for pair in pairs if pair is not None] for pairs in labels]
    truths = {truth for pairs in known for truth, _ in pairs}
    if len(truths) != 1 or sum(map(len, known)) < 2 * len(shared):  # predictions are missing, or of other images
        return PairedComparison(over_seeds, None, Variance((over_seeds.error or 0.0) ** 2 * over_seeds.n, 0.0, 0.0))
    truth = np.frombuffer(truths.pop(), dtype=np.uint8)
    return crossed_difference(*(np.array([predicted for _, predicted in pairs]) == truth for pairs in known))


def _accuracies_by_seed(jobs: Iterable[Job]) -> Mapping[int, list[tuple[Job, float]]]:
    runs = defaultdict(list)
    for job in jobs:
        if job.result is not None and math.isfinite(accuracy := job.result.metric("test/accuracy")):
            runs[job.seed].append((job, accuracy))
    return runs


@dataclass
class Row:
    """Jobs that differ in their seed alone. settings: those that vary between rows.

    comparison: with the best row, corrected for all that the sweep makes.
    """

    settings: JSON
    jobs: list[Job]
    best: bool = False
    comparison: PairedComparison | None = None
    verdict: str = ""

    @cached_property
    def values(self) -> dict[str, list[float]]:
        """For each column of VALUES, a number per finished job."""
        results = [job.result for job in self.jobs if job.result is not None]
        return {name: [n for one in results if (n := read(one)) is not None] for name, read in VALUES.items()}

    def mean(self, column: str) -> float | None:
        return statistics.fmean(self.values[column]) if self.values[column] else None

    def deviation(self, column: str) -> float | None:
        """Sample standard deviation; None for fewer than two numbers."""
        return statistics.stdev(self.values[column]) if len(self.values[column]) > 1 else None

    @property
    def status(self) -> str:
        times = Counter(job.status for job in self.jobs)
        return next(iter(times)) if len(self.jobs) == 1 else ", ".join(f"{n} {name}" for name, n in times.items())

    @property
    def reasons(self) -> str:
        return "; ".join(dict.fromkeys(job.reason for job in self.jobs if job.reason))


@dataclass(frozen=True)
class Summary:
    """A comparison; its rows are ranked by a column of VALUES, best first.

    keys: the settings that vary; without the seed if rows are grouped over it.
    notes: oddities of the runs: copies, seeds that stand for several runs.
    """

    keys: list[str]
    rows: list[Row]
    over_seeds: bool
    ranked_by: str
    notes: list[str] = field(default_factory=list)

    @property
    def jobs(self) -> list[Job]:
        """Every run once, without copies."""
        return [job for row in self.rows for job in row.jobs]

    @cached_property
    def shown_values(self) -> dict[str, dict[str, str]]:
        """For each of `keys`, how to show its values, by `value_text`: numbers with few digits."""
        return {key: short_values(row.settings[key] for row in self.rows) for key in self.keys}

    def shown_value(self, row: Row, key: str) -> str:
        """A setting of a row as tables and labels show it."""
        return self.shown_values[key][value_text(row.settings[key])]

    @cached_property
    def labels(self) -> dict[int, str]:
        """For `row_label`, by the row's id."""
        published = [str(row.settings.get("reference.id") or "") for row in self.rows]
        if all(published) and len(set(published)) == len(published):
            return dict(zip(map(id, self.rows), published, strict=True))
        names = distinguishing_keys(self).items()
        return {id(row): ", ".join(f"{name}={self.shown_value(row, key)}" for key, name in names) for row in self.rows}


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Dotted keys whose values differ between jobs. The unresolved `auto` of a failed job differs from no value."""
    jobs = [job for job in jobs if job.settings]  # those of an unreadable one may be unknown
    keys = dict.fromkeys(key for job in jobs for key in job.settings if not EXCLUDED_KEYS.fullmatch(key))
    unknown = {key: {"auto", "-"} if key == "data.digest" else {"auto"} for key in keys}
    return [key for key in keys if len({job.text(key) for job in jobs} - unknown[key]) > 1]


def summarize(jobs: Sequence[Job]) -> Summary:
    """Group over seeds if they vary, rank by validation accuracy (by test accuracy if a run has none), compare."""
    keys = varying_keys(jobs)
    if over_seeds := "seed" in keys:
        keys.remove("seed")
    if "data.source" not in keys and any(job.settings.get("data.source") == "sample" for job in jobs):
        keys.insert(0, "data.source")  # figures on the sample are always marked as such
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        alone = (str(job.folder),) if job.status == "unreadable" else ()
        groups.setdefault((*alone, *map(job.text, keys)), []).append(job)
    notes = [note for members in groups.values() for note in _drop_copies(members)]
    if (more := len(notes) - MAX_NOTES) > 0:
        notes[MAX_NOTES:] = [f"So it is with {more} more, which runs.csv leaves out, too."]
    rows = [
        Row({key: members[0].settings.get(key) for key in keys}, members)
        for members in (sorted(jobs, key=lambda job: job.seed) for jobs in groups.values())
    ]
    done = [row for row in rows if row.values["test_accuracy"]]
    ranked_by = "val_accuracy" if all(row.values["val_accuracy"] for row in done) else "test_accuracy"
    rows.sort(key=lambda row: -(row.mean(ranked_by) or 0.0) if row.values[ranked_by] else math.inf)
    if rows and rows[0].values["test_accuracy"]:
        rows[0].best = True
        others = rows[1:] if over_seeds else []
        comparisons = correct_for_all_pairs([compare(row.jobs, rows[0].jobs) for row in others])
        for row, comparison in zip(others, comparisons, strict=True):
            row.comparison = comparison
            if row.values["test_accuracy"]:
                row.verdict = comparison.verdict if comparison else "no seed in common with the best"
    notes += [note for row in rows for note in _shared_seeds(row)]
    return Summary(keys, rows, over_seeds, ranked_by, notes)


def row_label(summary: Summary, row: Row) -> str:
    """A row by what varies, "key=value, ...", or by the published result it repeats if each row repeats another."""
    return summary.labels[id(row)]


def distinguishing_keys(summary: Summary) -> dict[str, str]:
    """Short names of the settings in which the rows differ, by key."""
    return short_names([key for key in summary.keys if len(summary.shown_values[key]) > 1])


def display_names(summary: Summary) -> dict[Path, str]:
    """A name for each run, by its folder: what varies, and the seed; the folder's name if nothing does.

    The same on the page, on the terminal and in TensorBoard.
    """
    names: dict[Path, str] = {}
    for row in summary.rows:
        for job in row.jobs:
            words = [row_label(summary, row), f"seed={job.seed}" if summary.over_seeds else ""]
            names[job.folder] = ", ".join(filter(None, words)) if job.settings else ""
    times = Counter(names.values())
    unique = {folder: f"{name} ({folder.name})" if times[name] > 1 else name for folder, name in names.items() if name}
    return {folder: unique.get(folder, folder.name) for folder in names}


def _drop_copies(jobs: list[Job]) -> Iterator[str]:
    """Keep one of the finished runs that have the same fingerprint; yield a note for each that goes."""
    kept: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda job: str(job.folder)):
        if not job.fingerprint or (first := kept.setdefault(job.fingerprint, job)) is job:
            continue
        jobs.remove(job)
        same = job.result is not None and first.result is not None and job.result.metrics == first.result.metrics
        figures = "" if same else "; its figures differ, so other code or another machine made them"
        yield f"{job.folder.name} has the settings and the seed of {first.folder.name}: one run, counted once{figures}."


def _shared_seeds(row: Row) -> Iterator[str]:
    times = Counter(job.seed for job in row.jobs if job.result is not None)
    for seed in sorted(seed for seed, count in times.items() if count > 1):
        names = ", ".join(job.folder.name for job in row.jobs if job.seed == seed)
        yield f"Several runs have seed {seed} ({names}): the comparison takes their mean as one run."
