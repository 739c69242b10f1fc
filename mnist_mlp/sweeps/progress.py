"""What a sweep says while it runs, and how long it may still take."""

import time
from typing import Protocol


class SweepProgress(Protocol):
    """Told by the parent of a sweep's jobs what happens to them. Numbers count from 1 in the order of the jobs."""

    def started(self, job_name: str, number: int) -> None:
        """A job has begun; not called for one that was finished before."""

    def ended(self, job_name: str, number: int, line: str, failed: bool) -> None:
        """A job has ended. line: all there is to say of it, its place and name too."""

    def tick(self) -> None:
        """Called at least four times a second."""

    def close(self) -> None:
        """The jobs are done, or the sweep was interrupted."""


class TimeLeft:
    """How long a sweep has run, and may still run: the jobs to come take as long as those so far, as many at once."""

    def __init__(self, jobs: int, began: float) -> None:
        self._jobs, self._began = jobs, began
        self._running: dict[int, float] = {}
        self._ended, self._at_once = 0, 1
        self._durations: list[float] = []

    def started(self, number: int) -> None:
        """A job has begun."""
        self._running[number] = time.time()
        self._at_once = max(self._at_once, len(self._running))

    def ended(self, number: int) -> None:
        """A job has ended; one that never began was finished before."""
        self._ended += 1
        if (began := self._running.pop(number, None)) is not None:
            self._durations.append(time.time() - began)

    @property
    def elapsed(self) -> float:
        """Seconds since the sweep began."""
        return time.time() - self._began

    @property
    def left(self) -> float | None:
        """Seconds that the rest may take; None before any job has ended."""
        if not self._durations:
            return None
        now, each = time.time(), sum(self._durations) / len(self._durations)
        running = [max(0.0, each - (now - began)) for began in self._running.values()]
        waiting = self._jobs - self._ended - len(self._running)
        return max([(sum(running) + waiting * each) / self._at_once, *running])

    def __str__(self) -> str:
        rest = "" if self.left is None else f", about {clock(self.left)} left"
        return f"{clock(self.elapsed)} elapsed{rest}"


class PlainProgress:
    """A line for each job when it ends."""

    def __init__(self, jobs: int, began: float) -> None:
        self._time = TimeLeft(jobs, began)

    def started(self, job_name: str, number: int) -> None:
        self._time.started(number)

    def ended(self, job_name: str, number: int, line: str, failed: bool) -> None:
        self._time.ended(number)
        print(f"{line}  [{self._time}]", flush=True)

    def tick(self) -> None:
        """Nothing: lines stay as they are."""

    def close(self) -> None:
        """Nothing is left to be said."""


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, or hours too."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
