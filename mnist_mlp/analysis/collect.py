"""The runs of a sweep, read from their folders alone: what varies, and the rows of the comparison."""

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnist_mlp.analysis.statistics import Interval, paired_difference, verdict
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten, value_text

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
    r"name|resume|data\.root|trainer\.(figures|progress|profiler|test_curve)|reference\.(?!id$).*"
)
"""Settings that a comparison leaves out; of a published result it shows the name alone."""


@dataclass(frozen=True)
class Job:
    """A run folder in a comparison. status: finished, diverged, failed or unfinished; settings have dotted keys."""

    folder: Path
    status: str
    settings: JSON
    result: RunResult | None = None
    reason: str = ""

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))


@dataclass
class Row:
    """Jobs that differ in their seed alone. values: for each column of VALUES, a number per finished job."""

    settings: JSON
    jobs: list[Job]
    values: dict[str, list[float]] = field(default_factory=dict)
    best: bool = False
    difference: Interval | None = None
    verdict: str = ""

    def mean(self, column: str) -> float | None:
        numbers = self.values.get(column)
        return statistics.fmean(numbers) if numbers else None

    def deviation(self, column: str) -> float | None:
        """Sample standard deviation; None for fewer than two numbers."""
        numbers = self.values.get(column, [])
        return statistics.stdev(numbers) if len(numbers) > 1 else None

    @property
    def status(self) -> str:
        names = [job.status for job in self.jobs]
        if len(names) == 1:
            return names[0]
        return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))

    @property
    def reasons(self) -> str:
        return "; ".join(dict.fromkeys(job.reason for job in self.jobs if job.reason))


@dataclass(frozen=True)
class Summary:
    """Rows best first. keys: the settings that vary (without the seed, where rows are grouped over it)."""

    keys: list[str]
    rows: list[Row]
    over_seeds: bool
    ranked_by: str


def load_job(path: Path) -> Job | None:
    """The run in a folder; None if no run has ever started there."""
    folder = RunFolder(path)
    failure, run = folder.failure(), folder.run()
    try:
        result = folder.result()
    except ValueError:
        result = None
    # first: resuming a job removes its failure, so one beside a result is the newer of the two
    if failure is not None and failure.keys() >= {"reason", "config"}:
        return Job(path, "failed", flatten(failure["config"]), reason=failure["reason"])
    if result is not None:
        return Job(path, result.status, flatten(result.config), result)
    return Job(path, "unfinished", flatten(run["config"])) if run is not None else None


def find_jobs(paths: Iterable[Path]) -> list[Job]:
    """The runs in these folders and below them, at any depth, but not in hidden folders."""
    found: dict[Path, Job] = {}
    for path in paths:
        marks = [mark for name in RunFolder.MARKER_FILES for mark in path.rglob(name)]
        for folder in sorted({mark.parent for mark in marks}):
            hidden = any(part.startswith(".") for part in folder.relative_to(path).parts)
            if not hidden and (job := load_job(folder)) is not None:
                found.setdefault(folder.resolve(), job)
    return list(found.values())


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Dotted keys whose values differ between jobs. The unresolved `auto` of a failed job differs from no value."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings if not EXCLUDED_KEYS.fullmatch(key))
    return [key for key in keys if len({value_text(job.settings.get(key)) for job in jobs} - {"auto"}) > 1]


def summarize(jobs: Sequence[Job]) -> Summary:
    """Group over seeds where they vary, rank by validation accuracy (by test where a run has none), compare."""
    keys = varying_keys(jobs)
    over_seeds = "seed" in keys
    keys = [key for key in keys if key != "seed"]
    if "data.source" not in keys and any(job.settings.get("data.source") == "sample" for job in jobs):
        keys.insert(0, "data.source")  # figures on the sample are always marked as such
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(value_text(job.settings.get(key)) for key in keys), []).append(job)
    rows = [_row(keys, sorted(members, key=lambda job: job.seed)) for members in groups.values()]
    done = [row for row in rows if row.values["test_accuracy"]]
    ranked_by = "val_accuracy" if all(row.values["val_accuracy"] for row in done) else "test_accuracy"
    rows.sort(key=lambda row: _rank(row, ranked_by))
    if rows and rows[0] in done:
        _compare_to(rows[0], rows[1:], over_seeds)
    return Summary(keys, rows, over_seeds, ranked_by)


def _row(keys: Sequence[str], jobs: list[Job]) -> Row:
    row = Row({key: jobs[0].settings.get(key) for key in keys}, jobs)
    for column, read in VALUES.items():
        numbers = [read(job.result) for job in jobs if job.result is not None]
        row.values[column] = [number for number in numbers if number is not None]
    return row


def _rank(row: Row, column: str) -> tuple[bool, float]:
    mean = row.mean(column)
    return (mean is None, -(mean or 0.0))


def _compare_to(best: Row, others: Iterable[Row], over_seeds: bool) -> None:
    best.best = True
    for row in others if over_seeds else ():
        row.difference = paired_difference(_by_seed(row), _by_seed(best))
        row.verdict = verdict(row.difference) if row.values["test_accuracy"] else ""


def _by_seed(row: Row) -> dict[int, float]:
    return {job.seed: job.result.metric("test/accuracy") for job in row.jobs if job.result is not None}
