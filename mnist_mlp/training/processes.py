"""Which process of a run this is.

Launchers (Lightning's own, torchrun, srun) say so in environment variables. Batch scripts, notebooks and services set
the same variables for reasons of their own, so they count only where they describe a run of as many processes as were
asked for. Imports neither torch nor Lightning.
"""

import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder

MAX_THREADS = 256
LOOK_SECONDS = 5.0
STARTED_BY = "MNIST_MLP_STARTED_BY"
READ_AT_IMPORT = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Lightning and torchmetrics pass these to int() when they are imported."""
LAUNCHER_VARIABLES = (
    *READ_AT_IMPORT,
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT"),
)


def process_rank(devices: int) -> int:
    """This process's place among those of the run, from 0; devices: how many the run was asked to have."""
    if devices == 1:
        return 0
    if launched_by_slurm(devices):
        return _number("SLURM_PROCID") or 0
    rank = _number("LOCAL_RANK")
    return rank if rank is not None and _number("WORLD_SIZE") == devices and rank < devices else 0


def launched_by_slurm(devices: int) -> bool:
    """Whether srun started this process as one of so many. A batch script itself is no such process."""
    rank = _number("SLURM_PROCID")
    return devices > 1 and rank is not None and rank < devices == _number("SLURM_STEP_NUM_TASKS")


def lost_process(error: RuntimeError) -> bool:
    """Whether gloo or NCCL raised this because another process of the run has ended."""
    return re.search(r"gloo|NCCL|closed by peer|reset by peer", str(error)) is not None


def report_lost_process(folder: RunFolder) -> None:
    """The line for a run of which another process has ended."""
    go_on = f"; go on with resume={folder.path}" if folder.last_checkpoint.is_file() else ""
    line = f"error: another process of this run has ended, so this one cannot go on{go_on}"
    print(line, file=sys.stderr, flush=True)


def announce_to_children(devices: int) -> None:
    """Tell the processes that this one will start who it is, since it may be gone before they ask."""
    if devices > 1:
        os.environ[STARTED_BY] = str(os.getpid())


@contextmanager
def exit_with_parent(folder: RunFolder) -> Iterator[None]:
    """While this lasts, the end of the process that started this one ends it, too, with a line.

    While the processes of a run find each other, each would wait for half an hour for one that was killed.
    """
    parent, done = _number(STARTED_BY) or os.getppid(), threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            if os.getppid() != parent:
                report_lost_process(folder)
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def launcher_variables(devices: int) -> Iterator[None]:
    """While this lasts, launchers' variables that do not describe this run are gone; afterwards all are as before."""
    before = {name: os.environ[name] for name in LAUNCHER_VARIABLES if name in os.environ}
    rank_zero = getattr(sys.modules.get("lightning_fabric.utilities.rank_zero"), "rank_zero_only", None)
    rank_before = getattr(rank_zero, "rank", 0)
    if process_rank(devices) == 0 and not (launched_by_slurm(devices) or _number("WORLD_SIZE") == devices > 1):
        _forget(LAUNCHER_VARIABLES)
        if rank_zero is not None:
            rank_zero.rank = 0  # what Lightning says and writes, it does on rank 0 alone
    try:
        yield
    finally:
        _forget(LAUNCHER_VARIABLES)
        os.environ.update(before)
        if rank_zero is not None:
            rank_zero.rank = rank_before


@contextmanager
def unusable_ranks_hidden() -> Iterator[bool]:
    """Hide ranks that are no numbers, with which an import of Lightning ends in a ValueError. Yields whether any is."""
    hidden = {name: os.environ[name] for name in READ_AT_IMPORT if name in os.environ and _number(name) is None}
    _forget(hidden)
    try:
        yield bool(hidden)
    finally:
        os.environ.update(hidden)


def cores_of_job() -> int:
    """The CPU threads that SLURM gave this process, else its share of the cores where several jobs run at once."""
    given = _number("SLURM_CPUS_PER_TASK")
    if given:
        return min(given, MAX_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = os.environ.get("MNIST_MLP_PARALLEL_JOBS", "").strip() or "1"
    if not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"MNIST_MLP_PARALLEL_JOBS={jobs} is no number of jobs: give a whole number >= 1, or unset it")
    return min(max(1, cores // int(jobs)), MAX_THREADS)


def _number(name: str) -> int | None:
    """A variable as a number of at most nine digits; None where it is unset or holds something else."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _forget(names: Iterable[str]) -> None:
    for name in names:
        os.environ.pop(name, None)
