"""Elements of a page: sections of text, tables, pictures and markup; the template renders them."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mnist_mlp.compare.load import Job
from mnist_mlp.console import shell_quoted
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import RunFolder

OMITTED_KEYS = ("name", "resume", "data.root")
"""Overrides that affect the location of a run, not its result."""
NAME_LENGTH, WORDS_LENGTH, LONG_LENGTH = 18, 30, 70
"""A column whose longest cell exceeds these numbers of characters is of kind name, words or long."""


def command(job: Job) -> str:
    """The command line that reproduces a run, without its location; empty if no command can."""
    folder, result = RunFolder(job.folder), job.result
    if job.settings.get("model.network") or job.settings.get("data.source") == "arrays":  # from a user's own script
        return ""
    try:
        run = (folder.run() or folder.failure()) if result is None else {"overrides": result.overrides}
    except UnreadableFileError:
        return ""
    if run is None:
        return ""
    kept = result_overrides([str(override) for override in run["overrides"]], job.settings.get("model.hidden_layers"))
    threads = job.settings.get("trainer.threads")
    if result is not None and threads and "trainer.threads" not in kept:  # set by a sweep for its jobs
        kept["trainer.threads"] = f"trainer.threads={threads}"
    if result is not None and result.data["source"] == "sample":  # on another machine, auto may find MNIST
        kept["data.source"] = "data.source=sample"
    return " ".join(map(shell_quoted, ["python", "-m", "mnist_mlp.train", *kept.values()]))


def result_overrides(overrides: Sequence[str], layers: int | None) -> dict[str, str]:
    """The overrides that affect the result of a run with so many hidden layers, by key."""
    keys = {override.lstrip("+~").partition("=")[0]: override for override in overrides}
    if layers != 1 and "model.hidden_layers" not in keys and "model.hidden_units" in keys:
        # in earlier versions, [64] was the width of all layers
        keys["model.hidden_units"] = re.sub(r"=\[(\d+)\]$", r"=\1", keys["model.hidden_units"])
    return {
        key: text
        for key, text in keys.items()
        if key not in OMITTED_KEYS and (key == "hydra.searchpath" or not key.startswith("hydra."))
    }


def render(template: str, **values: object) -> Markup:
    """Render an HTML template, with texts escaped."""
    environment = Environment(
        loader=PackageLoader("mnist_mlp.reporting"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=select_autoescape(),
    )  # fmt: skip
    return Markup(environment.get_template(template).render(values))


@dataclass(frozen=True)
class Picture:
    """An SVG image embedded in the page, with its alt text."""

    content: bytes
    alt: str

    @property
    def source(self) -> str:
        """The image as a data: URL."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Cell:
    """A table cell with more than its text.

    full: tooltip; link: URL relative to the page; code: whether the text is a command to copy; order: sort key, if
    not the text; heat: color intensity from 0 to 1.
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
    """A table of text cells.

    marks: "best", "bad" or "" per row; numeric: right-aligned columns; hints: tooltip per column; runs: ids of the
    runs behind each row, selected together with it; tools: whether readers can sort, filter and copy the table;
    hidden: columns hidden at first; prose: whether cells hold sentences, which are stacked in narrow windows.
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
        """CSS class per column: number, code, path, setting, name, words, long or ""."""
        return [self._column_kind(column) for column in range(len(self.header))]

    def _column_kind(self, column: int) -> str:
        cells = [row[column] for row in self.rows]
        if any(isinstance(cell, Cell) and cell.code for cell in cells):
            return "code"
        if any(isinstance(cell, Cell) and cell.link for cell in cells):
            return "path"
        if column in self.numeric:
            return "number"
        if self.hints and self.hints[column]:
            return "setting"
        longest = max(map(len, cells), default=0)
        if column == 0:
            return "name" if longest > NAME_LENGTH else ""
        return "long" if longest > LONG_LENGTH else "words" if longest > WORDS_LENGTH else ""

    @property
    def lines(self) -> list[tuple[str, Sequence[int], list[Cell]]]:
        """Mark, run ids and cells of each row."""
        marks, runs = self.marks or [""] * len(self.rows), self.runs or [()] * len(self.rows)
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
        return list(zip(marks, runs, cells, strict=True))


@dataclass(frozen=True)
class Chart:
    """A chart drawn by templates/<kind>.js from the page's data. fallback: shown without JavaScript."""

    kind: str
    label: str
    fallback: Picture | None = None


@dataclass(frozen=True)
class Section:
    """A heading followed by sentences, markup, chart, table, collapsed tables, picture and notes, in this order.

    folded: collapsed tables by caption; markup: trusted HTML in which text from run folders is escaped (by
    `Markup.format`); styles, scripts: files in templates/ that this section needs in addition to those of its chart;
    group: consecutive sections with the same name here are the tabs of one list with that name.
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
    group: str = ""
