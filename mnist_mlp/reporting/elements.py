"""The elements of a page: sections of sentences, tables, pictures and markup. The template decides how they look."""

import base64
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from markupsafe import Markup

from mnist_mlp.compare.collect import Job
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import RunFolder

NOT_REPEATED = ("name", "resume", "data.root")
"""Overrides that say where a run is, not what it is."""
NAME, WORDS, LONG = 18, 30, 70
"""A column with a cell of more characters than these is a name, words, or long."""


def command(job: Job) -> str:
    """The command line that repeats a run, without what says where it was; empty if none can."""
    folder, result = RunFolder(job.folder), job.result
    if job.settings.get("model.network") or job.settings.get("data.source") == "arrays":  # of a user's own script
        return ""
    try:
        run = (folder.run() or folder.failure()) if result is None else {"overrides": result.overrides}
    except UnreadableFileError:
        return ""
    if run is None:
        return ""
    kept = decisive([str(override) for override in run["overrides"]])
    threads = job.settings.get("trainer.threads")
    if result is not None and threads and "trainer.threads" not in kept:  # a sweep sets it for its jobs
        kept["trainer.threads"] = f"trainer.threads={threads}"
    if result is not None and result.data["source"] == "sample":  # elsewhere, auto may find MNIST
        kept["data.source"] = "data.source=sample"
    return " ".join(map(shlex.quote, ["python", "-m", "mnist_mlp.train", *kept.values()]))


def decisive(overrides: Sequence[str]) -> dict[str, str]:
    """The overrides that say what a run is, by key."""
    keys = {override.lstrip("+~").partition("=")[0]: override for override in overrides}
    return {
        key: text
        for key, text in keys.items()
        if key not in NOT_REPEATED and (key == "hydra.searchpath" or not key.startswith("hydra."))
    }


@dataclass(frozen=True)
class Picture:
    """An SVG image embedded in the page. alt: what it shows."""

    content: bytes
    alt: str

    @property
    def source(self) -> str:
        """A data: URL."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text.

    full: shown on hover; link: an address relative to the page; code: a command to copy; order: what the column is
    sorted by instead of the text; heat: 0 to 1, how deep the cell is colored.
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
    columns that are shown on demand; prose: cells are sentences, which stand below one another in a narrow window.
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

    @cached_property
    def kinds(self) -> list[str]:
        """Of each column: number, code (a command), path (a link), told (a setting, as in the row's name), name (the
        first, if it takes room), words (to be broken into a few lines), long (sentences), or none."""
        return [self._kind(column) for column in range(len(self.header))]

    def _kind(self, column: int) -> str:
        cells = [row[column] for row in self.rows]
        if any(isinstance(cell, Cell) and cell.code for cell in cells):
            return "code"
        if any(isinstance(cell, Cell) and cell.link for cell in cells):
            return "path"
        if column in self.numeric:
            return "number"
        if self.hints and self.hints[column]:
            return "told"
        longest = max(map(len, cells), default=0)
        if column == 0:
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
    """A chart that templates/<kind>.js draws from the page's data. fallback: what is shown without scripts."""

    kind: str
    label: str
    fallback: Picture | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what follows it, in this order: sentences, markup, chart, table, folded tables, picture, notes.

    folded: tables that open with a click, by their captions; markup: HTML of our own making, with text of a run folder
    escaped (`Markup.format` does that); styles, scripts: files of templates/ that the page needs for this section,
    besides those of its chart.
    """

    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    picture: Picture | None = None
    notes: Sequence[str] = ()
    folded: dict[str, Table] = field(default_factory=dict)
    chart: Chart | None = None
    markup: Markup = Markup("")
    styles: Sequence[str] = ()
    scripts: Sequence[str] = ()
