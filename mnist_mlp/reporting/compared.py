"""The runs of a page, read once: summary, curves, names, numbers and links."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_mlp.analysis.collect import Job, Row, Summary, row_label, told_apart_by
from mnist_mlp.runs.curves import Curves, read_curves
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import value_text

LONGEST_NUMBER = 8
"""Characters; settings with more are shown with four significant digits, and in full on hover."""
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
    def run_ids(self) -> list[list[int]]:
        """For each row of the summary the ids of its runs."""
        ids = iter(range(len(self.jobs)))
        return [[next(ids) for _ in row.jobs] for row in self.summary.rows]

    @cached_property
    def group_names(self) -> list[str]:
        """A name for each row, by what tells the rows apart; all of them differ."""
        names = [_group_name(self.summary, row) for row in self.summary.rows]
        many = len(told_apart_by(self.summary)) > MANY_KEYS
        return [
            f"#{rank} {name}" if many or names.count(name) > 1 else name for rank, name in enumerate(names, 1)
        ]  # fmt: skip

    @cached_property
    def run_names(self) -> list[str]:
        """A name for each run, by what varies; all of them differ."""
        names = list(self._run_names())
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        return [
            f"{name} ({job.folder.name})" if name in twice else name for name, job in zip(names, self.jobs, strict=True)
        ]

    def _run_names(self) -> Iterator[str]:
        for group, row in zip(self.group_names, self.summary.rows, strict=True):
            for job in row.jobs:
                told = [group] if group and job.settings else []
                if self.summary.over_seeds and job.settings:
                    told.append(f"seed={job.settings.get('seed')}")
                yield ", ".join(told) or job.folder.name

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


def shown_value(value: Any) -> str:
    """A setting short enough for a table or a legend: long fractions with four significant digits."""
    if isinstance(value, float) and len(str(value)) > LONGEST_NUMBER:
        return f"{value:.4g}"
    return value_text(value)


def _group_name(summary: Summary, row: Row) -> str:
    label = row_label(summary, row)
    if "=" not in label:  # the published result that it repeats, or nothing
        return label
    return ", ".join(f"{name}={shown_value(row.settings[key])}" for key, name in told_apart_by(summary).items())


def is_continuous(values: Sequence[Any]) -> bool:
    """Whether the values of a setting are numbers that hardly ever repeat, as in a search."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return len(numbers) == len(values) > 0 and len(set(numbers)) > max(8, len(numbers) // 3)
