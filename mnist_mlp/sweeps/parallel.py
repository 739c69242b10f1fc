"""The jobs of a sweep side by side: each worker does one after another, and the parent alone prints."""

import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnist_mlp.config import Config
from mnist_mlp.console import error_summary
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.result import RunResult, StoredRun
from mnist_mlp.sweeps.jobs import (
    ConfiguredJob,
    JobEnd,
    SweepJob,
    ended_with,
    keep_failure,
    read_jobs,
    unrecorded,
    update_table,
)
from mnist_mlp.sweeps.processes import Died, Done, Printed, Resolution, Survey, Task, WorkerPool, inquiry
from mnist_mlp.sweeps.progress import SweepProgress
from mnist_mlp.training.processes import cores_of_job

WORKER_BYTES = 400 * 2**20
"""What a further worker takes beside the needs of its net: two and their server held 1.31 GiB, the server
alone 0.58 (Pss of smaps_rollup, full MNIST)."""
KEPT_FREE = 0.25
"""Part of the free memory that is left to others."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Limits:
    """The launcher's options: jobs at once (0: as many as there are cores and memory for), and of these on one GPU."""

    n_jobs: int = 0
    n_per_gpu: int = 1

    def __post_init__(self) -> None:
        if self.n_jobs < 0:
            raise UserError(
                f"hydra.launcher.n_jobs={self.n_jobs} is out of range: give a number of jobs, or 0 for as many as "
                "there are cores and memory for"
            )
        if self.n_per_gpu < 1:
            raise UserError(f"hydra.launcher.n_per_gpu={self.n_per_gpu} is out of range: give a whole number >= 1")

    def at_once(self, jobs: int, threads: int, survey: Survey) -> int:
        """How many of these jobs run at once. threads: of the one that has most."""
        if self.n_jobs:
            return min(self.n_jobs, jobs)
        most = [jobs, max(1, cores_of_job() // threads)]
        if survey.free is not None:
            each = WORKER_BYTES + (0 if survey.gpus else survey.bytes_per_job)
            most.append(max(1, int((1 - KEPT_FREE) * survey.free / each)))
        if survey.gpus:
            most.append(survey.gpus * self.n_per_gpu)
        return min(most)


def devices(gpus: int, at_once: int) -> Sequence[Mapping[str, str]]:
    """The environment variables of so many workers: each sees one GPU, in turn; nothing where there are none."""
    if not gpus:
        return [{}] * at_once
    given = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    names = given[:gpus] or list(map(str, range(gpus)))
    return [{VISIBLE: names[number % len(names)]} for number in range(at_once)]


LOOK_SECONDS = 0.2
"""At most so long passes between two calls of `tick`."""
INQUIRY = -1
"""The number of the one task that is no job."""


@dataclass(frozen=True)
class Planned:
    """A job to be done. make_task: what a worker is given to do; it returns a `JobEnd`.

    config: None where the job's settings are known to nobody yet, or are refused: then its task will say so. faults:
    why they are refused.
    """

    job: SweepJob
    config: Config | None
    make_task: Callable[[], Task]
    faults: str = ""


def shared_faults(plans: Sequence[Planned]) -> list[str]:
    """What is wrong with the settings of every job, so that none could run."""
    first, *others = [plan.faults.split("; ") if plan.faults else [] for plan in plans]
    return [fault for fault in first if all(fault in one for one in others)]


def run_configured(tasks: Sequence[ConfiguredJob], progress: SweepProgress, limits: Limits) -> list[JobEnd]:
    """Run jobs that need no Hydra by workers of their own."""
    pool = WorkerPool()
    try:
        plans = [Planned(one.job, one.config, partial(_itself, one)) for one in tasks]
        return run_side_by_side(plans, pool, progress, limits)
    finally:
        pool.stop()


def run_side_by_side(
    plans: Sequence[Planned], pool: WorkerPool, progress: SweepProgress, limits: Limits
) -> list[JobEnd]:
    """Run the jobs that are not finished yet, by workers of the pool; how each ended, in their order.

    Where this is interrupted, the workers finish their blocks of steps and end.
    """
    run = _Run(plans, pool, progress)
    try:
        configs = [plan.config for plan in plans if plan.config is not None]
        run.read()
        survey = run.ask(configs)
        rest = run.reuse(survey)
        threads = max([config.trainer.threads or 1 for config in configs], default=1)
        run.do(rest, devices(survey.gpus, limits.at_once(len(rest), threads, survey)))
    except BaseException:
        pool.stop()
        raise
    finally:
        progress.close()
    return [run.ends[number] for number in range(len(plans))]


class _Stored:
    """What a job's folder holds, and what becomes of it if `auto` stands for the same as it did then."""

    def __init__(self, stored: StoredRun, config: Config) -> None:
        self._stored, self._config = stored, config
        self._assumed = Resolution.of(stored)
        self._result = self._assumed.finished(stored, config) if self._assumed else None

    def result(self, survey: Survey) -> RunResult | None:
        """The result that the job would return at once; None where it would train."""
        found = survey.resolution(self._config)
        if found == self._assumed:
            return self._result
        return found.finished(self._stored, self._config) if found else None


class _Run:
    """The jobs while they run. ends: how jobs ended so far, by their place in the plans."""

    def __init__(self, plans: Sequence[Planned], pool: WorkerPool, progress: SweepProgress) -> None:
        self.ends: dict[int, JobEnd] = {}
        self._plans, self._pool, self._progress = plans, pool, progress
        self._stored: dict[int, _Stored] = {}
        self._ticked = 0.0

    def read(self) -> None:
        """Take up what the jobs' folders hold, for the closing table too, while the first worker starts."""
        self._pool.resize([{}])
        self._pool.start()
        for number, plan in enumerate(self._plans):
            folder = plan.job.folder
            if plan.config and plan.config.resume == "auto" and not folder.failure_file.exists():
                with suppress(UnreadableFileError):
                    self._stored[number] = _Stored(folder.stored(), plan.config)
            self._tick()
        if self._stored:
            read_jobs(self._plans[0].job.sweep)

    def ask(self, configs: Iterable[Config]) -> Survey:
        """The survey of the jobs, from a first worker."""
        task = inquiry(configs)
        while not self._pool.give(INQUIRY, task):
            self._look()
        while True:
            for event in self._look():
                if isinstance(event, Done):
                    survey: Survey = event.outcome
                    return survey
                if isinstance(event, Died):
                    raise RuntimeError(f"no worker can run: {event.why}\n{event.printed}")

    def reuse(self, survey: Survey) -> list[int]:
        """End the jobs that were finished before; the places of the others."""
        rest = []
        for number, plan in enumerate(self._plans):
            stored = self._stored.pop(number, None)
            result = stored.result(survey) if stored else None
            if result is None:
                rest.append(number)
            else:
                self._ended(number, ended_with(plan.job, result, reused=True))
            self._tick()
        return rest

    def do(self, numbers: Sequence[int], environments: Sequence[Mapping[str, str]]) -> None:
        """Let the workers, one for each of these environments, do the jobs at these places."""
        self._pool.resize(environments)
        waiting = list(numbers)[::-1]
        ready = self._prepared(waiting)
        while len(self.ends) < len(self._plans):
            while ready is not None and self._pool.give(*ready):
                job = self._plans[ready[0]].job
                self._progress.started(job.folder.path.name, job.number)
                ready = self._prepared(waiting)  # one ahead, so that no worker waits for it
            for event in self._look():
                if isinstance(event, Done):
                    self._ended(event.task, event.outcome)
                elif isinstance(event, Died):
                    job = self._plans[event.task].job
                    self._ended(event.task, keep_failure(job, event.why, f"{event.why}\n{event.printed}"))
                if not isinstance(event, Printed):
                    update_table(self._plans[0].job.sweep)

    def _prepared(self, waiting: list[int]) -> tuple[int, Task] | None:
        """The next job and its task; a job of which none can be made has failed."""
        while waiting:
            number = waiting.pop()
            try:
                return number, self._plans[number].make_task()
            except Exception as error:
                self._ended(number, keep_failure(self._plans[number].job, error_summary(error), traceback.format_exc()))
        return None

    def _look(self) -> list[Any]:
        """What has happened; printed lines are passed on."""
        events = list(self._pool.events(LOOK_SECONDS))
        for event in events:
            if isinstance(event, Printed):
                print(event.line, flush=True)
        self._tick()
        return events

    def _ended(self, number: int, end: JobEnd) -> None:
        self.ends[number] = end
        job = self._plans[number].job
        if not end.recorded:
            unrecorded.append(job.folder.path.name)
        self._progress.ended(job.folder.path.name, job.number, end.line, end.failed)

    def _tick(self) -> None:
        if time.monotonic() - self._ticked > LOOK_SECONDS / 2:
            self._progress.tick()
            self._ticked = time.monotonic()


def _itself(task: ConfiguredJob) -> Task:
    return task
