"""A terminal emulated by pyte, to which a program writes; it can be resized."""

import io

import pyte


class Terminal(io.StringIO):
    """Displays output on `screen` and keeps lines that scroll out."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self._emulator = pyte.Stream(self.screen)
        self.written: list[str] = []

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written.append(text)
        self._emulator.feed(text.replace("\n", "\r\n"))  # as terminal drivers do
        return len(text)

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def lines(self) -> list[str]:
        """Lines on the screen, without trailing empty lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n").split("\n")

    def all_lines(self) -> list[str]:
        """Lines that scrolled out, followed by those on the screen."""
        above = ["".join(line[n].data for n in sorted(line)).rstrip() for line in self.screen.history.top]
        return [*above, *self.lines()]
