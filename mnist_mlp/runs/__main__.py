"""Command: list runs and sweeps; filter and sort them by name, date, accuracy or setting."""

import argparse
import json
import math
import operator
import os
import re
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mnist_mlp import __version__
from mnist_mlp.compare.collect import DATASET_KEYS, varying_keys
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.console import columns, command
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import finite
from mnist_mlp.runs.folder import is_held
from mnist_mlp.runs.settings import short_names, value_text, with_defaults

COLUMNS = ("name", "date", "status", "accuracy", "time")
SWEEP_FILES = ("multirun.yaml", "summary.csv")
COMPARISON = re.compile(r"([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.+)")
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt
}  # fmt: skip
DEFAULTS = with_defaults({})
MAX_VALUES, PIPED_WIDTH = 6, 1000


class Item:
    """A line of the list: a run, or the runs of a sweep.

    Attributes:
        name: its folder, relative to the folder that is listed.
        status: of a sweep, with the number of its runs.
        date: when the latest run began, or the folder of one without a result last changed; local time.
        time: training time in seconds, summed over runs.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job], root: Path) -> None:
        self.folder, self.jobs, self.is_sweep = folder, jobs, folder != jobs[0].folder
        self.name = os.path.relpath(folder, root)
        is_running = [job.status == "unfinished" and is_held(job.folder) for job in jobs]
        counts = Counter("running" if held else job.outcome for job, held in zip(jobs, is_running, strict=True))
        self.status = ", ".join(f"{n} {name}" if self.is_sweep else name for name, n in counts.items())
        self.date = max(map(_date, jobs))
        self.time = sum(job.result.timing["fit_seconds"] for job in jobs if job.result is not None)

    @cached_property
    def varying(self) -> list[str]:
        """Keys of the settings that vary in a sweep."""
        return varying_keys(self.jobs)

    @cached_property
    def accuracy(self) -> float:
        """Test accuracy; of a sweep on one dataset, the mean over seeds of the setting with the best on validation."""
        groups: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        for job in self.jobs if set(DATASET_KEYS).isdisjoint(self.varying) else ():
            if job.result is not None and math.isfinite(job.accuracy):
                setting = tuple(job.text(key) for key in self.varying if key != "seed")
                score = job.result.metrics.get("val/accuracy") or job.accuracy
                groups.setdefault(setting, []).append((score, job.accuracy))
        means = [tuple(map(statistics.fmean, zip(*pairs, strict=True))) for pairs in groups.values()]
        return max(means)[1] if means else math.nan

    def settings(self, shown: Sequence[str]) -> dict[str, str]:
        """Return the settings, as overrides, that vary in a sweep or are in `shown` and not the default, by key."""
        texts = {}
        for key in dict.fromkeys([*self.varying, *shown]):
            values = list(dict.fromkeys(job.text(key) for job in self.jobs))
            if len(values) > 1 or values[0] != value_text(DEFAULTS.get(key)):
                texts[key] = ",".join(values) if len(values) <= MAX_VALUES else f"({len(values)} values)"
        return texts

    def value(self, key: str) -> Any:
        """Return a column, or a setting: a number or text, with several values of a sweep in order."""
        if key in COLUMNS:
            return getattr(self, key)
        return min((_parsed(job.text(key)) for job in self.jobs), key=_order)

    def matches(self, term: str) -> bool:
        """Whether the line satisfies KEY=VALUE (or <, >, ...), or contains the text in its name, status or settings."""
        if (match := COMPARISON.fullmatch(term)) is None:
            texts = (self.name, self.status, *(f"{key}={text}" for key, text in self.settings(list(DEFAULTS)).items()))
            return any(term.lower() in text.lower() for text in texts)
        key, operand = full_key(match[1]), _parsed(match[3])
        if key == "accuracy" and isinstance(operand, float) and operand > 1:
            operand /= 100  # percent
        if key == "data.subset":
            operand = _parsed(with_defaults({key: match[3]})[key])
        value = self.value(key)
        is_comparable = isinstance(value, str) == isinstance(operand, str)
        return OPERATORS[match[2]](value, operand) if is_comparable else match[2] == "!="


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.runs` and of the script `mnist-mlp-runs`."""
    options = build_parser().parse_args(arguments)
    with command():
        paths = [Path(word) for word in options.words if Path(word).is_dir()] or [Path("outputs")]
        root = paths[0] if len(paths) == 1 else Path()
        if options.limit is not None and options.limit < 1:
            raise UserError(f"--limit {options.limit} is out of range: expected an integer >= 1")
        terms, key = [word for word in options.words if not Path(word).is_dir()], full_key(options.sort)
        if not (jobs := find_jobs(paths)):
            raise UserError(f"no runs in {', '.join(map(str, paths))}: pass folders that contain runs, or train one")
        kept = [job for job in jobs if all(Item(job.folder, [job], root).matches(term) for term in terms)]
        is_descending = key in ("accuracy", "date", "time")
        items = sorted(group(kept, root, options.all), key=lambda item: _order(item.value(key)), reverse=is_descending)
        listed = items[: options.limit]
        if options.json:
            print(json.dumps(finite([as_json(item) for item in listed])))
            return
        width = columns() if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
        for line in table_lines(listed, width):
            print(line)
        print(f"{len(listed)} of {len(items)} lines; {len(kept)} of {len(jobs)} runs")
        if any(item.is_sweep for item in listed):
            print("* best setting by validation accuracy, mean over seeds; --all lists its runs")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.runs",
        description="List runs, and sweeps in one line each, latest first.",
        epilog="Example: python -m mnist_mlp.runs lr=0.01 'accuracy>0.97' --sort accuracy",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    words = "folder with runs (default: outputs), or filter: KEY=VALUE, KEY>VALUE, or text in name, status or settings"
    add("words", nargs="*", metavar="PATH|FILTER", help=words)
    add("--all", action="store_true", help="list each run of a sweep")
    add("--sort", default="date", metavar="KEY", help=f"{', '.join(COLUMNS)} or a setting, such as lr; default: date")
    add("--limit", type=int, metavar="N", help="only the first N lines")
    add("--json", action="store_true", help="print JSON with all settings; accuracies are fractions, times seconds")
    return parser


def group(jobs: Sequence[Job], root: Path, all_runs: bool) -> Iterator[Item]:
    """Yield a line per run outside a sweep, or per run, and one per sweep."""
    folders: dict[Path, list[Job]] = {}
    for job in jobs:
        sweep = job.folder.parent
        is_sweep = sweep != root and sweep.name != "train" and any((sweep / name).is_file() for name in SWEEP_FILES)
        folders.setdefault(sweep if is_sweep and not all_runs else job.folder, []).append(job)
    return (Item(folder, members, root) for folder, members in folders.items())


def full_key(name: str) -> str:
    """Return a column, or the dotted key of a setting, by its full or short name."""
    short = {text: key for key, text in short_names(list(DEFAULTS)).items()}
    if name not in (*COLUMNS, *DEFAULTS, *short):
        raise UserError(f"{name} is not a column: use {', '.join(COLUMNS)} or a setting, such as lr")
    return name if name in COLUMNS else short.get(name, name)


def as_json(item: Item) -> dict[str, Any]:
    """Return a line with all settings of a run, or those that vary in a sweep."""
    kind, settings = ("sweep", item.settings(())) if item.is_sweep else ("run", item.jobs[0].settings)
    values = {"kind": kind, "folder": str(item.folder), "runs": len(item.jobs), "settings": settings}
    return {**{name: getattr(item, name) for name in COLUMNS}, **values}


def table_lines(items: Sequence[Item], width: int) -> Iterator[str]:
    """Format a table with lines of at most `width` characters."""
    shown = varying_keys([job for item in items for job in item.jobs])
    names = short_names(list(dict.fromkeys(key for item in items for key in (*item.varying, *shown))))
    yield f"{'date':<16}  {'test %':>6}   minutes  name; status; settings"
    for item in items:
        accuracy = f"{100 * item.accuracy:.2f}{'*' if item.is_sweep else ' '}" if math.isfinite(item.accuracy) else "- "
        fixed = f"{item.date}  {accuracy:>7}  {item.time / 60:>7.1f}  "
        settings = " ".join(f"{names[key]}={text}" for key, text in item.settings(shown).items())
        details = f"{item.status}; {settings}".removesuffix("; ")
        whole = f"{item.name}; {details}"
        for text in [whole] if len(fixed + whole) <= width else [item.name, details]:
            for line in textwrap.wrap(text, max(20, width - len(fixed)), break_on_hyphens=False):
                yield fixed + line
                fixed = " " * len(fixed)


def _date(job: Job) -> str:
    began = datetime.fromtimestamp(job.folder.stat().st_mtime)
    if job.result is not None and job.result.started:
        began = datetime.fromisoformat(job.result.started).astimezone()
    return began.strftime("%Y-%m-%d %H:%M")


def _parsed(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.lower()


def _order(value: float | str) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, value if value == value else -1.0, "")


if __name__ == "__main__":
    main()
