"""Parallel execution of a sweep's jobs in a pool of workers; only the parent process prints."""

import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from mnist_mlp.compare.load import find_jobs
from mnist_mlp.config import Accelerator, Config
from mnist_mlp.console import error_summary
from mnist_mlp.errors import Interrupted, UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON, UnreadableFileError
from mnist_mlp.runs.folder import LOCK_FILE
from mnist_mlp.runs.result import RunResult, StoredRun
from mnist_mlp.startup import quick_start
from mnist_mlp.sweeps.jobs import Job, JobEnd, fail_job, finish_job, run_job, unrecorded_failures, update_table
from mnist_mlp.sweeps.live import SweepProgress
from mnist_mlp.sweeps.live_page import LivePage
from mnist_mlp.sweeps.order import cover
from mnist_mlp.sweeps.processes import Crashed, WorkerPool
from mnist_mlp.training.processes import cores_of_job

WORKER_BYTES = 400 * 2**20
"""Memory of a worker without its network: two workers and their server took 1.31 GiB, the server alone 0.58 (Pss of
smaps_rollup, full MNIST)."""
RESERVED_FRACTION = 0.25
"""Fraction of the free memory reserved for other programs."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
"""Maximum time between two calls of `tick`."""
PROBE = -1
"""Number of the task that is not a job."""
Records = Callable[[Job], Mapping[str, str]]
"""Returns additional files for a job's folder, text by relative path; called shortly before a worker starts the job."""


DataKey = tuple[str, str, str, str]
"""`data.source`, `data.root`, `data.name` and `data.normalization`."""


def _data_key(config: Config) -> DataKey:
    data = config.data
    return data.source.value, data.root, data.name.value, data.normalization.value


@dataclass(frozen=True)
class Survey:
    """Resources of the machine.

    Attributes:
        bytes_per_job: memory of the largest job, in bytes.
        free: free memory in bytes; None if unknown.
        gpus: number of GPUs that the jobs may use; 0 if no job uses one.
        digits: source ("" if unavailable) and `Digits.describe` of the datasets by `_data_key`, and why it differs.
    """

    bytes_per_job: int
    free: int | None
    gpus: int
    digits: Mapping[DataKey, tuple[str, JSON, str]]

    def finished(self, stored: StoredRun, config: Config) -> RunResult | None:
        """Return the result in a job's folder if `fit` would reuse it; None if it would train.

        UserError if the job would be replaced, or fail, only because its data have come or gone.
        """
        source, data, reason = self.digits[_data_key(config)]
        if config.trainer.devices > 1 or not (source or stored.result):
            return None  # the job reports the error
        if not source:
            raise UserError(reason)
        run: JSON = {"config": to_dict(config), "data": data}
        run["config"]["data"]["source"] = source
        if config.data.source in ("auto", "arrays") and (change := stored.changed_source(run)):
            reason = f"{change}{', since ' if reason else ''}{reason}"
            raise UserError(f"earlier jobs used other data ({reason}): restore them, or choose another name=")
        return stored.result_of(run, on_any_device=config.trainer.accelerator == "auto")


def survey_machine(configs: Sequence[Config], digits_file: str = "") -> Survey:
    """Survey the machine, in a worker. digits_file: as in `Job`."""
    with quick_start():  # if no fork server has imported it
        import torch  # deferred, like the following imports: only workers need it

    from mnist_mlp.data.mnist import load_digits, read_shared
    from mnist_mlp.training.trainer import free_bytes, needed_bytes

    digits: dict[DataKey, tuple[str, JSON, str]] = {}
    for key in set(map(_data_key, configs)):
        try:
            *arguments, normalization = key
            loaded = read_shared(digits_file) if digits_file else load_digits(*arguments)
            digits[key] = loaded.source, loaded.describe(normalization), loaded.why_sample
        except (UserError, OSError) as error:
            digits[key] = "", {}, error_summary(error)
    bytes_per_job = max(map(needed_bytes, configs), default=0)
    uses_gpu = any(config.trainer.accelerator != Accelerator.cpu for config in configs)
    return Survey(bytes_per_job, free_bytes("cpu"), torch.cuda.device_count() if uses_gpu else 0, digits)


@dataclass(frozen=True)
class Limits:
    """How many jobs run in parallel, in which order and for how long.

    Attributes:
        n_jobs: number of parallel jobs; 0: as many as cores and memory allow.
        n_per_gpu: number of parallel jobs per GPU.
        order: cover (see `order.cover`) or grid, the order of the jobs.
        max_seconds: no job starts later than this after the start of the sweep; 0: no limit.
    """

    n_jobs: int = 0
    n_per_gpu: int = 1
    order: str = "cover"
    max_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in ("cover", "grid"):
            raise UserError(f"hydra.sweeper.order={self.order} is not a valid choice: use one of cover, grid")
        if not 0 <= self.max_seconds < math.inf:
            raise UserError(f"hydra.sweeper.max_seconds={self.max_seconds} is out of range: expected float >= 0")
        if self.n_jobs < 0:
            raise UserError(f"hydra.launcher.n_jobs={self.n_jobs} is out of range: expected int >= 0; 0 is automatic")
        if self.n_per_gpu < 1:
            raise UserError(f"hydra.launcher.n_per_gpu={self.n_per_gpu} is out of range: expected int >= 1")

    def count_parallel(self, jobs: int, threads: int, survey: Survey) -> int:
        """Return how many of the jobs run in parallel. threads: maximum number of threads of a job."""
        if self.n_jobs:
            return min(self.n_jobs, jobs)
        limits = [jobs, max(1, cores_of_job() // threads)]
        if survey.free is not None:
            bytes_per_worker = WORKER_BYTES + (0 if survey.gpus else survey.bytes_per_job)
            limits.append(max(1, int((1 - RESERVED_FRACTION) * survey.free / bytes_per_worker)))
        if survey.gpus:
            limits.append(survey.gpus * self.n_per_gpu)
        return min(limits)


def worker_environments(gpus: int, workers: int) -> Sequence[Mapping[str, str]]:
    """Return the environment variables of each worker, which assign it one of the GPUs if there are any."""
    visible = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    names = visible[:gpus] or list(map(str, range(gpus)))
    return [{VISIBLE: names[number % len(names)]} if gpus else {} for number in range(workers)]


def refuse_same_folder(jobs: Sequence[Job]) -> None:
    """Raise a UserError if two jobs of different settings have the same folder, or names that are equal but for case.

    The latter only counts if the file system ignores case.
    """
    names: dict[str, Job] = {}
    for job in jobs:
        other = names.setdefault(job.name.casefold(), job)
        is_same = other.name == job.name or (job.sweep / LOCK_FILE.upper()).exists()
        if is_same and (other.name, other.config) != (job.name, job.config):
            raise UserError(f"{other.label} and {job.label} have the same folder: run them in two sweeps")


def run_jobs(
    jobs: Sequence[Job],
    records: Records,
    progress: SweepProgress,
    limits: Limits,
    on_end: Callable[[Job, JobEnd], None] = lambda job, end: None,
    pool: WorkerPool | None = None,
) -> list[JobEnd]:
    """Run the unfinished jobs in worker processes. If interrupted, the workers complete their chunk of steps.

    Args:
        jobs: the jobs of one sweep.
        records: returns additional files for a job's folder.
        progress: displays the progress.
        limits: maximum number of parallel jobs.
        on_end: called when a job has ended.
        pool: workers to use and keep; by default they are started and stopped by this call.

    Returns:
        The outcome of each job, in the order of the jobs.
    """
    refuse_same_folder(jobs)
    run = _Run(jobs, records, progress, on_end, pool or WorkerPool(), LivePage(jobs[0].sweep, progress))
    try:
        run.run(limits)
    finally:
        progress.close()
        run.page.close()
        if pool is None or len(run.ends) < len(jobs):
            run.pool.stop()
    return [run.ends[index] for index in range(len(jobs))]


@dataclass
class _Run:
    """State of `run_jobs`. ends: outcomes so far, by index of the job."""

    jobs: Sequence[Job]
    records: Records
    progress: SweepProgress
    on_end: Callable[[Job, JobEnd], None]
    pool: WorkerPool
    page: LivePage
    ends: dict[int, JobEnd] = field(default_factory=dict)

    def run(self, limits: Limits) -> None:
        """Read the jobs' folders while the fork server starts, survey the machine in a worker, run unfinished jobs."""
        self.pool.start()
        self.pool.resize([{}] * max(1, self.pool.size))
        stored: dict[int, StoredRun] = {}
        for index, job in enumerate(self.jobs):
            if job.config and job.config.resume == "auto" and not job.folder.failure_file.exists():
                with suppress(UnreadableFileError):
                    stored[index] = job.folder.stored()
            self.progress.tick()
        if stored:
            find_jobs([self.jobs[0].sweep])  # fills the cache, so tables only read what changes from now on
        survey, waiting = self._probe(), []
        for index, job in enumerate(self.jobs):
            result = survey.finished(stored[index], job.config) if index in stored and job.config else None
            if result is None:
                waiting.append(index)
            else:
                self._end(index, finish_job(job, result, reused=True))
            self.progress.tick()
        threads = max([job.config.trainer.threads or 1 for job in self.jobs if job.config], default=1)
        self.pool.resize(worker_environments(survey.gpus, limits.count_parallel(len(waiting), threads, survey)))
        settings = [dict(text.partition("=")[::2] for text in job.overrides) for job in self.jobs]
        order = cover(settings) if limits.order == "cover" else range(len(self.jobs))
        unfinished = set(waiting)
        self._train([index for index in reversed(order) if index in unfinished], limits.max_seconds)

    def _probe(self) -> Survey:
        task = partial(survey_machine, [job.config for job in self.jobs if job.config])
        if digits_file := self.jobs[0].digits_file:
            task = partial(task, digits_file)
        while not self.pool.submit(PROBE, task):
            self._events()
        while not (events := self._events()):
            pass
        ((_, outcome),) = events
        if isinstance(outcome, Crashed):
            raise RuntimeError(f"cannot start a worker: {outcome.reason}\n{outcome.output}")
        return cast(Survey, outcome)

    def _train(self, waiting: list[int], max_seconds: float) -> None:
        """Run the jobs at these indices in the workers, starting from the end of the list."""
        deadline = self.progress.began + (max_seconds or math.inf)
        next_job = self._prepare_next(waiting)
        while len(self.ends) < len(self.jobs):
            is_late = next_job is not None and time.time() >= deadline
            if is_late and not self.progress.running:
                raise Interrupted(signal.SIGINT, f"stopped by hydra.sweeper.max_seconds={max_seconds:g}")
            while next_job is not None and not is_late and self.pool.submit(*next_job):
                self.progress.started(self.jobs[next_job[0]])
                next_job = self._prepare_next(waiting)  # in advance, so no worker waits for it
            for index, outcome in self._events():
                if isinstance(outcome, Crashed):
                    outcome = fail_job(self.jobs[index], outcome.reason, f"{outcome.reason}\n{outcome.output}")
                self._end(index, outcome)
                update_table(self.jobs[0].sweep)

    def _prepare_next(self, waiting: list[int]) -> tuple[int, Callable[[], JobEnd]] | None:
        """Return index and task of the next job; jobs that cannot be prepared fail."""
        while waiting:
            index = waiting.pop()
            job = self.jobs[index]
            try:
                return index, partial(run_job, job, self.records(job))
            except Exception as error:
                self._end(index, fail_job(job, error_summary(error), traceback.format_exc()))
        return None

    def _events(self) -> list[tuple[int, Any]]:
        events = list(self.pool.events(POLL_SECONDS))
        self.progress.tick()
        self.page.update()
        return events

    def _end(self, index: int, end: JobEnd) -> None:
        self.ends[index] = end
        if not end.recorded:
            unrecorded_failures.append(self.jobs[index].name)
        self.progress.ended(self.jobs[index], end)
        self.on_end(self.jobs[index], end)
