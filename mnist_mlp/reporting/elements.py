"""The elements of a page: sections of sentences, tables, pictures and markup. The template decides how they look."""

import base64
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from markupsafe import Markup

from mnist_mlp.compare.collect import Job
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import RunFolder

NOT_REPEATED = ("name", "resume", "data.root")
"""Overrides that say where a run is, not what it is."""


def command(job: Job) -> str:
    """The command line of a run, without what says where it was; empty where that is not known."""
    given = _given(job)
    if given is None:
        return ""
    kept = decisive(given)
    threads = job.settings.get("trainer.threads")
    if job.result is not None and threads and "trainer.threads" not in kept:  # a sweep gives it to its jobs
        kept["trainer.threads"] = f"trainer.threads={threads}"
    if job.result is not None and job.result.data["source"] == "sample":  # elsewhere, auto may find MNIST
        kept["data.source"] = "data.source=sample"
    return " ".join(map(shlex.quote, ["python", "-m", "mnist_mlp.train", *kept.values()]))


def decisive(given: Sequence[str]) -> dict[str, str]:
    """The overrides that say what a run is, by key."""
    keys = {override.lstrip("+~").partition("=")[0]: override for override in given}
    return {
        key: text
        for key, text in keys.items()
        if key not in NOT_REPEATED and (key == "hydra.searchpath" or not key.startswith("hydra."))
    }


def _given(job: Job) -> list[str] | None:
    if job.result is not None:
        return job.result.overrides
    folder = RunFolder(job.folder)
    try:
        found = folder.run() or folder.failure()
    except UnreadableFileError:
        return None
    return None if found is None else [str(one) for one in found["overrides"]]


NAME, WORDS, LONG = 18, 30, 70
"""A column with a cell of more letters than these is a name, words, or long."""


@dataclass(frozen=True)
class Picture:
    """An image embedded in the page. alt: what it shows; half: at half width, two side by side."""

    content: bytes
    alt: str
    half: bool = False
    kind: Literal["png", "svg+xml"] = "svg+xml"

    @property
    def source(self) -> str:
        """A data: URL."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text.

    full: shown on hover; link: an address relative to the page; code: a command to copy; order: what the column is
    sorted by, where that is not the text; heat: 0 to 1, how deep the cell is coloured.
    """

    text: str
    full: str = ""
    link: str = ""
    code: bool = False
    order: float | None = None
    heat: float | None = None

    def __len__(self) -> int:
        return len(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    marks: "best", "bad" or "" for each row; numeric: the columns to align right; hints: full names of the columns;
    runs: the ids of the runs behind each row, which light up with it; tools: to be sorted, filtered and copied; hidden:
    columns that are shown when asked for.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    marks: Sequence[str] = ()
    numeric: frozenset[int] = frozenset()
    hints: Sequence[str] = ()
    runs: Sequence[Sequence[int]] = ()
    tools: bool = False
    hidden: frozenset[int] = frozenset()
    caption: str = ""
    prose: bool = False
    """Cells are sentences: in a narrow window they stand below one another."""

    @cached_property
    def kinds(self) -> list[str]:
        """Of each column: number, code (a command), path (a link), told (a setting, as in the row's name), name (the
        first, if it takes room), words (to be broken into a few lines), long (sentences), or none."""
        return [self._kind(place) for place in range(len(self.header))]

    def _kind(self, place: int) -> str:
        cells = [row[place] for row in self.rows]
        if any(isinstance(cell, Cell) and cell.code for cell in cells):
            return "code"
        if any(isinstance(cell, Cell) and cell.link for cell in cells):
            return "path"
        if place in self.numeric:
            return "number"
        if self.hints and self.hints[place]:
            return "told"
        longest = max(map(len, cells), default=0)
        if place == 0:
            return "name" if longest > NAME else ""
        return "long" if longest > LONG else "words" if longest > WORDS else ""

    @property
    def lines(self) -> list[tuple[str, Sequence[int], list[Cell]]]:
        """Mark, runs and cells of each row."""
        marks, runs = self.marks or [""] * len(self.rows), self.runs or [()] * len(self.rows)
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
        return list(zip(marks, runs, cells, strict=True))


@dataclass(frozen=True)
class Chart:
    """A chart that the script `kind` draws from the page's data. fallback: what is shown where scripts are off."""

    kind: str
    label: str
    fallback: Picture | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what follows it, in this order: sentences, markup, chart, table, text, pictures, notes."""

    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    text: str = ""
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    folded: dict[str, Table] = field(default_factory=dict)
    """Tables that open with a click, by their captions."""
    chart: Chart | None = None
    markup: Markup = Markup("")
    """HTML of our own making; text of a run folder in it has to be escaped (`Markup.format` does)."""
    styles: Sequence[str] = ()
    scripts: Sequence[str] = ()
    """Files of templates/ that the page needs for this section, each included once."""
    libraries: Sequence[str] = ()
    """Names of files of templates/vendor/, likewise."""
