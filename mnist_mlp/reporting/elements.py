"""What a report page is made of: sections of sentences, tables and pictures. How they look is the template's."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Picture:
    """An image that travels inside the page. alt says what it shows; half: two of them stand side by side."""

    content: bytes
    alt: str
    half: bool = False
    kind: Literal["png", "svg+xml"] = "svg+xml"

    @property
    def source(self) -> str:
        """A data: address."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Table:
    """Rows of text. marks: what is special about a row ("best", "bad" or ""), one per row; numeric: right-aligned."""

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
    """A heading with what belongs under it, in this order: sentences, table, text as it is, pictures, closing notes."""

    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    text: str = ""
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    folded: dict[str, Table] = field(default_factory=dict)
    """Tables behind a line to click on."""
