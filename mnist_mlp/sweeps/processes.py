"""Worker processes, isolated from each other: a crash affects only its task.

They fork from multiprocessing's fork server, which has imported what they need, so a new worker starts in milliseconds.
Windows has no fork server, and libraries of macOS crash in forks: there, a worker imports everything itself in about
3 s and is kept for all jobs.
The pools of concurrent.futures and loky break entirely if a process dies, and do not report which task it was running.
"""

import _thread
import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TextIO

from mnist_mlp.errors import SIGNALS, Interrupted, UserError, exit_code, stopping_on_signals

PATIENCE = 30.0
"""Seconds that a worker may continue after its parent has died, to complete a chunk of steps."""

MAX_SPAWNED = 30
"""Maximum number of workers without a fork server: Windows waits for at most 63 objects, and each worker has two."""

PRELOADED = "mnist_mlp.sweeps.preload"
WORKER = "mnist_mlp-worker-"
"""Beginning of the names of workers and of their temporary files."""
Task = Callable[[], Any]
"""A function that can be pickled."""


def work(tasks: Connection, stop: Connection, output: str, environment: Mapping[str, str]) -> None:
    """Run tasks from a pipe and send back what they return, until the pipe or `stop` closes or a signal arrives.

    Redirects stdout and stderr, even of C code, to the file `output`, and replaces the fork server's environment
    variables.
    """
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(output, os.O_WRONLY | os.O_APPEND)
    _remove_file(output)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    sys.stdout, sys.stderr = (
        os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        for descriptor in (1, 2)
    )
    faulthandler.enable()
    with stopping_on_signals(ignore_repeats=True):
        threading.Thread(target=_interrupt_on, args=(stop,), daemon=True).start()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see _blocked_signals
        try:
            while True:
                task = tasks.recv()
                tasks.send(task())
        except (EOFError, BrokenPipeError):
            return
        except (Interrupted, KeyboardInterrupt) as stop:
            raise SystemExit(exit_code(stop)) from None
        finally:
            with suppress(OSError):
                sys.stdout.flush()


def _interrupt_on(stop: Connection) -> None:
    """Interrupt this process if its parent closes `stop` or dies (even by `kill -9`); in the latter case also exit.

    On Windows, SIGTERM from another process would end it immediately.
    """
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel, stop])
    _thread.interrupt_main(signal.SIGTERM)
    wait([parent.sentinel])
    time.sleep(PATIENCE)
    os._exit(1)


def _remove_file(path: str) -> None:
    """Remove a file, unless it is open on Windows."""
    with suppress(OSError):
        os.unlink(path)


@dataclass(frozen=True)
class Crashed:
    """The outcome of a task whose process died: the reason, and what the task had printed."""

    reason: str
    output: str


@dataclass
class _Worker:
    """task: number of the current task; partial_line: unfinished line of output; task_output: lines of the task."""

    process: BaseProcess
    tasks: Connection
    stop: Connection
    output: TextIO
    slot: int
    environment: Mapping[str, str]
    task: int | None = None
    partial_line: str = ""
    task_output: str = ""


class WorkerPool:
    """A pool of worker processes, started on demand."""

    def __init__(self) -> None:
        self._has_server = "forkserver" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
        self._context: Any = multiprocessing.get_context("forkserver" if self._has_server else "spawn")
        self._environments: list[Mapping[str, str]] = [{}]
        self._workers: dict[int, _Worker] = {}
        if multiprocessing.current_process().daemon:
            raise UserError("multiprocessing.Pool's processes cannot start others: use a ProcessPoolExecutor")

    def start(self) -> None:
        """Start the fork server, if the system has one, without waiting for its imports."""
        if not self._has_server:
            return
        self._context.set_forkserver_preload([PRELOADED])
        with _blocked_signals(), _short_temporary_folder():  # the server must not take a signal
            forkserver.ensure_running()

    @property
    def size(self) -> int:
        """Number of workers that have started."""
        return len(self._workers)

    def resize(self, environments: Sequence[Mapping[str, str]]) -> None:
        """Use one worker for each of these environments; stop all others, which must be idle."""
        self._environments = list(environments)[: None if self._has_server else MAX_SPAWNED]
        for worker in list(self._workers.values()):
            if worker.environment not in self._environments[worker.slot : worker.slot + 1]:
                self._remove(worker)

    def submit(self, number: int, task: Task) -> bool:
        """Run a task in an idle worker; return False if all are busy. `events` reports the task's number."""
        idle = [worker for worker in self._workers.values() if worker.task is None]
        missing = [slot for slot in range(len(self._environments)) if slot not in self._workers]
        if not idle and missing:
            idle.append(self._start_worker(missing[0]))
        for worker in idle:
            with suppress(BrokenPipeError, ConnectionResetError):  # it died; `events` handles that
                worker.tasks.send(task)
                worker.task, worker.task_output = number, ""
                return True
        return False

    def events(self, timeout: float) -> Iterator[tuple[int, Any]]:
        """Wait at most `timeout` seconds, and print complete lines of the workers' output.

        Yields:
            The number of each task that has ended, with its return value or `Crashed`.
        """
        handles = [handle for worker in self._workers.values() for handle in (worker.tasks, worker.process.sentinel)]
        if not handles:
            time.sleep(timeout)
            return
        ready = set(wait(handles, timeout))
        for worker in list(self._workers.values()):
            yield from self._events_of(worker, ready)

    def stop(self) -> None:
        """Ask the workers to stop after their current chunk of steps, and wait for them."""
        self._environments = []
        for worker in self._workers.values():
            worker.tasks.close()  # ends an idle worker
            if worker.task is not None:
                worker.stop.close()
        for worker in list(self._workers.values()):
            self._remove(worker)

    def kill(self) -> None:
        """Kill the workers."""
        for worker in list(self._workers.values()):
            worker.process.kill()
            self._remove(worker)

    def _start_worker(self, slot: int) -> _Worker:
        self.start()
        tasks, worker_tasks = self._context.Pipe()
        worker_stop, stop = self._context.Pipe(duplex=False)
        output: Any = tempfile.NamedTemporaryFile(  # noqa: SIM115
            "r", encoding="utf-8", errors="replace", prefix=WORKER, delete=False
        )
        environment = self._environments[slot]
        arguments = (worker_tasks, worker_stop, output.name, {**os.environ, **environment})
        process = self._context.Process(target=work, args=arguments, name=f"{WORKER}{slot}")
        with _without_main(), _blocked_signals():
            process.start()
            worker = self._workers[slot] = _Worker(process, tasks, stop, output, slot, environment)
        worker_tasks.close()
        worker_stop.close()
        return worker

    def _events_of(self, worker: _Worker, ready: set[Any]) -> Iterator[tuple[int, Any]]:
        has_died = worker.process.sentinel in ready
        self._print(worker, quiet=has_died)
        if worker.tasks in ready and worker.task is not None:
            with suppress(EOFError, OSError):
                outcome = worker.tasks.recv()
                task, worker.task = worker.task, None
                yield task, outcome
        if has_died:
            worker.process.join()
            self._print(worker, quiet=True)
            self._remove(worker)
            if worker.task is not None:
                yield worker.task, Crashed(_exit_reason(worker.process.exitcode), worker.task_output)

    def _print(self, worker: _Worker, quiet: bool) -> None:
        """Collect a worker's output for the log of its task, and print it unless `quiet`."""
        *lines, worker.partial_line = (worker.partial_line + worker.output.read()).split("\n")
        for line in lines:
            worker.task_output += f"{line}\n"
            if not quiet:
                print(line, flush=True)

    def _remove(self, worker: _Worker) -> None:
        worker.tasks.close()  # ends an idle worker
        worker.process.join()
        worker.stop.close()
        worker.output.close()
        _remove_file(worker.output.name)
        del self._workers[worker.slot]


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; if memory ran out, reduce hydra.launcher.n_jobs" if name == "SIGKILL" else ""
        return f"its process was killed by signal {-code} ({name}){hint}"
    return f"its process exited with code {code}"


MAX_TEMPDIR = 70
"""Maximum length of the temporary folder in bytes: multiprocessing appends 32, and macOS allows 103 for a socket."""


@contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """Replace a temporary folder whose path is too long for the fork server's socket by /tmp."""
    before, folder = tempfile.tempdir, tempfile.gettempdir()
    tempfile.tempdir = "/tmp" if len(os.fsencode(folder)) > MAX_TEMPDIR else folder
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Start processes that block signals, until they can handle them; Windows cannot."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # first, because starting it unblocks SIGINT and SIGTERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, possibly a user's script, which multiprocessing would run again in each worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
