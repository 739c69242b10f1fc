"""The jobs of a sweep side by side: each worker does one after another, and the parent alone prints."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mnist_mlp.cli.closing import unrecorded, update_table
from mnist_mlp.cli.jobs import ConfiguredJob, JobEnd, SweepJob, keep_failure
from mnist_mlp.cli.pool import Died, Done, Printed, WorkerPool
from mnist_mlp.cli.progress import SweepProgress
from mnist_mlp.cli.shares import environments_of_workers
from mnist_mlp.cli.worker import Task
from mnist_mlp.console import reason

LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Planned:
    """A job to be done. make_task: what a worker is given to do; it returns a `JobEnd`."""

    job: SweepJob
    make_task: Callable[[], Task]


def run_configured(tasks: Sequence[ConfiguredJob], progress: SweepProgress, n_jobs: int) -> list[JobEnd]:
    """Run jobs that need no Hydra by workers of their own. n_jobs: as `hydra.launcher.n_jobs`."""
    pool = WorkerPool()
    try:
        environments = environments_of_workers(len(tasks), n_jobs, 1)
        plans = [Planned(one.job, partial(_itself, one)) for one in tasks]
        return run_side_by_side(plans, pool, progress, environments)
    finally:
        pool.stop()


def run_side_by_side(
    plans: Sequence[Planned], pool: WorkerPool, progress: SweepProgress, environments: Sequence[Mapping[str, str]]
) -> list[JobEnd]:
    """Run the jobs by the workers of the pool, one for each of these environments; how each ended, in their order.

    Where this is interrupted, the workers finish their blocks of steps and end.
    """
    ends: dict[int, JobEnd] = {}
    waiting = list(range(len(plans)))[::-1]
    pool.resize(environments)

    def ended(number: int, end: JobEnd) -> None:
        ends[number] = end
        job = plans[number].job
        if not end.recorded:
            unrecorded.append(job.folder.path.name)
        progress.ended(job.folder.path.name, job.number, end.line, end.failed)

    def prepared() -> tuple[int, Task] | None:
        while waiting:
            number = waiting.pop()
            try:
                return number, plans[number].make_task()
            except Exception as error:
                ended(number, keep_failure(plans[number].job, reason(error), traceback.format_exc()))
        return None

    try:
        ready = prepared()
        while len(ends) < len(plans):
            while ready is not None and pool.give(*ready):
                job = plans[ready[0]].job
                progress.started(job.folder.path.name, job.number)
                ready = prepared()  # one ahead, so that no worker waits for it
            for event in pool.events(LOOK_SECONDS):
                match event:
                    case Done(number, end):
                        ended(number, end)
                    case Died(number, why, printed):
                        ended(number, keep_failure(plans[number].job, why, f"{why}\n{printed}"))
                    case Printed(_, line):
                        print(line, flush=True)
            progress.tick()
            if ends:
                update_table(plans[0].job.sweep)
    except BaseException:
        pool.stop()
        raise
    finally:
        progress.close()
    return [ends[number] for number in range(len(plans))]


def _itself(task: ConfiguredJob) -> Task:
    return task
