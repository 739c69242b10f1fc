"""A terminal made of pyte, the emulator, into which a program writes; its size can be changed."""

import io

import pyte


class Terminal(io.StringIO):
    """What is written shows on `screen`; lines that scroll out of it are kept."""

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
        self._emulator.feed(text.replace("\n", "\r\n"))  # as a terminal's driver does
        return len(text)

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def lines(self) -> list[str]:
        """What is on the screen, without empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n").split("\n")

    def all_lines(self) -> list[str]:
        """What scrolled out, and what is on the screen."""
        above = ["".join(line[n].data for n in sorted(line)).rstrip() for line in self.screen.history.top]
        return [*above, *self.lines()]
