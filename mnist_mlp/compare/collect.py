"""How many seeds a sweep needs to resolve a difference, from the spread of the runs that are there, in words."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mnist_mlp.compare.comparison import Outcome, PairedComparison, compare, correct, outcomes
from mnist_mlp.compare.diagnosis import BROKEN, Finding, finding, mean_curves
from mnist_mlp.compare.jobs import Job, JobReader, find_jobs, load_job
from mnist_mlp.compare.statistics import Plan, Variance, plan
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import short_names, short_values, value_text

__all__ = [
    "EXCLUDED_KEYS",
    "VALUES",
    "Job",
    "JobReader",
    "Row",
    "Summary",
    "by_seed",
    "display_names",
    "distinguishing_keys",
    "find_jobs",
    "load_job",
    "row_label",
    "summarize",
    "varying_keys",
]  # fmt: skip

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
MAX_NOTES = 3
"""Copies that are named."""


@dataclass
class Row:
    """Jobs that differ in their seed alone. values: for each column of VALUES, a number per finished job."""

    settings: JSON
    jobs: list[Job]
    values: dict[str, list[float]] = field(default_factory=dict)
    best: bool = False
    comparison: PairedComparison | None = None
    """With the best, corrected for all that the sweep makes."""
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
    notes: list[str] = field(default_factory=list)
    """What readers have to know of the runs: copies, seeds that stand for several runs."""

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
        repeats = [str(row.settings.get("reference.id") or "") for row in self.rows]
        if all(repeats) and len(set(repeats)) == len(repeats):
            return {id(row): name for row, name in zip(self.rows, repeats, strict=True)}
        named = distinguishing_keys(self)
        return {
            id(row): ", ".join(f"{name}={self.shown_value(row, key)}" for key, name in named.items())
            for row in self.rows
        }


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Dotted keys whose values differ between jobs. The unresolved `auto` of a failed job differs from no value."""
    jobs = [job for job in jobs if job.settings]  # of an unreadable one they may be unknown
    keys = dict.fromkeys(key for job in jobs for key in job.settings if not EXCLUDED_KEYS.fullmatch(key))
    return [key for key in keys if len({value_text(job.settings.get(key)) for job in jobs} - _unknown(key)) > 1]


def _unknown(key: str) -> set[str]:
    return {"auto", "-"} if key == "data.digest" else {"auto"}


def summarize(jobs: Sequence[Job]) -> Summary:
    """Group over seeds where they vary, rank by validation accuracy (by test where a run has none), compare."""
    keys = varying_keys(jobs)
    over_seeds = "seed" in keys
    keys = [key for key in keys if key != "seed"]
    if "data.source" not in keys and any(job.settings.get("data.source") == "sample" for job in jobs):
        keys.insert(0, "data.source")  # figures on the sample are always marked as such
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        alone = (str(job.folder),) if job.status == "unreadable" else ()
        groups.setdefault((*alone, *(value_text(job.settings.get(key)) for key in keys)), []).append(job)
    notes = _some([note for members in groups.values() for note in _drop_copies(members)])
    rows = [_row(keys, sorted(members, key=lambda job: job.seed)) for members in groups.values()]
    done = [row for row in rows if row.values["test_accuracy"]]
    ranked_by = "val_accuracy" if all(row.values["val_accuracy"] for row in done) else "test_accuracy"
    rows.sort(key=lambda row: _rank(row, ranked_by))
    if rows and rows[0] in done:
        _compare_to(rows[0], rows[1:], over_seeds)
    notes += [note for row in rows for note in _shared_seeds(row)]
    return Summary(keys, rows, over_seeds, ranked_by, notes)


def row_label(summary: Summary, row: Row) -> str:
    """A row by what varies, "key=value, ...", or by the published result it repeats if each row repeats another."""
    return summary.labels[id(row)]


def distinguishing_keys(summary: Summary) -> dict[str, str]:
    """Short names of the settings in which the rows differ, by key."""
    return short_names([key for key in summary.keys if len(summary.shown_values[key]) > 1])


def display_names(summary: Summary) -> dict[Path, str]:
    """A name for each run, by its folder: what varies, and the seed; the folder's name where that says nothing.

    The same wherever runs are named: on the page, on the terminal, in TensorBoard.
    """
    found: dict[Path, str] = {}
    for row in summary.rows:
        for job in row.jobs:
            parts = [row_label(summary, row) if job.settings else "", f"seed={job.seed}" if summary.over_seeds else ""]
            found[job.folder] = ", ".join(filter(None, parts)) if job.settings else ""
    times = Counter(found.values())
    return {
        folder: f"{name} ({folder.name})" if name and times[name] > 1 else name or folder.name
        for folder, name in found.items()
    }


def _row(keys: Sequence[str], jobs: list[Job]) -> Row:
    row = Row({key: jobs[0].settings.get(key) for key in keys}, jobs)
    for column, read in VALUES.items():
        numbers = [read(job.result) for job in jobs if job.result is not None]
        row.values[column] = [number for number in numbers if number is not None]
    return row


def _rank(row: Row, column: str) -> tuple[bool, float]:
    mean = row.mean(column)
    return (mean is None, -(mean or 0.0))


def _compare_to(best: Row, others: Sequence[Row], over_seeds: bool) -> None:
    best.best = True
    if not over_seeds:
        return
    found = [compare(by_seed(row.jobs), by_seed(best.jobs)) for row in others]
    for row, comparison in zip(others, correct(found), strict=True):
        row.comparison = comparison
        if row.values["test_accuracy"]:
            row.verdict = comparison.verdict if comparison else "no seed in common with the best"


def by_seed(jobs: Iterable[Job]) -> dict[int, Outcome]:
    """The finished runs among these, by seed."""
    return outcomes(
        [(job.seed, job.result.metric("test/accuracy"), job.folder) for job in jobs if job.result is not None]
    )


def _drop_copies(jobs: list[Job]) -> Iterator[str]:
    """Leave one of the finished runs that have the same fingerprint; a note for each that goes."""
    kept: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda job: str(job.folder)):
        if not job.fingerprint or (first := kept.setdefault(job.fingerprint, job)) is job:
            continue
        jobs.remove(job)
        same = job.result is not None and first.result is not None and job.result.metrics == first.result.metrics
        figures = "" if same else "; its figures differ, so other code or another machine made them"
        yield f"{job.folder.name} has the settings and the seed of {first.folder.name}: one run, counted once{figures}."


def _some(notes: Sequence[str]) -> list[str]:
    """The first notes of a kind; of the others their number alone."""
    more = len(notes) - MAX_NOTES
    return (
        list(notes) if more < 1 else [*notes[:MAX_NOTES], f"So it is with {more} more, which runs.csv leaves out, too."]
    )


def _shared_seeds(row: Row) -> Iterator[str]:
    times = Counter(job.seed for job in row.jobs if job.result is not None)
    for seed in sorted(seed for seed, count in times.items() if count > 1):
        names = ", ".join(job.folder.name for job in row.jobs if job.seed == seed)
        yield f"Several runs have seed {seed} ({names}): the comparison takes their mean as one run."


FAULTS = ("Over-fitting", "Over-confident")


class Verdict(NamedTuple):
    """How the runs of a row went. exceptions: runs that went quite otherwise, each with its name and a sentence."""

    row: Row
    verdict: str
    exceptions: list[str]


def verdicts(summary: Summary, curves: Mapping[Path, Curves] | None = None) -> list[Verdict]:
    """For each row of the comparison, in its order; curves: by run folder, read here where they are not given."""
    if curves is None:
        curves = {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in summary.jobs}
    several = sum(bool(row.values["test_accuracy"]) for row in summary.rows) > 1
    return [_of_row(row, curves, several and row.best) for row in summary.rows]


def _of_row(row: Row, curves: Mapping[Path, Curves], best: bool) -> Verdict:
    """Runs that broke are one camp, all others another: the larger one gives the verdict, the other the exceptions."""
    own = [(job, _finding(job, curves)) for job in row.jobs]
    broken = [(job, found) for job, found in own if found.kind in BROKEN]
    sound = [(job, found) for job, found in own if found.kind not in BROKEN]
    camp, others = (sound, broken) if len(sound) >= len(broken) else (broken, sound)
    common = _common(camp, curves)
    if camp is broken:  # not all of them broke in the same way
        others = [(job, found) for job, found in own if found.kind != common.kind]
    text = str(common)
    if best and common.kind in FAULTS:
        text += " It is the best of these settings all the same."
    return Verdict(row, text, [f"{_name(row, job)}: {found}" for job, found in others])


def _common(camp: Sequence[tuple[Job, Finding]], curves: Mapping[Path, Curves]) -> Finding:
    """The finding on the mean curves; where runs broke, that of the first in the most frequent way."""
    kinds = [found.kind for _, found in camp]
    if kinds[0] not in BROKEN and len(camp) > 1:
        mean = mean_curves([curves.get(job.folder, {}) for job, _ in camp])
        return finding("finished", "", None, mean, len(camp))
    return camp[kinds.index(max(kinds, key=kinds.count))][1]


def _finding(job: Job, curves: Mapping[Path, Curves]) -> Finding:
    return finding(job.status, job.reason, job.settings.get("trainer.max_epochs"), curves.get(job.folder, {}))


def _name(row: Row, job: Job) -> str:
    alone = [other.seed for other in row.jobs].count(job.seed) == 1
    return f"seed {job.seed}" if alone else job.folder.name


def planned(summary: Summary, points: float) -> Iterator[str]:
    """Lines on how many seeds each setting needs, for a difference in points of test accuracy to be found.

    UserError where the difference is out of range, or no two settings share two seeds with a spread.
    """
    if not 0 < points < 100:
        raise UserError(
            f"--plan {points:g} is out of range: give a difference in points of accuracy, above 0, below 100"
        )
    compared = [(row, row.comparison) for row in summary.rows if row.comparison is not None]
    known = [(row, one) for row, one in compared if one.decisive.error is not None]
    if not known:
        raise UserError("nothing to plan by: it takes two settings that were run with the same two seeds or more")
    family = known[0][1].comparisons
    many = f", corrected for {family} comparisons" if family > 1 else ""
    yield f"To find a difference of {points:g} points to the best with power 0.8 at the 5 % level{many}:"
    needs = [(row, one, plan(points / 100, one.variance, one.decisive.images, family)) for row, one in known]
    for row, one, found in needs:
        yield f"  {row_label(summary, row)}: {_need(one, found)}"
    yield _conclusion([(one, found) for _, one, found in needs], points, family)
    least = min(one.decisive.n for _, one, _ in needs)
    if least < 10:
        yield f"The spread comes from {least} seeds, so it is only roughly known: plan again when there are more."


def _need(one: PairedComparison, found: Plan) -> str:
    resolved = one.detectable_difference or 1.0
    now = f"now {one.decisive.n}, which resolve " + (f"{100 * resolved:.2f} points" if resolved < 1 else "nothing")
    state = "already told apart" if one.is_significant else now
    spread = f"standard deviation of the difference over seeds {100 * one.variance.seed**0.5:.2f} points"
    seeds = f"{found.seeds} seeds" if found.seeds else f"images are the limit, at {100 * found.limit:.2f} points"
    return f"{seeds} ({state}; {spread})"


def _conclusion(needs: list[tuple[PairedComparison, Plan]], points: float, family: int) -> str:
    """For the settings that are not told apart yet, or for all where there is none."""
    open_ones = [(one, found) for one, found in needs if not one.is_significant] or needs
    limited = [(one, found) for one, found in open_ones if found.seeds is None]
    if not limited:
        return f"Take {max(found.seeds or 0 for _, found in open_ones)} seeds per setting."
    one, found = max(limited, key=lambda pair: pair[1].limit)
    images = one.decisive.images
    if not images or found.limit < points / 100:
        return f"More than 10,000 seeds per setting: a difference of {points:g} points is out of reach."
    here = plan(points / 100, Variance(one.variance.seed + one.variance.rest / images, 0.0, 0.0), 0, family).seeds
    text = (
        f"Images, not seeds, are the limit: with any number of seeds, {images:,} test images resolve no less than "
        f"{100 * found.limit:.2f} points; {points:g} points take at least {found.images:,} images."
    )
    return text if here is None else f"{text} On these very images alone, {here} seeds per setting would do."
