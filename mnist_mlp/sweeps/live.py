"""Progress of a sweep: a live view on a terminal, otherwise one line per job."""

import heapq
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mnist_mlp.compare.load import trial_numbers
from mnist_mlp.console import can_redraw, plain
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.result import percent
from mnist_mlp.runs.settings import label_prefixes
from mnist_mlp.sweeps.jobs import Job, JobEnd, modified_ns

if TYPE_CHECKING:
    from rich.console import Console, Group

BAR, SWEEP_BAR = 16, 48
"""Maximum widths of a job's and of the sweep's progress bar, in cells."""
MAX_FAILURES = 3
REDRAW_SECONDS = 0.5


def varying_settings(overrides: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Return the settings in which jobs differ, as {job name: {key: "lr=0.05", "half" or "seed 0"}}."""
    jobs = {
        name: {
            key: value.strip("[]").replace(",", "-")
            for key, _, value in (text.lstrip("+~").partition("=") for text in texts if "=" in text)
        }
        for name, texts in overrides.items()
    }
    keys = dict.fromkeys(key for settings in jobs.values() for key in settings)
    values = {key: {settings.get(key, "") for settings in jobs.values()} for key in keys}
    prefixes = label_prefixes({key: texts - {""} for key, texts in values.items() if len(texts) > 1})
    return {
        name: {key: prefixes[key] + value for key, value in settings.items() if key in prefixes}
        for name, settings in jobs.items()
    }


def format_settings(name: str, settings: Mapping[str, str]) -> str:
    """Join the labels of settings; return the job's name if there are none."""
    return ", ".join(settings.values()) or name


def format_duration(seconds: float) -> str:
    """Format a duration as M:SS or H:MM:SS."""
    minutes, remainder = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{remainder:02}" if minutes >= 60 else f"{minutes}:{remainder:02}"


def format_estimate(seconds: float) -> str:
    """Format an estimated duration with the precision of an estimate."""
    minutes = seconds / 60
    if minutes < 1:
        return f"about {max(1, math.ceil(seconds / 10)) * 10} s"
    if minutes < 60:
        return f"about {round(minutes)} min"
    hours, remainder = divmod(round(minutes / 5) * 5, 60)
    return f"about {hours} h {remainder} min" if remainder else f"about {hours} h"


def elapsed_text(began: float, left: float | None) -> str:
    """Format the time since the sweep began, and the time left if it is known."""
    return f"{format_duration(time.time() - began)} elapsed{f', {format_estimate(left)} left' if left else ''}"


def time_left(waiting: Iterable[float], running: Sequence[float], parallel: int) -> float:
    """Estimate the seconds until the last job ends.

    Args:
        waiting: seconds of each job that has not started, in their order.
        running: remaining seconds of each running job.
        parallel: number of jobs that run in parallel.
    """
    ends = [*running, *[0.0] * (parallel - len(running))]
    heapq.heapify(ends)
    for seconds in waiting:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


@dataclass
class RunningJob:
    """A job in progress, resumed after some epochs or 0. stamp: modification time of metrics.csv in ns."""

    job: Job
    began: float
    stamp: int | None
    resumed: int = 0
    epochs: int = 0
    epoch_seconds: float = 0.0
    elapsed: float = 0.0
    accuracy: float | None = None

    @property
    def max_epochs(self) -> int:
        """Number of epochs, 0 if the settings are not valid."""
        return self.job.config.trainer.max_epochs if self.job.config else 0

    @property
    def fraction(self) -> float:
        """Completed fraction of its epochs."""
        done = self.epochs / self.max_epochs if self.max_epochs else 0.0
        return min(1.0, max(done, self.elapsed / self._max_seconds))

    @property
    def _max_seconds(self) -> float:
        return (self.job.config and self.job.config.trainer.max_seconds) or math.inf

    def read(self) -> None:
        """Read the job's metrics, unless they are those of an earlier attempt."""
        stamp = modified_ns(self.job.folder.metrics_file)
        if stamp is None or stamp == self.stamp:
            return
        curves = read_curves(self.job.folder.metrics_file)
        elapsed = curves.get("elapsed_seconds", ())
        accuracy = curves.get("val/accuracy", curves.get("train/accuracy", ()))
        if elapsed and math.isfinite(elapsed[-1]):
            self.epochs, self.elapsed, self.epoch_seconds = len(elapsed), elapsed[-1], elapsed[-1] / len(elapsed)
        self.accuracy = accuracy[-1] if accuracy and math.isfinite(accuracy[-1]) else None
        self.stamp = stamp

    def seconds_left(self) -> float | None:
        """Estimate the seconds until the last epoch ends; None before the first one has ended."""
        if not self.epochs or self.stamp is None:
            return None
        since_epoch = max(0.0, time.time() - self.stamp / 1e9)
        left = min(self.epoch_seconds * (self.max_epochs - self.epochs), self._max_seconds - self.elapsed)
        return max(0.0, left - since_epoch)

    def duration(self, left: float = 0.0) -> tuple[int, float, float]:
        """Return its planned epochs, and its seconds of training (`left` more) and of everything else."""
        seconds = self.epoch_seconds * max(0, self.epochs - self.resumed)
        return self.max_epochs - self.resumed, seconds + left, max(0.0, time.time() - self.began - seconds)


class SweepProgress:
    """Reports the progress of a sweep; this class prints a line when a job ends.

    Args:
        jobs: all jobs that are known.
        began: start of the sweep, in seconds since the epoch.
    """

    def __init__(self, jobs: Sequence[Job], began: float) -> None:
        self.began = began
        self.done = 0
        self.failures: list[tuple[str, str]] = []
        """Name and reason, oldest first."""
        self.running: dict[int, RunningJob] = {}
        self._durations: list[tuple[int, float, float]] = []
        self._parallel = 0
        self.extend(jobs)

    def extend(self, jobs: Sequence[Job], later: Sequence[int] = ()) -> None:
        """Add the next jobs of a search, which gives the epochs of each later one."""
        self._later = later
        self.known = self.ended_count + len(jobs)
        """Number of jobs that have ended when these have."""
        self.total = self.known + len(later)
        self._waiting = {job.number: job.config.trainer.max_epochs if job.config else 0 for job in jobs}
        self._settings = varying_settings({job.name: job.overrides for job in jobs})
        trials = trial_numbers(jobs[0].sweep) if jobs else {}
        self._settings |= {job.name: {"": f"#{trials[job.name]}"} for job in jobs if job.name in trials}

    @property
    def ended_count(self) -> int:
        """Number of jobs that have ended."""
        return self.done + len(self.failures)

    def started(self, job: Job) -> None:
        """Register the start of a job; not called if its result is reused."""
        file = job.folder.metrics_file
        resumed = len(read_curves(file).get("elapsed_seconds", ())) if job.folder.last_checkpoint.is_file() else 0
        self.running[job.number] = RunningJob(job, time.time(), modified_ns(file), resumed)
        self._waiting.pop(job.number, None)
        self._parallel = max(self._parallel, len(self.running))

    def ended(self, job: Job, end: JobEnd) -> None:
        """Register and print the outcome of a job."""
        self._count(job, end)
        for running in self.running.values():
            running.read()
        print(f"{end.line}  [{elapsed_text(self.began, self.seconds_left())}]", flush=True)

    def tick(self) -> None:
        """Update the display; called at least four times a second."""

    def close(self) -> None:
        """Stop the display, when all jobs have ended or the sweep was interrupted."""

    def _count(self, job: Job, end: JobEnd) -> None:
        running = self.running.pop(job.number, None)
        self._waiting.pop(job.number, None)
        if end.objective is None:
            self.failures.append((job.name, end.line.partition("FAILED: ")[2]))
            return
        self.done += 1
        if running is not None and not end.reused:
            running.read()
            self._durations.append(running.duration())

    def status_text(self) -> str:
        """Describe the current state in one sentence."""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        counts = f"{self.done} of {self.total} jobs done, {len(self.running)} running{failed}"
        return f"At {time.strftime('%H:%M:%S')}: {counts}; {elapsed_text(self.began, self.seconds_left())}."

    def seconds_left(self) -> float | None:
        """Estimate the time left from the mean duration of an epoch, and of the rest of a job; None without data.

        Failed and reused jobs are ignored. The duration of a running job is extrapolated from its epochs.
        """
        jobs = [(job, job.seconds_left()) for job in self.running.values()]
        durations = [*self._durations, *(job.duration(left) for job, left in jobs if left is not None)]
        if not durations:
            return None
        epochs, training, others = zip(*durations, strict=True)
        overhead, per_epoch = statistics.fmean(others), sum(training) / max(1, sum(epochs))
        running = [
            max(0.0, overhead + per_epoch * (job.max_epochs - job.resumed) + job.began - time.time())
            if left is None
            else left
            for job, left in jobs
        ]
        waiting = [overhead + per_epoch * count for count in (*self._waiting.values(), *self._later)]
        return time_left(waiting, running, self._parallel)


class LiveProgress(SweepProgress):
    """Shows the state of the sweep at the bottom of the terminal, below a line for each job that ended."""

    def __init__(self, jobs: Sequence[Job], began: float, console: "Console") -> None:
        from rich.live import Live  # deferred: only needed on a terminal

        super().__init__(jobs, began)
        self._console, self._last_read, self._splits = console, 0.0, set[str]()
        self._objectives: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        """Objectives of finished jobs by `data.name` and by their settings without the seed."""
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def started(self, job: Job) -> None:
        """Register the start of a job and redraw."""
        super().started(job)
        self._draw()

    def ended(self, job: Job, end: JobEnd) -> None:
        """Register the outcome of a job, print it above the view and redraw."""
        self._count(job, end)
        if end.objective is not None and math.isfinite(end.objective):
            settings = {key: value for key, value in self._settings.get(job.name, {}).items() if key != "seed"}
            dataset = job.config.data.name.value if job.config else ""
            objectives = self._objectives[dataset][format_settings("", settings)]
            objectives[:] = [*(objectives if "" not in settings else ()), end.objective]  # a trial's last rung counts
            self._splits.add("val" if job.config is None or job.config.data.val_size else "train")
        line = plain(end.line)
        style = "red" if end.objective is None else "yellow" if "DIVERGED" in line else ""
        self._console.print(line.replace(job.name, self._label(job.name), 1), style=style)
        self._draw()

    def tick(self) -> None:
        """Read the metrics of running jobs and redraw, every REDRAW_SECONDS."""
        if time.monotonic() - self._last_read >= REDRAW_SECONDS:
            self._last_read = time.monotonic()
            for job in self.running.values():
                job.read()
            self._draw()

    def close(self) -> None:
        """Remove the view from the terminal."""
        self._live.update("", refresh=True)  # otherwise Rich draws it once more
        self._live.stop()

    def _draw(self) -> None:
        self._live.start()
        self._live.update(self._view(), refresh=True)

    def _label(self, name: str) -> str:
        return format_settings(name, self._settings.get(name, {}))

    def _view(self) -> "Group":
        """Render counts and time, the running jobs, the best setting so far and the latest failures."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = partial(Text, no_wrap=True, overflow="ellipsis")
        width, failed, ended = self._console.width, len(self.failures), self.ended_count
        footer: list[Text] = []
        for means in self._objectives.values() if len(self._splits) == 1 else ():  # other splits are not comparable
            name, values = max(means.items(), key=lambda item: statistics.fmean(item[1]))
            mean = f" (mean of {len(values)})" if len(values) > 1 else ""
            accuracy = f"{min(self._splits)} {percent(statistics.fmean(values))}{mean}"
            footer += Text(f"best    {name}{': ' if name else ''}{accuracy}", "green").wrap(self._console, width)
        for name, reason in self.failures[: -1 - MAX_FAILURES : -1]:
            footer.append(line(f"failed  {self._label(name)}: {reason}", "red"))
        running = list(self.running.values())
        labels = [Text(self._label(job.job.name)).wrap(self._console, max(8, width - 45)) for job in running]
        rows = max(1, (self._console.height - 4 - len(footer)) // max([1, *map(len, labels)]))
        if len(running) > rows:
            footer.insert(0, line(f"  and {len(running) - rows + 1} more running", "dim"))
            running = running[: rows - 1]
        jobs = Table.grid("", "", "", "", "", padding=(0, 2))
        for job, label in zip(running, labels, strict=False):
            epoch = f"epoch {job.epochs}/{job.max_epochs}" if job.epochs else "starting"
            accuracy = "" if job.accuracy is None else percent(job.accuracy)
            bar = ProgressBar(1.0, job.fraction, BAR, complete_style="cyan")
            jobs.add_row("", Group(*label), line(epoch), bar, line(accuracy))
        state = f"{len(self.running)} running" if self._parallel or ended >= self.total else "starting"
        counts = f"{self.done} of {self.total} done, {state}{f', {failed} failed' if failed else ''}"
        fraction = (ended + sum(job.fraction for job in self.running.values())) / max(1, self.total)
        bar_width = min(SWEEP_BAR, width - len(counts) - 2)
        bars = [ProgressBar(1.0, fraction, bar_width, complete_style="cyan")] if bar_width >= BAR else []
        header = Table.grid(padding=(0, 2))
        header.add_row(*bars, line(counts, "bold red" if failed else "bold"))
        return Group("", header, line(elapsed_text(self.began, self.seconds_left()), "dim"), jobs, *footer)


def sweep_progress(jobs: Sequence[Job], began: float) -> SweepProgress:
    """Return a live view if stdout is a terminal that can redraw its lines, otherwise plain lines."""
    if not can_redraw():
        return SweepProgress(jobs, began)
    from rich.console import Console

    return LiveProgress(jobs, began, Console(file=sys.stdout, highlight=False, markup=False, emoji=False))
