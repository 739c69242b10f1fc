"""What a run prints while it trains: a line per epoch and, on a terminal, one that passes within the epoch."""

import statistics
import time
from collections.abc import Mapping

from mnist_mlp.terminal import bar, columns, is_unicode, redraws, shortened, styled

PASSING_SECONDS = 0.2
BAR = 30
"""Most cells of the bar."""
CLEAR = "\r\x1b[2K"
"""Erases the line on a terminal."""


class RunProgress:
    """Prints a run's epochs. place: names a job of a sweep, which has no lines but, on a terminal, the passing one.

    ends_early: a run may stop before its last epoch, so that the time left is the longest.
    """

    def __init__(self, shown: bool, place: str | None = None) -> None:
        self.ends_early = False
        self._place = place
        self._lines = shown and place is None
        self._passing = shown and redraws()
        self._printed = 0.0
        self._compiles = False
        self._seconds: list[float] = []

    def begin(self, validates: bool) -> None:
        """Print the heads of the columns."""
        if self._lines:
            val = f"{'val loss':>10} {'val acc':>9}" if validates else ""
            print(f"{'epoch':>9} {'train loss':>11} {'train acc':>10} {val} {'lr':>9} {'time':>8}", flush=True)

    def compiling(self) -> None:
        """Say that the wait for the compiler begins."""
        if self._lines:
            self._compiles = True
            print("compiling the step ...", end="", flush=True)

    def compiled(self, seconds: float) -> None:
        """Say that it has ended."""
        if self._compiles:
            self._compiles = False
            print(f" {seconds:.1f} s; kept for later runs", flush=True)

    def within(self, epoch: int, max_epochs: int, part: float, elapsed: float) -> None:
        """Show how far an epoch (from 1) is: the part of it that is done, in (0, 1], and the seconds since it began."""
        now = time.perf_counter()
        if not self._passing or now - self._printed < PASSING_SECONDS:
            return
        self._printed = now
        each = statistics.median(self._seconds) if self._seconds else elapsed / part
        left = max(0.0, each - elapsed) + each * (max_epochs - epoch)
        words = f"{100 * part:3.0f} %, {'at most' if self.ends_early else 'about'} {_clock(left)} left"
        start = f"{epoch:>4}/{max_epochs:<4} "
        room = columns() - 1
        if self._place is not None:
            shown = shortened(self._place, max(0, room - len(start) - len(words) - 1), "…" if is_unicode() else "...")
            print(f"{CLEAR}{f'{shown}{start}{words}'[:room]}", end="", flush=True)
            return
        cells = min(BAR, room - len(start) - len(words) - 2)
        line = f"{start}{words}"[:room] if cells < 5 else f"{start}{bar(part, cells)}  {words}"
        print(f"{CLEAR}{line}", end="", flush=True)

    def epoch(self, row: Mapping[str, float], max_epochs: int, best: bool, seconds: float) -> None:
        """Print an epoch, marked where it is the best on validation so far. row: of metrics.csv; seconds: all of it."""
        self._seconds.append(seconds)
        if not self._lines:
            return
        val = f"{row['val/loss']:10.4f} {100 * row['val/accuracy']:7.2f} %" if "val/loss" in row else ""
        print(
            f"{CLEAR if self._passing else ''}{row['epoch']:>4.0f}/{max_epochs:<4} {row['train/loss']:11.4f} "
            f"{100 * row['train/accuracy']:8.2f} % {val} {row['lr']:9.3g} {seconds:6.1f} s"
            f"{' ' + styled('best', 'green') if best else ''}",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
