"""Group runs by setting, rank the groups and compare each with the best."""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.load import LAYERS, UNKNOWN, Job, Labels, labels_of, same_test_images
from mnist_mlp.compare.statistics import (
    PairedComparison,
    Variance,
    adjust_for_all_pairs,
    cross_fitted_accuracy,
    crossed_difference,
    paired_difference,
)
from mnist_mlp.datasets import DATASETS
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import EPOCHS, SECONDS
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import label_prefixes, short_names, short_values, value_text

VALUES: dict[str, Callable[[RunResult], float | None]] = {
    "val_accuracy": lambda result: result.metrics.get("val/accuracy"),
    "test_accuracy": lambda result: result.metrics["test/accuracy"],
    "test_f1_macro": lambda result: result.metrics["test/f1_macro"],
    "test_loss": lambda result: result.metrics["test/loss"],
    "parameters": lambda result: result.parameters,
    "fit_seconds": lambda result: result.timing["fit_seconds"],
}
"""Columns of the summary and how to read them from a result."""
EXCLUDED_KEYS = re.compile(
    r"name|resume|data\.root|trainer\.(figures|logger|progress|profiler|test_curve)|reference\.(?!id$).*"
)
"""Settings that comparisons ignore, including those of a published result except its name."""
MAX_NOTES = 3
DATASET_KEYS = ("data.name", "data.source", "data.digest")
"""Settings that identify the dataset. Accuracies on different datasets are never compared."""
UNKNOWN_DATA = "unknown data"  # title of their dataset, which may be one of the others


def compare(first: Iterable[Job], second: Iterable[Job], context: Sequence[str] = ()) -> PairedComparison | None:
    """Compare first - second like for like, unadjusted: only runs with a counterpart of the same seed and context.

    Matched runs of one seed are averaged. The interval over images needs predictions of the same images by all of them.

    Args:
        first: Runs of one setting.
        second: Runs of another one.
        context: Dotted keys of further settings that vary within both, such as the width if depths are compared.

    Returns:
        The comparison; None if no runs match, or if they were tested on different images. It has no intervals if only
        some seeds collapsed, as Student's t does not describe such a mix, or if they would exceed 100 points.
    """
    sides = by_cell(first, context), by_cell(second, context)
    cells = sorted(sides[0].keys() & sides[1].keys())
    matched = [[runs[cell] for cell in cells] for runs in sides]
    if not cells or not same_test_images(job for side in matched for jobs in side for job in jobs):
        return None
    seeds = [seed for seed, *_ in cells]
    accuracies = ([statistics.fmean(job.accuracy for job in jobs) for jobs in side] for side in matched)
    over_seeds = paired_difference(*(_mean_by_seed(zip(seeds, values, strict=True)) for values in accuracies))
    assert over_seeds is not None  # there are cells
    labels = [[[labels_of(job.folder) for job in jobs] for jobs in side] for side in matched]
    truths = {pair and pair[0] for side in labels for pairs in side for pair in pairs}
    if len(truths - {None}) > 1:
        return None
    n, error = over_seeds.n, over_seeds.error or 0.0
    paired = PairedComparison(over_seeds, None, Variance(error**2 * n, 0.0, 0.0, n - 1))
    if len(truths) == 1 and (truth := truths.pop()) is not None:  # all predicted the same images
        correct = ([_correctness(pairs, truth) for pairs in side] for side in labels)
        means = (_mean_by_seed(zip(seeds, values, strict=True)) for values in correct)
        paired = crossed_difference(*(np.array(list(side.values())) for side in means))
    at_chance = ([statistics.fmean(job.is_at_chance for job in jobs) for jobs in side] for side in matched)
    is_mixed = any(len({*_mean_by_seed(zip(seeds, values, strict=True)).values()}) > 1 for values in at_chance)
    ends = [end or 0 for side in (paired.seeds, paired.images or paired.seeds) for end in (side.low, side.high)]
    if is_mixed or max(map(abs, ends)) > 1:
        seeds_only, both = replace(paired.seeds, error=None), paired.images and replace(paired.images, error=None)
        obstacle = "some seeds are at chance level" if is_mixed else "the interval would exceed 100 points"
        return PairedComparison(seeds_only, both, paired.variance, obstacle=obstacle)
    return paired


def by_cell(jobs: Iterable[Job], context: Sequence[str]) -> Mapping[tuple[Any, ...], list[Job]]:
    """Group tested runs by their seed and the text of each setting of the context."""
    runs: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        if job.result is not None and math.isfinite(job.accuracy):
            runs[(job.seed, *map(job.text, context))].append(job)
    return runs


def _correctness(pairs: Sequence[Labels | None], truth: bytes) -> NDArray[Any]:
    """Whether a run is correct on each image, (n,) bool; of several runs the fraction that is."""
    labels = np.frombuffer(truth, dtype=np.uint8)
    correct = [pair[1] == labels for pair in pairs if pair is not None]
    return correct[0] if len(correct) == 1 else np.asarray(np.mean(correct, axis=0))


def _mean_by_seed(pairs: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """Average numbers or arrays over the contexts of each seed; a single one stays as it is."""
    groups = defaultdict(list)
    for seed, value in pairs:
        groups[seed].append(value)
    return {seed: group[0] if len(group) == 1 else sum(group) / len(group) for seed, group in groups.items()}


@dataclass
class Row:
    """Jobs that differ only in their seed. settings: those that vary between rows.

    dataset: its title if there are several; best: whether it is the best on its dataset; comparison: with that row,
    adjusted for all pairs of rows on the dataset.
    """

    settings: JSON
    jobs: list[Job]
    dataset: str = ""
    best: bool = False
    comparison: PairedComparison | None = None
    verdict: str = ""

    @cached_property
    def values(self) -> dict[str, list[float]]:
        """A value per seed with a result, for each column of VALUES: the mean of its runs."""
        runs = [(job.seed, job.result) for job in self.jobs if job.result is not None]
        columns = {
            name: [(seed, n) for seed, run in runs if (n := read(run)) is not None] for name, read in VALUES.items()
        }
        return {name: list(_mean_by_seed(pairs).values()) for name, pairs in columns.items()}

    def mean(self, column: str) -> float | None:
        """Mean; None without values."""
        return statistics.fmean(self.values[column]) if self.values[column] else None

    def deviation(self, column: str) -> float | None:
        """Sample standard deviation; None for fewer than two values."""
        return statistics.stdev(self.values[column]) if len(self.values[column]) > 1 else None

    @property
    def status(self) -> str:
        """The status of the only job, or how many jobs have which."""
        counts = Counter(job.outcome for job in self.jobs)
        return self.jobs[0].status if len(self.jobs) == 1 else ", ".join(f"{n} {name}" for name, n in counts.items())

    @property
    def incomplete(self) -> str:
        """How many runs failed, diverged or ended at chance level, and whether the means cover them; or empty."""
        lost = Counter((job.outcome, "not " * (job.result is None)) for job in self.jobs if job.outcome != "finished")
        return ", ".join(f"{n} of {len(self.jobs)} runs {end} ({no}in the means)" for (end, no), n in lost.items())

    @property
    def is_setting(self) -> bool:
        """Whether its settings are known: not those of an unreadable run."""
        return bool(self.jobs[0].settings)

    @property
    def reasons(self) -> str:
        """Why jobs failed or cannot be read, each reason once."""
        return "; ".join(dict.fromkeys(job.reason for job in self.jobs if job.reason))


@dataclass(frozen=True)
class Summary:
    """A comparison: rows ranked by a column of VALUES within each dataset, best first.

    keys: the settings that vary, without the seed if rows are grouped over it.
    notes: warnings about copied runs and seeds with several runs.
    whole: the summary of all datasets, if this one is of one of several.
    """

    keys: list[str]
    rows: list[Row]
    over_seeds: bool
    ranked_by: str
    notes: list[str] = field(default_factory=list)
    whole: "Summary | None" = None

    @cached_property
    def by_dataset(self) -> dict[str, "Summary"]:
        """The summary of each dataset by title, without notes; only this one, without a title, if there is one."""
        titles = dict.fromkeys(row.dataset for row in self.rows if row.is_setting)
        if len(titles) < 2:
            return {"": self}
        part = replace(self, keys=[key for key in self.keys if key not in DATASET_KEYS], notes=[], whole=self)
        return {title: replace(part, rows=[row for row in self.rows if row.dataset == title]) for title in titles}

    @property
    def jobs(self) -> list[Job]:
        """All runs in row order, without copies."""
        return [job for row in self.rows for job in row.jobs]

    def table_of(self, job: Job) -> "Summary":
        """The summary of the run's dataset."""
        return next((part for part in self.by_dataset.values() if job in part.jobs), self)

    @cached_property
    def cross_fitted(self) -> float | None:
        """Cross-fitted accuracy of the best; None if seeds are few or collapsed, or it is its mean."""
        read, test = VALUES[self.ranked_by], VALUES["test_accuracy"]
        scores: list[dict[int, tuple[float, float]]] = []
        for row in self.rows if len(self.by_dataset) == 1 else ():
            pairs = {job.seed: (read(job.result), test(job.result)) for job in row.jobs if job.result is not None}
            known = {seed: (score, tested) for seed, (score, tested) in pairs.items() if score and tested}
            if len(known) < 2:
                continue  # one seed cannot be best
            if len({job.is_at_chance for job in row.jobs if job.result is not None}) > 1:
                return None  # the mean of few such seeds says nothing
            scores.append(known)
        fitted, mean = cross_fitted_accuracy(scores), self.rows[0].mean("test_accuracy") if self.rows else None
        return fitted if fitted is not None and mean is not None and round(fitted, 4) != round(mean, 4) else None

    @cached_property
    def shown_values(self) -> dict[str, dict[str, str]]:
        """Display text by `value_text`, for each of `keys`; numbers have few digits."""
        return {key: short_values(row.settings[key] for row in (self.whole or self).rows) for key in self.keys}

    def shown_value(self, row: Row, key: str) -> str:
        """Display text of a setting of a row."""
        return self.shown_values[key][value_text(row.settings[key])]

    @cached_property
    def labels(self) -> dict[int, str]:
        """Labels for `row_label`, by `id(row)`."""
        published = {id(row): str(row.settings.get("reference.id") or "") for row in self.rows}
        if names := self.own_names or (published if len({*published.values()} - {""}) == len(published) else {}):
            return names
        return {id(row): self.settings_text(row) for row in self.rows}

    def settings_text(self, row: Row) -> str:
        """The settings of a row that vary between rows, as in "standard, lr=0.1"."""
        prefixes = label_prefixes({key: self.shown_values[key].values() for key in distinguishing_keys(self)})
        return ", ".join(start + self.shown_value(row, key) for key, start in prefixes.items())

    @cached_property
    def own_names(self) -> dict[int, str]:
        """`Job.own_name` of each row, by `id(row)`; empty if a row has none or several runs, or is the only one."""
        rows = [row for row in (self.whole or self).rows if row.is_setting]
        names = {id(row): row.jobs[0].own_name for row in rows if len(row.jobs) == 1}
        return names if len(rows) > 1 and len(rows) == len(set(names.values()) - {""}) else {}


def varying_keys(jobs: Sequence[Job]) -> list[str]:
    """Dotted keys whose values differ between jobs. An unresolved `auto` of a failed job equals any value.

    Of DATASET_KEYS, those that the others determine are left out: one digest per `data.name` is not another setting.
    """
    jobs = [job for job in jobs if job.settings]  # an unreadable job may have none
    keys = dict.fromkeys(key for job in jobs for key in job.settings if not EXCLUDED_KEYS.fullmatch(key))
    unknown = {key: {"auto", "-"} if key in ("data.digest", LAYERS) else {"auto"} for key in keys}
    varying = [key for key in keys if len({job.text(key) for job in jobs} - unknown[key]) > 1]
    for key in ("data.digest", "data.source"):
        if others := [other for other in DATASET_KEYS if other in varying and other != key]:
            values = {(tuple(map(job.text, others)), job.text(key)) for job in jobs if job.result is not None}
            if key in varying and len({names for names, _ in values}) == len(values):
                varying.remove(key)
    return varying


def summarize(jobs: Sequence[Job]) -> Summary:
    """Group jobs by setting and, on each dataset, rank the settings and compare them with the best.

    The rank is by validation accuracy, or by test accuracy if any row lacks it.
    """
    keys = varying_keys(jobs)
    if over_seeds := "seed" in keys:
        keys.remove("seed")
    if "data.source" not in keys and any(job.settings.get("data.source") == "sample" for job in jobs):
        keys.insert(0, "data.source")  # results on the sample are always marked
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        own_group = () if job.settings else (str(job.folder),)
        groups.setdefault((*own_group, *map(job.text, keys)), []).append(job)
    notes = [note for members in groups.values() for note in _drop_copies(members)]
    if (more := len(notes) - MAX_NOTES) > 0:
        notes[MAX_NOTES:] = [f"Further copies, also omitted from runs.csv: {more}."]
    rows = [
        Row({key: members[0].settings.get(key) for key in keys}, members)
        for members in (sorted(jobs, key=lambda job: job.seed) for jobs in groups.values())
    ]
    ranked_by = "val_accuracy"
    if any(row.values["test_accuracy"] and not row.values["val_accuracy"] for row in rows):
        ranked_by = "test_accuracy"
    datasets = _group_by_dataset(rows)
    for own in datasets:
        _rank(own, ranked_by, over_seeds)
    rows = list(chain.from_iterable(datasets))
    notes += [note for row in rows for note in _shared_seeds(row)]
    notes += _time_limits([job for row in rows for job in row.jobs])
    notes += _extended_seeds((job for row in rows for job in row.jobs), keys) if over_seeds else []
    if unknown := [row.jobs[0].folder.name for row in rows if not row.is_setting]:
        notes.append(f"Unreadable, so in no setting: {', '.join(unknown)}.")
    if any({1, 2} <= {min(len(row.values[ranked_by]), 2) for row in own} for own in datasets):
        notes.append("Settings with one tested seed rank last, whatever their mean.")
    summary = Summary(keys, rows, over_seeds, ranked_by, notes)
    lost = [row for row in rows if row.is_setting and row.incomplete]
    few = len(lost) <= MAX_NOTES
    labels = {id(row): f"'{text}'" if (text := row_label(summary, row)) else "the only setting" for row in lost}
    texts = [f"{labels[id(row)]}, {row.incomplete}" for row in lost if few or row.best]
    texts += [] if few else [f"all settings, {Row({}, summary.jobs).incomplete}"]
    notes[:0] = [f"Of {'; of '.join(texts)}."] if texts else []
    return summary


def _group_by_dataset(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows by the digest of their data, in the order of DATASETS; name the datasets if there are several.

    Rows without a result join the dataset of their `data.name`. Unreadable runs come last.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    digests: dict[str, set[str]] = defaultdict(set)
    jobs: dict[str, Job] = {}
    for row in sorted(rows, key=lambda row: not row.values["test_accuracy"]):
        job = max(row.jobs, key=lambda job: (job.result is not None, job.text("data.digest") != "-"))
        name, digest = job.text("data.name"), job.text("data.digest")
        if digest == "-" and job.result is not None:
            digest = job.result.source
        elif digest == "-" and (known := digests[name]):
            digest = next(iter(known)) if len(known) == 1 else UNKNOWN
        digests[name].add(digest := name if digest == "-" else digest)
        groups[digest].append(row)
        jobs.setdefault(digest, job)
    titles = {digest: _dataset_title(job, digest) for digest, job in jobs.items() if job.settings}
    counts = Counter(titles.values())
    for digest, title in titles.items() if len(titles) > 1 else ():
        for row in groups[digest]:
            row.dataset = f"{title}, digest {digest}" if counts[title] > 1 else title

    def order(digest: str) -> tuple[int, bool, int]:
        name = jobs[digest].text("data.name")
        return [*DATASETS, name].index(name), digest != getattr(DATASETS.get(name), "digest", ""), -len(groups[digest])

    return [groups[digest] for digest in sorted(groups, key=order)]


def _dataset_title(job: Job, digest: str) -> str:
    name = job.text("data.name")
    if digest == UNKNOWN:
        return UNKNOWN_DATA
    if job.result is None:
        return DATASETS[name].title if name in DATASETS else name
    source = job.result.source
    return "MNIST" if source == "mnist" else "other data" if source.startswith("not ") else source


def _rank(rows: list[Row], ranked_by: str, over_seeds: bool) -> None:
    """Sort the rows of a dataset, best first, and compare them with the best."""
    several = max((len(row.values["test_accuracy"]) for row in rows), default=0) > 1
    # a setting with one seed has no spread: as the best, it would leave the others without a verdict
    rows.sort(key=lambda row: (several and len(row.values[ranked_by]) < 2, -(row.mean(ranked_by) or -1.0)))
    best, other_rows = rows[0], rows[1:] if over_seeds else []
    if not best.values["test_accuracy"]:
        return
    best.best, best.verdict = True, "only setting on this dataset" if best.dataset and len(rows) == 1 else ""
    compared = [compare(row.jobs, best.jobs) for row in other_rows]
    comparisons = adjust_for_all_pairs(compared, count_testable_pairs(rows))
    unpaired = "not tested: no seed in common on the same images"
    for row, comparison in zip(other_rows, comparisons, strict=True):
        row.comparison = comparison
        if row.values["test_accuracy"]:
            row.verdict = comparison.verdict if comparison else unpaired


def count_testable_pairs(rows: Sequence[Row]) -> int:
    """Count the pairs of settings with two seeds in common, any of which could have been compared with the best."""
    seeds = [{(job.text("data.digest"), job.seed) for job in row.jobs if job.result is not None} for row in rows]
    return sum(len(first & second) > 1 for first, second in combinations([own for own in seeds if len(own) > 1], 2))


def row_label(summary: Summary, row: Row) -> str:
    """Label of a row: "standard, lr=0.1", or the name of its run, trial or published result if every row has one."""
    return summary.labels[id(row)] if row.is_setting else row.jobs[0].folder.name


def distinguishing_keys(summary: Summary) -> dict[str, str]:
    """Short names of the settings in which the rows differ, by key."""
    return short_names([key for key in summary.keys if len(summary.shown_values[key]) > 1])


def display_names(summary: Summary) -> dict[Path, str]:
    """Name each run, by folder: its own name, or its varying settings and seed, or the folder's name if nothing varies.

    The page, the terminal and TensorBoard share these names.
    """
    names = {job.folder: job.own_name for job in summary.jobs}
    if len(names) > 1 and len(names) == len(set(names.values()) - {""}):
        return names
    for row in summary.rows:
        for job in row.jobs:
            labels = [row_label(summary, row), f"seed {job.seed}" if summary.over_seeds else ""]
            names[job.folder] = ", ".join(filter(None, labels)) if job.settings else ""
    counts = Counter(names.values())
    unique = {folder: f"{name} ({folder.name})" if counts[name] > 1 else name for folder, name in names.items() if name}
    return {folder: unique.get(folder, folder.name) for folder in names}


def _drop_copies(jobs: list[Job]) -> Iterator[str]:
    """Keep one run per fingerprint or, as versions hash settings differently, per metrics; yield notes on the rest."""
    kept: dict[Any, Job] = {}
    for job in sorted((job for job in jobs if job.result and job.fingerprint), key=lambda job: str(job.folder)):
        outcome = (job.seed, tuple(sorted(job.result.metrics.items()))) if job.result else None
        first = kept.get(job.fingerprint) or kept.get(outcome)
        if first is None:
            kept |= {job.fingerprint: job, outcome: job}
            continue
        jobs.remove(job)
        other = "" if outcome in kept else "; its results differ, so they come from other code or another machine"
        yield f"{job.folder.name} has the same settings and seed as {first.folder.name} and is counted once{other}."


def _extended_seeds(jobs: Iterable[Job], keys: Sequence[str]) -> Iterator[str]:
    """Notes on settings of which only some seeds were trained for more epochs."""
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[", ".join(f"{key}={job.text(key)}" for key in keys if key != EPOCHS)].append(job)
    for name, members in groups.items():
        epochs = {job.seed: job.text(EPOCHS) for job in members}
        if len(set(epochs.values())) > 1 and len(epochs) == len(members):
            by_seed = ", ".join(f"{count} for seed {seed}" for seed, count in epochs.items())
            yield f"Seeds of {name or 'the setting'} differ in max_epochs, so they are several settings: {by_seed}."


def _time_limits(jobs: Iterable[Job]) -> Iterator[str]:
    """Note on runs that were stopped by time, and whether all had the same time."""
    tested = [(job.settings.get(SECONDS), job.result) for job in jobs if job.result is not None]
    epochs = [result.stopped_at_epoch for _, result in tested if result.stopped_at_epoch]
    if not epochs:
        return
    stopped = f"{len(epochs)} of {len(tested)} runs were stopped by {SECONDS}"
    if len({limit for limit, _ in tested}) == 1:
        stopped = f"Equal time: {stopped}={tested[0][0]:g}"
        if len({result.environment["device"] for _, result in tested}) > 1:
            stopped += ", on different devices"
    yield (
        f"{stopped}, after {min(epochs):.1f} to {max(epochs):.1f} epochs. How far they get depends on the machine and"
        " its load, so they cannot be reproduced exactly."
    )


def _shared_seeds(row: Row) -> Iterator[str]:
    counts = Counter(job.seed for job in row.jobs if job.result is not None)
    for seed in sorted(seed for seed, count in counts.items() if count > 1):
        names = ", ".join(job.folder.name for job in row.jobs if job.seed == seed)
        yield f"Several runs have seed {seed} ({names}); the comparison uses their mean."
