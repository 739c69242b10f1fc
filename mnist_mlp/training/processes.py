"""The rank of this process in its run, the environment variables of launchers, and lost processes.

Launchers (Lightning's, torchrun, srun) set environment variables; batch scripts, notebooks and services set the same
ones. They are used only if they describe a run of `trainer.devices` processes. Imports neither torch nor Lightning.
"""

import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.cgroup import cpu_limit

MAX_THREADS = 256
POLL_SECONDS = 5.0
PARENT_PID_VARIABLE = "MNIST_MLP_STARTED_BY"
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Lightning and torchmetrics convert these by int() at import."""
LAUNCHER_VARIABLES = (
    *RANK_VARIABLES,
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT"),
)


def process_rank(devices: int) -> int:
    """Return the rank of this process in a run on `devices` devices, from 0."""
    if devices == 1:
        return 0
    if launched_by_slurm(devices):
        return _read_number("SLURM_PROCID") or 0
    rank = _read_number("LOCAL_RANK")
    return rank if rank is not None and _read_number("WORLD_SIZE") == devices and rank < devices else 0


def is_launched(devices: int) -> bool:
    """Whether a launcher started this process as one of `devices`."""
    return launched_by_slurm(devices) or _read_number("WORLD_SIZE") == devices > 1


def launched_by_slurm(devices: int) -> bool:
    """Whether srun started this process as one of `devices`; a batch script itself is not such a process."""
    rank = _read_number("SLURM_PROCID")
    return devices > 1 and rank is not None and rank < devices == _read_number("SLURM_STEP_NUM_TASKS")


def is_lost_process(error: RuntimeError) -> bool:
    """Whether gloo or NCCL raised this because another process of the run has exited."""
    return re.search(r"gloo|NCCL|closed by peer|reset by peer", str(error)) is not None


def report_lost_process(folder: RunFolder) -> None:
    """Print the error that another process of the run has exited, and how to continue."""
    remedy = f"; continue with resume={folder.path}" if folder.last_checkpoint.is_file() else ""
    print(f"error: another process of this run has exited{remedy}", file=sys.stderr, flush=True)


def announce_to_children(devices: int) -> None:
    """Pass this process's id to those it will start: it may have exited before they read their parent's id."""
    if devices > 1:
        os.environ[PARENT_PID_VARIABLE] = str(os.getpid())


@contextmanager
def exit_with_parent(folder: RunFolder) -> Iterator[None]:
    """Exit with an error if the parent process exits; during rendezvous this one would wait half an hour for it."""
    parent, done = _read_number(PARENT_PID_VARIABLE) or os.getppid(), threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
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
    """Hide launchers' variables that do not describe this run; restore all of them afterwards."""
    previous = {name: os.environ[name] for name in LAUNCHER_VARIABLES if name in os.environ}
    rank_zero = getattr(sys.modules.get("lightning_fabric.utilities.rank_zero"), "rank_zero_only", None)
    previous_rank = getattr(rank_zero, "rank", 0)
    if not is_launched(devices):
        _unset(LAUNCHER_VARIABLES)
        if rank_zero is not None:
            rank_zero.rank = 0  # Lightning logs and writes on rank 0 only
    try:
        yield
    finally:
        _unset(LAUNCHER_VARIABLES)
        os.environ.update(previous)
        if rank_zero is not None:
            rank_zero.rank = previous_rank


@contextmanager
def hide_invalid_ranks() -> Iterator[bool]:
    """Hide ranks that are not numbers, since importing Lightning fails with them; yield whether there are any."""
    hidden = {name: os.environ[name] for name in RANK_VARIABLES if name in os.environ and _read_number(name) is None}
    _unset(hidden)
    try:
        yield bool(hidden)
    finally:
        os.environ.update(hidden)


def cores_of_job() -> int:
    """Return the CPU threads that SLURM allocated to this process, else its share of the cores in a parallel sweep."""
    allocated = _read_number("SLURM_CPUS_PER_TASK")
    if allocated:
        return min(allocated, MAX_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(cores, cpu_limit() or cores)
    jobs = os.environ.get("MNIST_MLP_PARALLEL_JOBS", "").strip() or "1"
    if not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"MNIST_MLP_PARALLEL_JOBS={jobs} must be an integer >= 1: correct it, or unset it")
    return min(max(1, cores // int(jobs)), MAX_THREADS)


def _read_number(name: str) -> int | None:
    """Read a variable of at most nine digits; None if it is unset or not a number."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _unset(names: Iterable[str]) -> None:
    for name in names:
        os.environ.pop(name, None)
