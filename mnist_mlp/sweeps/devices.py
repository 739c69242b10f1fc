"""A run on several devices in worker processes; Lightning would run the user's program again in each."""

from collections.abc import Callable
from functools import partial

from lightning_fabric.plugins.environments.lightning import find_free_network_port

from mnist_mlp.errors import UserError
from mnist_mlp.runs.result import RunResult
from mnist_mlp.sweeps.parallel import POLL_SECONDS
from mnist_mlp.sweeps.processes import Crashed, WorkerPool
from mnist_mlp.training.processes import PARENT_PID_VARIABLE, is_lost_process


def run_on_devices(devices: int, task: Callable[[], RunResult]) -> RunResult:
    """Call `task` in a process per device, print their output, and return the result of rank 0."""
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "NODE_RANK": "0"}
    environment |= {"WORLD_SIZE": str(devices), PARENT_PID_VARIABLE: ""}
    pool = WorkerPool()
    try:
        pool.resize([{**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(devices)])
        for rank in range(devices):
            pool.submit(rank, partial(_attempt, task))
        while True:
            for rank, outcome in pool.events(POLL_SECONDS):
                if isinstance(outcome, Crashed):
                    reason, _, _ = outcome.reason.partition(";")
                    _, title, trace = outcome.output.partition("Traceback")
                    raise RuntimeError(f"rank {rank} has exited: {reason}; call fit again to resume\n{title}{trace}")
                if isinstance(outcome, UserError):
                    raise outcome
                if isinstance(outcome, RunResult) and rank == 0:
                    return outcome
    finally:
        pool.kill()


def _attempt(task: Callable[[], RunResult]) -> RunResult | UserError | None:
    """Return the result or a UserError of `task`; None if another process has exited, which is reported instead."""
    try:
        return task()
    except UserError as error:
        return error
    except RuntimeError as error:
        if is_lost_process(error):
            return None
        raise
