"""The jobs of a sweep, run in parallel: workers take one after another, and the parent alone prints."""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mnist_mlp.compare.collect import find_jobs
from mnist_mlp.config import Accelerator, Config
from mnist_mlp.console import error_summary
from mnist_mlp.errors import UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import UnreadableFileError
from mnist_mlp.runs.result import RunResult, StoredRun
from mnist_mlp.sweeps.jobs import Job, JobEnd, job_failed, job_finished, run_job, unrecorded, update_table
from mnist_mlp.sweeps.live import SweepProgress
from mnist_mlp.sweeps.processes import Crashed, WorkerPool
from mnist_mlp.training.processes import cores_of_job

WORKER_BYTES = 400 * 2**20
"""Memory of a further worker besides its net: two and their server held 1.31 GiB, the server alone 0.58 (Pss of
smaps_rollup, full MNIST)."""
KEPT_FREE = 0.25
"""Fraction of the free memory that is left to other programs."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
"""Maximum time between two calls of `tick`."""
PROBE = -1
"""The number of the one task that is not a job."""
Records = Callable[[Job], Mapping[str, str]]
"""Returns further files for a job's folder, text by relative path; called when a worker is about to take the job."""


@dataclass(frozen=True)
class Survey:
    """The machine as the jobs see it.

    Attributes:
        bytes_per_job: Of the job that needs most.
        free: Bytes of free memory; None if unknown.
        gpus: How many the jobs may use; 0 if none of them wants one.
        digits: Source and digest by `data.source` and `data.root`, without those that are not available.
        accelerators: "cpu" or "gpu" by `trainer.accelerator`, without those that are not available.
    """

    bytes_per_job: int
    free: int | None
    gpus: int
    digits: Mapping[tuple[str, str], tuple[str, str]]
    accelerators: Mapping[Accelerator, str]

    def finished(self, stored: StoredRun, config: Config) -> RunResult | None:
        """The result that `fit` would return at once, from what a job's folder holds; None if it would train."""
        digits = self.digits.get((config.data.source.value, config.data.root))
        accelerator = self.accelerators.get(config.trainer.accelerator)
        if digits is None or accelerator is None or config.trainer.devices > 1:
            return None  # the job itself reports why
        resolved = to_dict(config)
        resolved["data"]["source"], resolved["trainer"]["accelerator"] = digits[0], accelerator
        return stored.result_of({"config": resolved, "data": {"digest": digits[1]}})


def survey_machine(configs: Sequence[Config]) -> Survey:
    """Survey the machine, in a worker. What is not available is left out, because its job will report why."""
    import torch  # deferred, like the rest: only a worker needs it

    from mnist_mlp.data.mnist import load_digits
    from mnist_mlp.training.trainer import choose_accelerator, free_bytes, needed_bytes

    digits, accelerators = {}, {}
    for key in {(config.data.source.value, config.data.root) for config in configs}:
        with suppress(UserError, OSError):
            loaded = load_digits(*key)
            digits[key] = loaded.source, loaded.digest
    for name in {config.trainer.accelerator for config in configs}:
        trainer = replace(configs[0].trainer, accelerator=name, devices=1)
        with suppress(UserError):
            accelerators[name] = choose_accelerator(replace(configs[0], trainer=trainer))
    return Survey(
        bytes_per_job=max(map(needed_bytes, configs), default=0),
        free=free_bytes("cpu"),
        gpus=torch.cuda.device_count() if "gpu" in accelerators.values() else 0,
        digits=digits,
        accelerators=accelerators,
    )


@dataclass(frozen=True)
class Limits:
    """How many jobs run at once (0: as many as there are cores and memory for), and how many of these on one GPU."""

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
        """How many of these jobs run at once. threads: of the job that has most."""
        if self.n_jobs:
            return min(self.n_jobs, jobs)
        limits = [jobs, max(1, cores_of_job() // threads)]
        if survey.free is not None:
            each = WORKER_BYTES + (0 if survey.gpus else survey.bytes_per_job)
            limits.append(max(1, int((1 - KEPT_FREE) * survey.free / each)))
        if survey.gpus:
            limits.append(survey.gpus * self.n_per_gpu)
        return min(limits)


def devices(gpus: int, at_once: int) -> Sequence[Mapping[str, str]]:
    """The environment variables of so many workers: each sees one GPU, in turn; none if there is no GPU."""
    visible = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    names = visible[:gpus] or list(map(str, range(gpus)))
    return [{VISIBLE: names[number % len(names)]} if gpus else {} for number in range(at_once)]


def shared_faults(jobs: Sequence[Job]) -> list[str]:
    """What is wrong with the settings of every job, so that none could run."""
    first, *others = [job.fault.split("; ") if job.fault else [] for job in jobs]
    return [fault for fault in first if all(fault in faults for faults in others)]


def run_jobs(
    jobs: Sequence[Job],
    records: Records,
    progress: SweepProgress,
    limits: Limits,
    on_end: Callable[[Job, JobEnd], None] = lambda job, end: None,
    pool: WorkerPool | None = None,
) -> list[JobEnd]:
    """Run the jobs that are not finished yet in worker processes. If interrupted, the workers finish their steps.

    Args:
        jobs: The jobs of one sweep.
        records: Makes the further files of a job's folder.
        progress: Shows what happens.
        limits: How many run at once.
        on_end: Called when a job has ended.
        pool: Workers that outlive the call; by default they end with it.

    Returns:
        How each job ended, in the order of the jobs.
    """
    run = _Run(jobs, records, progress, on_end, pool or WorkerPool())
    try:
        run.run(limits)
    finally:
        progress.close()
        if pool is None or len(run.ends) < len(jobs):
            run.pool.stop()
    return [run.ends[index] for index in range(len(jobs))]


@dataclass
class _Run:
    """The jobs while they run. ends: how jobs ended so far, by index."""

    jobs: Sequence[Job]
    records: Records
    progress: SweepProgress
    on_end: Callable[[Job, JobEnd], None]
    pool: WorkerPool
    ends: dict[int, JobEnd] = field(default_factory=dict)

    def run(self, limits: Limits) -> None:
        """Read the jobs' folders while the fork server starts, let a worker survey the machine, run what is left."""
        self.pool.start()
        self.pool.resize([{}])
        stored: dict[int, StoredRun] = {}
        for index, job in enumerate(self.jobs):
            if job.config and job.config.resume == "auto" and not job.folder.failure_file.exists():
                with suppress(UnreadableFileError):
                    stored[index] = job.folder.stored()
            self.progress.tick()
        if stored:
            find_jobs([self.jobs[0].sweep])  # so that tables have to read only what changes from now on
        survey, waiting = self._probe(), []
        for index, job in enumerate(self.jobs):
            result = survey.finished(stored[index], job.config) if index in stored and job.config else None
            if result is None:
                waiting.append(index)
            else:
                self._end(index, job_finished(job, result, reused=True))
            self.progress.tick()
        threads = max([job.config.trainer.threads or 1 for job in self.jobs if job.config], default=1)
        self.pool.resize(devices(survey.gpus, limits.at_once(len(waiting), threads, survey)))
        self._train(waiting[::-1])

    def _probe(self) -> Survey:
        task = partial(survey_machine, [job.config for job in self.jobs if job.config])
        while not self.pool.submit(PROBE, task):
            self._events()
        while not (events := self._events()):
            pass
        ((_, outcome),) = events
        if isinstance(outcome, Crashed):
            raise RuntimeError(f"no worker can run: {outcome.why}\n{outcome.printed}")
        survey: Survey = outcome
        return survey

    def _train(self, waiting: list[int]) -> None:
        """Let the workers do the jobs at these indices, the last one first."""
        following = self._prepared(waiting)
        while len(self.ends) < len(self.jobs):
            while following is not None and self.pool.submit(*following):
                self.progress.started(self.jobs[following[0]])
                following = self._prepared(waiting)  # one ahead, so that no worker waits for it
            for index, outcome in self._events():
                if isinstance(outcome, Crashed):
                    outcome = job_failed(self.jobs[index], outcome.why, f"{outcome.why}\n{outcome.printed}")
                self._end(index, outcome)
                update_table(self.jobs[0].sweep)

    def _prepared(self, waiting: list[int]) -> tuple[int, Callable[[], JobEnd]] | None:
        """The next job's index and task; a job that cannot be prepared has failed."""
        while waiting:
            index = waiting.pop()
            job = self.jobs[index]
            try:
                return index, partial(run_job, job, self.records(job))
            except Exception as error:
                self._end(index, job_failed(job, error_summary(error), traceback.format_exc()))
        return None

    def _events(self) -> list[tuple[int, Any]]:
        events = list(self.pool.events(POLL_SECONDS))
        self.progress.tick()
        return events

    def _end(self, index: int, end: JobEnd) -> None:
        self.ends[index] = end
        if not end.recorded:
            unrecorded.append(self.jobs[index].name)
        self.progress.ended(self.jobs[index], end)
        self.on_end(self.jobs[index], end)
