"""The runs of a page, read once: summary, curves, names, numbers and links."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from mnist_mlp.analysis.collect import Job, Summary, display_names, row_label, told_apart_by
from mnist_mlp.runs.curves import Curves, read_curves
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import short_values, value_text

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
        return len(told_apart_by(self.summary)) > MANY_KEYS and len(self.summary.rows) > 1

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
