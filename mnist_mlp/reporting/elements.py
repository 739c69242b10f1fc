"""The elements of a page: sections of sentences, tables and pictures. The template decides how they look."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup


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
class Table:
    """Rows of text. marks: "best", "bad" or "" for each row; numeric: the columns to align right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Sequence[str] = ()
    numeric: frozenset[int] = frozenset()

    @property
    def marked_rows(self) -> list[tuple[str, Sequence[str]]]:
        marks = self.marks or [""] * len(self.rows)
        return list(zip(marks, self.rows, strict=True))


@dataclass(frozen=True)
class Section:
    """A heading and what follows it, in this order: sentences, table, text, markup, pictures, notes."""

    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    text: str = ""
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    folded: dict[str, Table] = field(default_factory=dict)
    """Tables that open with a click, by their captions."""
    markup: Markup = Markup()
    """HTML of our own making; text of a run folder in it has to be escaped (`Markup.format` does)."""
    styles: Sequence[str] = ()
    scripts: Sequence[str] = ()
    """Files of templates/ that the page needs for this section, each included once."""
