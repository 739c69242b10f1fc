"""Progress of a sweep: a live view on a terminal, elsewhere a line per job."""

import heapq
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mnist_mlp.console import cells, mark, plain, redraws, shortened
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.result import percent
from mnist_mlp.runs.settings import short_names
from mnist_mlp.sweeps.jobs import Job, JobEnd, modified

if TYPE_CHECKING:
    from rich.console import Console, Group

BAR, SWEEP_BAR = 16, 48
"""Maximum width of a job's bar and of the sweep's, in cells."""
MAX_FAILURES = 3
REDRAW_SECONDS = 0.5


def varying(overrides: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The settings in which jobs differ, as values by short key, by the jobs' names."""
    jobs = {
        name: dict(text.lstrip("+~").split("=", 1) for text in texts if "=" in text)
        for name, texts in overrides.items()
    }
    keys = dict.fromkeys(key for settings in jobs.values() for key in settings)
    short = short_names([key for key in keys if len({settings.get(key) for settings in jobs.values()}) > 1])
    return {
        name: {short[key]: value.strip("[]").replace(",", "-") for key, value in settings.items() if key in short}
        for name, settings in jobs.items()
    }


def label(name: str, settings: Mapping[str, str]) -> str:
    """The settings in words, "lr 0.05, seed 0"; the folder's name if there are none."""
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or name


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, or hours too."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def about(seconds: float) -> str:
    """A duration as precise as an estimate can be."""
    minutes = seconds / 60
    if minutes < 1:
        return f"about {max(1, math.ceil(seconds / 10)) * 10} s"
    if minutes < 60:
        return f"about {round(minutes)} min"
    hours, rest = divmod(round(minutes / 5) * 5, 60)
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"


def elapsed_text(began: float, left: float | None) -> str:
    """The time since a sweep began, and the time left if it is known."""
    return f"{clock(time.time() - began)} elapsed{f', {about(left)} left' if left else ''}"


def time_left(typical: float, running: Sequence[float], waiting: int, at_once: int) -> float:
    """Seconds until the last job ends.

    Args:
        typical: Seconds that a job takes.
        running: Seconds that each running job still takes.
        waiting: Number of jobs that have not begun.
        at_once: How many run at once.
    """
    ends = [*running, *[0.0] * (at_once - len(running))]
    heapq.heapify(ends)
    for _ in range(waiting):
        heapq.heapreplace(ends, ends[0] + typical)
    return max(ends)


@dataclass
class RunningJob:
    """A job in progress. stamp: when its metrics.csv was last written, in nanoseconds; epoch_seconds: of one epoch."""

    job: Job
    began: float
    stamp: int | None
    epochs: int = 0
    epoch_seconds: float = 0.0
    accuracy: float | None = None

    @property
    def max_epochs(self) -> int:
        return self.job.config.trainer.max_epochs if self.job.config else 0

    @property
    def fraction(self) -> float:
        """How much of its training is done."""
        return min(1.0, self.epochs / self.max_epochs) if self.max_epochs else 0.0

    def read(self) -> None:
        """Read what the job has written; an earlier attempt's epochs do not count."""
        stamp = modified(self.job.folder.metrics_file)
        if stamp is None or stamp == self.stamp:
            return
        curves = read_curves(self.job.folder.metrics_file)
        elapsed = curves.get("elapsed_seconds", ())
        accuracy = curves.get("val/accuracy", curves.get("train/accuracy", ()))
        if elapsed and math.isfinite(elapsed[-1]):
            self.epochs, self.epoch_seconds = len(elapsed), elapsed[-1] / len(elapsed)
        self.accuracy = accuracy[-1] if accuracy and math.isfinite(accuracy[-1]) else None
        self.stamp = stamp

    def seconds_left(self) -> float | None:
        """Until the last epoch; None before the first one has ended."""
        if not self.epochs or self.stamp is None:
            return None
        since_epoch = max(0.0, time.time() - self.stamp / 1e9)
        return max(0.0, self.epoch_seconds * (self.max_epochs - self.epochs) - since_epoch)


class SweepProgress:
    """Reports a sweep as it runs: here a line for each job when it ends.

    Args:
        jobs: All jobs, as far as they are known.
        began: When the sweep began, as time.time() has it.
    """

    def __init__(self, jobs: Sequence[Job], began: float) -> None:
        self.began, self.total = began, len(jobs)
        self.done = 0
        self.failures: list[tuple[str, str]] = []
        """Name and reason, the latest last."""
        self.running: dict[int, RunningJob] = {}
        self._settings = varying({job.name: job.overrides for job in jobs})
        self._durations: list[float] = []
        self._at_once = 0

    def started(self, job: Job) -> None:
        """A job has begun; not called for one that was finished before."""
        self.running[job.number] = RunningJob(job, time.time(), modified(job.folder.metrics_file))
        self._at_once = max(self._at_once, len(self.running))

    def ended(self, job: Job, end: JobEnd) -> None:
        """A job has ended."""
        self._count(job, end)
        for running in self.running.values():
            running.read()
        print(f"{end.line}  [{elapsed_text(self.began, self.seconds_left())}]", flush=True)

    def tick(self) -> None:
        """Called at least four times a second."""

    def close(self) -> None:
        """The jobs are done, or the sweep was interrupted."""

    def _count(self, job: Job, end: JobEnd) -> None:
        running = self.running.pop(job.number, None)
        if end.failed:
            self.failures.append((job.name, end.line.partition("FAILED: ")[2]))
            return
        self.done += 1
        if running is not None and not end.reused:
            self._durations.append(time.time() - running.began)

    def seconds_left(self) -> float | None:
        """If the jobs to come take as long as those that ran, as many at once; None while nothing is known.

        Jobs that failed or were finished before do not count. A running one counts with the time of its own epochs.
        """
        now = time.time()
        jobs = [(now - job.began, job.seconds_left()) for job in self.running.values()]
        whole = [*self._durations, *(ran + left for ran, left in jobs if left is not None)]
        if not whole:
            return None
        typical = statistics.fmean(whole)
        running = [max(0.0, typical - ran) if left is None else left for ran, left in jobs]
        waiting = self.total - self.done - len(self.failures) - len(running)
        return time_left(typical, running, waiting, self._at_once)


class LiveProgress(SweepProgress):
    """Draws the state of the sweep at the bottom of the terminal; the jobs that ended stand above, a line each."""

    def __init__(self, jobs: Sequence[Job], began: float, console: "Console") -> None:
        from rich.live import Live  # deferred: elsewhere it is not needed

        super().__init__(jobs, began)
        self._console, self._looked, self._split = console, 0.0, "val"
        self._objectives: dict[str, list[float]] = defaultdict(list)
        """Of finished jobs by their settings without the seed."""
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()
        self._draw()

    def started(self, job: Job) -> None:
        super().started(job)
        self._draw()

    def ended(self, job: Job, end: JobEnd) -> None:
        self._count(job, end)
        if end.objective is not None and math.isfinite(end.objective):
            settings = {key: value for key, value in self._settings.get(job.name, {}).items() if key != "seed"}
            self._objectives[label("", settings)].append(end.objective)
            self._split = "val" if job.config is None or job.config.data.val_size else "train"
        line, width = plain(end.line), self._console.width
        named = line.replace(job.name, self._label(job.name, max(width // 3, width - cells(line) + cells(job.name))), 1)
        style = "red" if end.failed else "yellow" if "DIVERGED" in line else ""
        self._console.print(named, style=style, no_wrap=True, overflow="ellipsis")
        self._draw()

    def tick(self) -> None:
        if time.monotonic() - self._looked >= REDRAW_SECONDS:
            self._looked = time.monotonic()
            for job in self.running.values():
                job.read()
            self._draw()

    def close(self) -> None:
        self._live.update("", refresh=True)  # Rich would draw it once more
        self._live.stop()

    def _draw(self) -> None:
        self._live.update(self._view(), refresh=True)

    def _label(self, name: str, width: int) -> str:
        return shortened(label(name, self._settings.get(name, {})), width, mark(self._console.file))

    def _view(self) -> "Group":
        """Counts and time, the running jobs, the best setting so far, and the latest failures."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = partial(Text, no_wrap=True, overflow="ellipsis")
        width, failed, over = self._console.width, len(self.failures), self.done + len(self.failures)
        foot = []
        if self._objectives:
            name, values = max(self._objectives.items(), key=lambda item: statistics.fmean(item[1]))
            mean = f" (mean of {len(values)})" if len(values) > 1 else ""
            figure = f"{self._split} {percent(statistics.fmean(values))}{mean}"
            name = shortened(name, width - len(figure) - 10, mark(self._console.file))
            foot.append(line(f"best    {name}{': ' if name else ''}{figure}", "green"))
        for name, reason in self.failures[: -1 - MAX_FAILURES : -1]:
            name = self._label(name, max(width // 3, width - cells(reason) - 10))
            foot.append(line(f"failed  {name}: {reason}", "red"))
        rows, running = max(1, self._console.height - 4 - len(foot)), list(self.running.values())
        if len(running) > rows:
            foot.insert(0, line(f"  and {len(running) - rows + 1} more run", "dim"))
            running = running[: rows - 1]
        jobs = Table.grid("", "", "", "", "", padding=(0, 2))
        for job in running:
            name = self._label(job.job.name, max(8, width - 45))
            epoch = f"epoch {job.epochs}/{job.max_epochs}" if job.epochs else "starting"
            accuracy = "" if job.accuracy is None else percent(job.accuracy)
            bar = ProgressBar(1.0, job.fraction, BAR, complete_style="cyan")
            jobs.add_row("", line(name), line(epoch), bar, line(accuracy))
        state = f"{len(self.running)} running" if self._at_once or over >= self.total else "starting"
        counts = f"{self.done} of {self.total} done, {state}{f', {failed} failed' if failed else ''}"
        fraction = (over + sum(job.fraction for job in self.running.values())) / max(1, self.total)
        room = min(SWEEP_BAR, width - len(counts) - 2)
        bars = [ProgressBar(1.0, fraction, room, complete_style="cyan")] if room >= BAR else []
        head = Table.grid(padding=(0, 2))
        head.add_row(*bars, line(counts, "bold red" if failed else "bold"))
        return Group("", head, line(elapsed_text(self.began, self.seconds_left()), "dim"), jobs, *foot)


def sweep_progress(jobs: Sequence[Job], began: float) -> SweepProgress:
    """A live view if stdout is a terminal that can redraw its lines, otherwise plain lines."""
    if not redraws():
        return SweepProgress(jobs, began)
    from rich.console import Console

    return LiveProgress(jobs, began, Console(file=sys.stdout, highlight=False, markup=False, emoji=False))
