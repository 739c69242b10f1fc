"""How far a sweep is, read from the folders of its jobs: what runs, the best so far, what failed, the time left."""

import heapq
import math
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from mnist_mlp.config import Config, groups
from mnist_mlp.options import options
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.result import RunResult

SHORTEST_KEY = 3
Settings = Mapping[str, str]
"""Value by short key, as in the name of a job's folder."""


@cache
def _key() -> re.Pattern[str]:
    """A key at the beginning of a name or after an underscore, and the hyphen before its value."""
    keys = [key for key, _, _ in options(Config())]
    known = {*keys, *(key.rpartition(".")[2] for key in keys), *groups(), "reference"}
    longest_first = sorted(known, key=lambda key: (-len(key), key))
    return re.compile(rf"(?:^|_)({'|'.join(map(re.escape, longest_first))})-")


def settings_in(name: str) -> Settings:
    """The settings that a folder's name tells; empty where it tells none ("defaults", a trial's number)."""
    found = list(_key().finditer(name))
    ends = [*(match.start() for match in found[1:]), len(name)]
    if not found or found[0].start() > 0:
        return {}
    return {match[1]: name[match.end() : end] for match, end in zip(found, ends, strict=True)}


def varying(names: Sequence[str]) -> dict[str, Settings]:
    """Of each name the settings in which these names differ; the same key never stands for one value in all."""
    told = {name: settings_in(name) for name in names}
    keys = dict.fromkeys(key for one in told.values() for key in one)
    vary = [key for key in keys if len({one.get(key) for one in told.values()}) > 1]
    return {name: {key: one[key] for key in vary if key in one} for name, one in told.items()}


def label(name: str, settings: Settings, room: int = 1000) -> str:
    """The settings as words, "lr 0.05, seed 0"; the folder's name where there are none.

    Where they would be longer than `room` letters, the keys lose their ends, the longest first; values stay whole.
    """
    keys = {key: key for key in settings}
    while (excess := len(_words(keys, settings)) - room) > 0:
        longest = max(keys, key=lambda key: len(keys[key]))
        others = max((len(short) for key, short in keys.items() if key != longest), default=0)
        length = max(SHORTEST_KEY, others - 1, len(keys[longest]) - excess)
        if length >= len(keys[longest]):
            break
        keys[longest] = keys[longest][:length].rstrip("_.")
    return _words(keys, settings) or name


def _words(keys: Mapping[str, str], settings: Settings) -> str:
    return ", ".join(f"{short} {settings[key]}" for key, short in keys.items())


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


@dataclass
class RunningJob:
    """A job that runs. epochs: done; epoch_seconds: of one, all it takes; changed: when the last one ended."""

    name: str
    number: int
    folder: RunFolder
    began: float
    stamp: int | None
    """When the metrics.csv was written that was read last (ns); at first that of an earlier attempt, not read."""
    epochs: int = 0
    max_epochs: int | None = None
    accuracy: float | None = None
    epoch_seconds: float | None = None
    changed: float = 0.0

    def read(self) -> bool:
        """Take up what metrics.csv says; whether it has changed."""
        stamp = modified(self.folder.metrics_file)
        if stamp is None or stamp == self.stamp:
            return False
        curves = read_curves(self.folder.metrics_file)
        elapsed = curves.get("elapsed_seconds", ())
        accuracy = curves.get("val/accuracy", curves.get("train/accuracy", ()))
        if elapsed and math.isfinite(elapsed[-1]):
            self.epochs, self.epoch_seconds = len(elapsed), elapsed[-1] / len(elapsed)
        self.accuracy = accuracy[-1] if accuracy and math.isfinite(accuracy[-1]) else None
        self.stamp, self.changed = stamp, stamp / 1e9
        self.max_epochs = self.max_epochs or _max_epochs(self.folder)
        return True

    @property
    def part(self) -> float:
        """How much of its training is done, in [0, 1]."""
        return min(1.0, self.epochs / self.max_epochs) if self.max_epochs else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Until the last epoch; None before the first one has ended."""
        if not self.max_epochs or self.epoch_seconds is None:
            return None
        return max(0.0, self.epoch_seconds * (self.max_epochs - self.epochs) - max(0.0, now - self.changed))


@dataclass(frozen=True)
class Best:
    """The setting with the highest mean over its seeds so far. split: "val", or "test" without validation images."""

    settings: Settings
    accuracy: float
    count: int
    split: str


@dataclass
class SweepState:
    """A sweep that runs. began: when; jobs: names of all jobs as far as they are known."""

    sweep: Path
    jobs: Sequence[str]
    began: float
    clock: Callable[[], float] = time.time
    done: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason, the latest last."""
    running: dict[str, RunningJob] = field(default_factory=dict)
    best: Best | None = None
    """None before a job has ended."""

    def __post_init__(self) -> None:
        self._named = varying(self.jobs)
        self._durations: list[float] = []
        self._at_once = 1
        self._begun = False
        self._accuracies: dict[str, tuple[str, float]] = {}

    @property
    def begun(self) -> bool:
        """Whether any job has begun, or none is left to begin; until then the workers start."""
        return self._begun or self.done + len(self.failures) >= self.total

    @property
    def total(self) -> int:
        return max(len(self.jobs), self.done + len(self.failures) + len(self.running))

    def started(self, name: str, number: int) -> None:
        """A job has begun."""
        self._begun = True
        if name not in self._named:
            self._named = varying([*self._named, name])
        folder = RunFolder(self.sweep / name)
        self.running[name] = RunningJob(name, number, folder, self.clock(), modified(folder.metrics_file))
        self._at_once = max(self._at_once, len(self.running))

    def ended(self, name: str, failed: bool, line: str) -> None:
        """A job has ended; line: what is said of it, the reason where its folder gives none."""
        job = self.running.pop(name, None)
        folder = RunFolder(self.sweep / name)
        if failed:
            self.failures.append((name, _reason(folder) or line.rpartition("FAILED: ")[2]))
            return
        self.done += 1
        if (result := _result(folder)) is not None:
            self._keep_accuracy(name, result)
            self.best = self._best()
        written = modified(folder.result_file)
        if job is not None and written is not None and written / 1e9 >= job.began - 1:  # not one of an earlier day
            self._durations.append(self.clock() - job.began)

    def _keep_accuracy(self, name: str, result: RunResult) -> None:
        split = "val" if "val/accuracy" in result.metrics else "test"
        accuracy = result.metrics.get(f"{split}/accuracy")
        if accuracy is not None and math.isfinite(accuracy):
            self._accuracies[name] = split, accuracy

    def read(self) -> bool:
        """Take up what the running jobs have written; whether that is anything new."""
        changed = [job.read() for job in self.running.values()]  # of all, not up to the first
        return any(changed)

    def label(self, name: str, room: int = 1000) -> str:
        """A job by what varies, in so many letters if they suffice for that."""
        return label(name, self._named.get(name, {}), room)

    def _best(self) -> Best | None:
        groups: dict[tuple[tuple[str, str], ...], list[tuple[str, float]]] = defaultdict(list)
        for name, found in self._accuracies.items():
            settings = self._named.get(name) or {"run": name}
            groups[tuple((key, value) for key, value in settings.items() if key != "seed")].append(found)
        candidates = [
            Best(dict(settings), statistics.fmean(accuracy for _, accuracy in found), len(found), found[0][0])
            for settings, found in groups.items()
        ]
        return max(candidates, key=lambda one: one.accuracy, default=None)

    def seconds_left(self) -> float | None:
        """If the jobs to come take as long as those that ran, as many at once as until now; None while nobody knows.

        Failed jobs and those that were finished before do not count: they end in no time. A running one counts with
        the time that its own epochs take.
        """
        now = self.clock()
        left = {name: job.seconds_left(now) for name, job in self.running.items()}
        whole = [*self._durations]
        whole += [now - self.running[name].began + seconds for name, seconds in left.items() if seconds is not None]
        if not whole:
            return None
        typical = statistics.fmean(whole)
        ends = [
            max(0.0, typical - (now - self.running[name].began)) if seconds is None else seconds
            for name, seconds in left.items()
        ]
        ends += [0.0] * (self._at_once - len(ends))
        heapq.heapify(ends)
        for _ in range(self.total - self.done - len(self.failures) - len(self.running)):
            heapq.heapreplace(ends, ends[0] + typical)
        return max(ends)


def modified(path: Path) -> int | None:
    """When a file was written, in nanoseconds; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _max_epochs(folder: RunFolder) -> int | None:
    run: Any = None
    try:
        run = folder.run()
        return int(run["config"]["trainer"]["max_epochs"]) if run else None
    except (UnreadableFileError, KeyError, TypeError, ValueError, OSError):
        return None


def _reason(folder: RunFolder) -> str:
    try:
        failure = folder.failure()
    except (UnreadableFileError, OSError):
        return ""
    return str(failure["reason"]) if failure else ""


def _result(folder: RunFolder) -> RunResult | None:
    try:
        return folder.result()
    except (UnreadableFileError, OSError):
        return None
