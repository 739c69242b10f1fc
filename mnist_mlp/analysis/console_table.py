"""The comparison as a table for a terminal: what does not fit its width is left out by rule; the files have it all."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mnist_mlp.analysis.collect import Summary, row_label
from mnist_mlp.analysis.summary import OVER_IMAGES, OVER_SEEDS, reading_note, shown_cells
from mnist_mlp.terminal import cells, columns, mark, shortened

BRIEF = "verdict"
STEPS = ("parameters", "loss", "F1", BRIEF, OVER_SEEDS, "fit s", OVER_IMAGES, "n", "status")
"""Columns that go, one after the other, until the rest fits; the verdict becomes brief instead. What varies and the
accuracies stay."""
FIGURES = ("val acc %", "test acc %", OVER_SEEDS, OVER_IMAGES)
NARROWEST = 6
"""Cells down to which a text is shortened, where what must stay does not fit."""
MOST_ROWS = 40
MOST_REASONS = 5
FINISHED = re.compile(r"(, )?(\d+ )?\bfinished\b(, )?")
FURTHER_WORDS = re.compile(r" \(.*\)| (from|than) the best")


@dataclass
class _Column:
    name: str
    texts: list[str]

    @property
    def width(self) -> int:
        return max(map(cells, (self.name, *self.texts)))

    def line(self, place: int | None) -> str:
        text = self.name if place is None else self.texts[place]
        return text + " " * (self.width - cells(text))


def as_text(summary: Summary, width: int | None = None) -> str:
    """Table, reasons of failures and how to read it, in lines shorter than `width`, by default the terminal's."""
    room = (columns() if width is None else width) - 1
    shown, left_out = _fitting(summary, room)
    count = min(len(summary.rows), MOST_ROWS)
    lines = ["  ".join(column.line(place) for column in shown).rstrip() for place in (None, *range(count))]
    if count < len(summary.rows):
        lines.append(f"... and {len(summary.rows) - count} more rows, in summary.csv")
    lines += [part for line in _reasons(summary) for part in _filled(line, room)]
    return "\n".join([*lines, *_filled(_note(summary, shown, left_out), room)])


def _fitting(summary: Summary, room: int) -> tuple[list[_Column], list[str]]:
    """The columns to show, and the names of those that were left out for want of room."""
    header, rows = shown_cells(summary)
    rows = rows[:MOST_ROWS]
    table = [_Column(name, [row[place] for row in rows]) for place, name in enumerate(header)]
    for column in table:
        if column.name == "status":
            # reasons are below the table, and that runs are finished goes without saying
            column.texts = [FINISHED.sub("", row.status) for row in summary.rows[:MOST_ROWS]]
    shown = [column for column in table if column.name == "" or not set(column.texts) <= {"", "-"}]
    left_out = []
    for name in STEPS:
        found = next((column for column in shown if column.name == name), None)
        if found is None or _width(shown) <= room:
            continue
        if name == BRIEF:
            found.texts = [FURTHER_WORDS.sub("", text) for text in found.texts]
        else:
            shown.remove(found)
            left_out.append(name)
    left = mark()
    while _width(shown) > room:
        widest = max((one for one in shown if one.name not in FIGURES), key=lambda one: one.width)
        smaller = widest.width - 1
        if smaller < NARROWEST:
            break
        widest.name = shortened(widest.name, smaller, left)
        widest.texts = [shortened(text, smaller, left) for text in widest.texts]
    return shown, left_out


def _width(shown: Sequence[_Column]) -> int:
    return sum(column.width for column in shown) + 2 * (len(shown) - 1)


def _reasons(summary: Summary) -> Iterator[str]:
    """Why runs failed or cannot be read: each reason once, with the first row that has it."""
    found: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.reasons:
            found.setdefault(row.reasons, []).append(row_label(summary, row) or row.status)
    for reason, rows in list(found.items())[:MOST_REASONS]:
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield f"{rows[0]}{more}: {textwrap.shorten(reason, 300, placeholder=' ...')}"
    if len(found) > MOST_REASONS:
        yield f"... and {len(found) - MOST_REASONS} more reasons, in summary.csv"


def _note(summary: Summary, shown: Sequence[_Column], left_out: Sequence[str]) -> str:
    names = {column.name for column in shown}
    intervals = not {OVER_SEEDS, OVER_IMAGES}.isdisjoint(names)
    note = reading_note(summary, intervals)
    return f"{note} Left out here, but in summary.csv: {', '.join(left_out)}." if left_out else note


def _filled(text: str, room: int) -> list[str]:
    return textwrap.wrap(text, max(20, room), break_on_hyphens=False, subsequent_indent="  ")
