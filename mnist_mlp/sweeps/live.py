"""What a person sees of a sweep that runs: on a terminal one view of all of it, elsewhere a line per job."""

import io
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

from mnist_mlp.console import cells, cropped, mark, plain, redraws, shortened
from mnist_mlp.runs.result import percent
from mnist_mlp.sweeps.progress import PlainProgress, RunningJob, SweepProgress, SweepState, clock, label

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress_bar import ProgressBar


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


REDRAW_SECONDS = 0.25
BAR = 16
"""Cells of a job's bar; the sweep's is three times as wide."""
MOST_FAILURES = 3
NARROWEST, LOWEST = 30, 4
"""Columns and rows below which lines are printed instead."""


def sweep_progress(sweep: Path, jobs: Sequence[str], began: float) -> SweepProgress:
    """A live view where stdout is a terminal that can redraw its lines, else plain lines.

    jobs: the names of all jobs, as far as they are known. began: when the sweep began (time.time()).
    """
    if redraws():
        return LiveProgress(sweep, jobs, began, sys.stdout)
    return PlainProgress(len(jobs), began)


class LiveProgress:
    """Draws the state of the sweep at the bottom of the terminal; the jobs that ended stand above, a line each."""

    def __init__(
        self,
        sweep: Path,
        jobs: Sequence[str],
        began: float,
        stream: TextIO,
        size: Callable[[], tuple[int, int]] = get_terminal_size,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from rich.console import Console  # deferred: elsewhere it is not needed

        self._state, self._size, self._clock = SweepState(sweep, jobs, began, clock), size, clock
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)
        self._region = Region(stream)
        self._above: list[str] = []
        self._shown: object = None
        self._asked = 0.0
        self._lock = threading.RLock()
        self._closed = False
        self._region.take_output(self._print_above)

    def started(self, job_name: str, number: int) -> None:
        """A job has begun."""
        self._state.started(job_name, number)
        self._draw()

    def ended(self, job_name: str, number: int, line: str, failed: bool) -> None:
        """A job has ended. line: what is said of it."""
        self._state.ended(job_name, failed, line)
        before, _, after = plain(line).partition(job_name)
        if not after:  # it says nothing of the name
            before, after = "", f": {plain(line)}"
        shown = self._named(before, job_name, after, self._size()[0] - 1)
        style = "red" if failed else "yellow" if "DIVERGED" in after else ""
        self._above.append(self._styled(shown, style))
        self._draw()

    def tick(self) -> None:
        """Show what is new; called more often, it does nothing."""
        now = self._clock()
        if now - self._asked >= REDRAW_SECONDS:
            self._asked = now
            changed = self._state.read()
            if changed or (int(now), self._size()) != self._shown:
                self._draw()

    def close(self) -> None:
        """Remove the view; the lines of the jobs stay. Without it, what is printed next would be lost."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._region.give_back_output()
                self._region.draw((), *self._size(), self._take_above())

    def _draw(self) -> None:
        with self._lock:
            if not self._closed:
                columns, rows = size = self._size()
                self._shown = (int(self._clock()), size)
                self._region.draw(self._lines(columns - 1, rows - 1), columns, rows, self._take_above())

    def _print_above(self, lines: list[str]) -> None:
        with self._lock:
            self._above += lines
            self._draw()

    def _take_above(self) -> list[str]:
        taken = list(self._above)
        self._above.clear()
        return taken

    def _lines(self, width: int, height: int) -> list[str]:
        """The view in so many cells and rows. Where it does not fit, failures go first, then the best, then jobs."""
        if width < NARROWEST or height < LOWEST:
            return [shortened(self._counts(), width, self._mark)][: max(0, height)]
        space = [""] if height >= 3 * LOWEST else []
        head = [*space, self._text(self._head(width)), self._styled(shortened(self._time(), width, self._mark), "dim")]
        foot = [self._text(line) for line in self._foot(width)]
        jobs = list(self._state.running.values())
        # at least one line of jobs, then as much of the foot as there is room for, then the other jobs
        foot = foot[: max(0, height - len(head) - min(1, len(jobs)))]
        room = height - len(head) - len(foot)
        if len(jobs) > room:
            shown, more = jobs[: room - 1], [self._styled(f"  and {len(jobs) - room + 1} more run", "dim")]
        else:
            shown, more = jobs, []
        return [*head, *self._text(self._table(shown, width)).splitlines(), *more, *foot]

    def _head(self, width: int) -> "RenderableType":
        from rich.table import Table

        state, counts = self._state, self._counts()
        done = state.done + len(state.failures) + sum(job.part for job in state.running.values())
        room = width - cells(counts) - 2
        line = Table.grid(padding=(0, 2, 0, 0))
        if room < BAR:
            line.add_row(shortened(counts, width, self._mark))
        else:
            bar = _bar(done, state.total, min(3 * BAR, room))
            line.add_row(bar, self._rich(counts, "bold red" if state.failures else "bold"))
        return line

    def _counts(self) -> str:
        state = self._state
        failed = f", {len(state.failures)} failed" if state.failures else ""
        now = f"{len(state.running)} running" if state.begun else "starting"
        return f"{state.done} of {state.total} done, {now}{failed}"

    def _time(self) -> str:
        left = self._state.seconds_left()
        words = f"{about(left)} left" if left is not None else "time left: not known before an epoch has ended"
        return f"{clock(self._clock() - self._state.began)} elapsed, {words}"

    def _table(self, jobs: Sequence[RunningJob], width: int) -> "RenderableType":
        from rich.table import Table

        bars = width >= 60
        table = Table.grid(padding=(0, 2, 0, 0))
        rows = []
        for job in jobs:
            epochs = f"epoch {job.epochs}/{job.max_epochs}" if job.max_epochs else "starting"
            accuracy = percent(job.accuracy) if job.accuracy is not None else ""
            bar = [_bar(job.epochs, job.max_epochs or 1, BAR)] if bars else []
            rows.append((job.name, epochs, bar, accuracy))
        others = max((len(epochs) + len(accuracy) for _, epochs, _, accuracy in rows), default=0)
        room = max(8, width - others - (BAR + 2 if bars else 0) - 6)
        for name, epochs, bar, accuracy in rows:
            table.add_row(f"  {self._name(name, room - 2)}", epochs, *bar, accuracy)
        return table

    def _foot(self, width: int) -> Iterator["RenderableType"]:
        state = self._state
        if (best := state.best) is not None:
            mean = f" (mean of {best.count})" if best.count > 1 else ""
            figure = f"{best.split} {percent(best.accuracy)}{mean}"
            room = width - len(f"best    : {figure}")
            name = shortened(label("", best.settings, room), room, self._mark)
            yield self._rich(f"best    {f'{name}: ' if name else ''}{figure}", "green")
        reasons: dict[str, list[str]] = {}
        for name, reason in reversed(state.failures):
            reasons.setdefault(reason, []).append(name)
        for reason, names in list(reasons.items())[:MOST_FAILURES]:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield self._rich(self._named("failed  ", names[0], f"{more}: {reason}", width), "red")

    def _name(self, name: str, room: int) -> str:
        return shortened(self._state.label(name, room), room, self._mark)

    def _named(self, before: str, name: str, after: str, width: int) -> str:
        """The three in a line: the name is shortened, down to a third of the line, then `after` loses its end."""
        line = f"{before}{self._name(name, max(width // 3, width - cells(before) - cells(after)))}{after}"
        return line if cells(line) <= width else f"{cropped(line, width - cells(self._mark))}{self._mark}"

    @property
    def _mark(self) -> str:
        return mark(self._console.file)

    def _rich(self, text: str, style: str) -> "RenderableType":
        from rich.text import Text

        return Text(text, style=style, no_wrap=True, overflow="crop")

    def _styled(self, text: str, style: str) -> str:
        return self._text(self._rich(text, style))

    def _text(self, renderable: Any) -> str:
        """As it is printed, in colour where the terminal has any and NO_COLOR is not set."""
        with self._console.capture() as printed:
            self._console.print(renderable, crop=True, no_wrap=True, width=self._size()[0])
        return printed.get().rstrip("\n")


def _bar(done: float, total: int, width: int) -> "ProgressBar":
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=max(1, total), completed=done, width=width, complete_style="cyan", finished_style="green")


def about(seconds: float) -> str:
    """As exact as an estimate can be."""
    minutes = seconds / 60
    if minutes < 1:
        return f"about {max(1, math.ceil(seconds / 10)) * 10} s"
    if minutes < 60:
        return f"about {round(minutes)} min"
    hours, rest = divmod(round(minutes / 5) * 5, 60)
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"
