"""The last lines of a terminal, redrawn in place, while what else is printed goes above them."""

import io
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from mnist_mlp.terminal import cells, plain

BEGIN, END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"
"""Around a frame: the terminal shows it at once, with the cursor hidden."""
CLEAR_LINE, CLEAR_BELOW = "\x1b[K", "\x1b[J"


class Region:
    """Lines that stay at the bottom; they and the lines above come out in one write, over what was there.

    Rich's own Live takes the lines to be as wide as they were written: where a window is made narrower, it leaves
    pieces of them behind. Here they are counted as the terminal has wrapped them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._widths: list[int] = []
        self._frame: tuple[object, ...] = ()
        self._streams: tuple[TextIO, TextIO] | None = None

    def draw(self, lines: Sequence[str], columns: int, rows: int, above: Sequence[str] = ()) -> None:
        """Show these lines, of at most `columns` - 1 cells, on a terminal of so many columns and rows."""
        frame = (*lines, columns, rows)
        if frame == self._frame and not above:
            return
        text = "".join(f"{line}{CLEAR_LINE}\n" for line in (*above, *lines))
        self._stream.write(f"{BEGIN}{self._to_start(columns, rows)}{text}{CLEAR_BELOW}{END}")
        self._stream.flush()
        self._frame, self._widths = frame, [cells(line) for line in lines]

    def clear(self, columns: int, rows: int) -> None:
        """Remove the lines."""
        self.draw((), columns, rows)

    def _to_start(self, columns: int, rows: int) -> str:
        """From the line below the region to its first."""
        up = min(rows - 1, sum(max(1, -(-width // columns)) for width in self._widths))
        return f"\x1b[{up}A\r" if up > 0 else "\r"

    def take_output(self, show: Callable[[list[str]], None]) -> None:
        """Until `give_back_output`, let what this process prints be shown by this function, whole lines at once."""
        self._streams = (sys.stdout, sys.stderr)
        sys.stdout, sys.stderr = _Lines(show), _Lines(show)

    def give_back_output(self) -> None:
        """Undo `take_output`."""
        if self._streams is not None:
            sys.stdout, sys.stderr = self._streams
            self._streams = None


class _Lines(io.TextIOBase):
    """A stream that hands on whole lines; what a line overwrites (a passing line) is dropped."""

    def __init__(self, show: Callable[[list[str]], None]) -> None:
        self._show, self._rest = show, ""

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        if whole:
            self._show([plain(line.rpartition("\r")[2]) for line in whole])
        return len(text)

    def writable(self) -> bool:
        return True
