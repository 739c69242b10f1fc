"""Worker processes that do one task after another, isolated: a crash affects only its task.

They fork from multiprocessing's fork server, which has imported what they need, so a new worker starts in milliseconds.
The pools of concurrent.futures and loky break as a whole when a process dies, and do not report which task it had.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from mnist_mlp.errors import SIGNALS, Interrupted, UserError, exit_code, stopping_on_signals

PATIENCE = 30.0
"""Seconds that a worker may go on for after its parent has died: time to finish a block of steps."""

PRELOADED = "mnist_mlp.sweeps.preload"
Task = Callable[[], Any]
"""Something that can be pickled."""


def work(tasks: Connection, output: Connection, environment: Mapping[str, str]) -> None:
    """Do the tasks that come through a pipe and send back what each returns, until the pipe closes or a signal comes.

    output: where all that is printed goes, by C code too. environment: in place of the fork server's own.
    """
    os.environ.clear()
    os.environ.update(environment)
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout, sys.stderr = (
        os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        for descriptor in (1, 2)
    )
    faulthandler.enable()
    with stopping_on_signals(patient=True):
        threading.Thread(target=_end_with_parent, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked in the fork server, which outlives us
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


def _end_with_parent() -> None:
    """Stop as by SIGTERM when the parent is gone, `kill -9` included; a worker that does not is ended."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


@dataclass(frozen=True)
class Crashed:
    """The outcome of a task whose process is gone. why: in words; printed: its last output."""

    why: str
    printed: str


@dataclass
class _Worker:
    """task: the number of what it does now; rest: the beginning of a line; recent: lines of its task."""

    process: BaseProcess
    tasks: Connection
    output: Connection
    slot: int
    environment: Mapping[str, str]
    task: int | None = None
    rest: str = ""
    recent: str = ""

    @property
    def sources(self) -> tuple[Any, ...]:
        """What becomes ready when something has happened."""
        return self.tasks, self.output, self.process.sentinel

    def read(self) -> str | None:
        """What it has printed since; None at the end."""
        parts = []
        with suppress(BlockingIOError):
            while content := os.read(self.output.fileno(), 2**16):
                parts.append(content.decode(errors="replace"))
            return "".join(parts) or None
        return "".join(parts)


class WorkerPool:
    """Worker processes, one by default, each started when it is first needed.

    Raises:
        UserError: The system has no fork server (Windows).
    """

    def __init__(self) -> None:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            raise UserError(
                "jobs cannot run side by side here, since this system has no fork server: run them in turn, by "
                "hydra/launcher=basic or by mnist_mlp.fit"
            )
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOADED])
        self._environments: list[Mapping[str, str]] = [{}]
        self._workers: dict[int, _Worker] = {}

    def start(self) -> None:
        """Start the fork server without waiting until it has imported everything, as the first worker has to."""
        resource_tracker.ensure_running()  # first, for what starts it has SIGINT and SIGTERM unblocked afterwards
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the server inherits this: it never takes a signal
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def resize(self, environments: Sequence[Mapping[str, str]]) -> None:
        """Have workers in these environments from now on; the others, none of which may be at work, end."""
        self._environments = list(environments)
        for worker in list(self._workers.values()):
            if worker.environment not in self._environments[worker.slot : worker.slot + 1]:
                self._remove(worker)

    def submit(self, number: int, task: Task) -> bool:
        """Let a worker do a task; False if none is free now. The task's event carries the number."""
        free = [worker for worker in self._workers.values() if worker.task is None]
        missing = [slot for slot in range(len(self._environments)) if slot not in self._workers]
        if not free and missing:
            free.append(self._start_worker(missing[0]))
        for worker in free:
            with suppress(BrokenPipeError, ConnectionResetError):  # it died meanwhile: `events` will notice
                worker.tasks.send(task)
                worker.task, worker.recent = number, ""
                return True
        return False

    def events(self, timeout: float) -> Iterator[tuple[int, Any]]:
        """Wait, at most `timeout` seconds, and print whole lines of the workers.

        Yields:
            The number of each task that has ended, with what it returned or how it `Crashed`.
        """
        sources = [one for worker in self._workers.values() for one in worker.sources]
        if not sources:
            time.sleep(timeout)
            return
        ready = set(wait(sources, timeout))
        for worker in list(self._workers.values()):
            if not ready.isdisjoint(worker.sources):
                yield from self._events_of(worker, ready)

    def stop(self) -> None:
        """Ask all to finish the block of steps they are in, and wait until they have ended."""
        self._environments = []
        for worker in self._workers.values():
            worker.tasks.close()  # one that waits for a task ends by that
            if worker.task is not None and worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGTERM)
        while self._workers:
            wait([one for worker in self._workers.values() for one in (worker.output, worker.process.sentinel)])
            for worker in list(self._workers.values()):
                if worker.read() is None or not worker.process.is_alive():
                    self._remove(worker)

    def _start_worker(self, slot: int) -> _Worker:
        self.start()
        tasks, theirs = self._context.Pipe()
        output, printed = self._context.Pipe(duplex=False)
        environment = self._environments[slot]
        arguments = (theirs, printed, {**os.environ, **environment})
        process = self._context.Process(target=work, args=arguments, name=f"mnist_mlp-worker-{slot}")
        with _without_main():
            process.start()
        worker = self._workers[slot] = _Worker(process, tasks, output, slot, environment)
        theirs.close()
        printed.close()
        os.set_blocking(output.fileno(), False)
        return worker

    def _events_of(self, worker: _Worker, ready: set[Any]) -> Iterator[tuple[int, Any]]:
        dying = worker.process.sentinel in ready
        self._print(worker, quiet=dying)
        if worker.tasks in ready and worker.task is not None:
            with suppress(EOFError, OSError):
                outcome = worker.tasks.recv()
                task, worker.task = worker.task, None
                yield task, outcome
        if dying:
            worker.process.join()
            self._print(worker, quiet=True)
            self._remove(worker)
            if worker.task is not None:
                yield worker.task, Crashed(_cause(worker.process.exitcode), worker.recent)

    def _print(self, worker: _Worker, quiet: bool) -> None:
        """Pass on what a worker printed. quiet: it is dying, and its last words are for the log of its task."""
        *lines, worker.rest = (worker.rest + (worker.read() or "")).split("\n")
        for line in lines:
            worker.recent += f"{line}\n"
            if not quiet:
                print(line, flush=True)

    def _remove(self, worker: _Worker) -> None:
        worker.tasks.close()  # one that waits for a task ends by that
        worker.process.join()
        worker.output.close()
        del self._workers[worker.slot]


def _cause(code: int | None) -> str:
    """Why a process ended that should not have."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = "; where memory ran out, hydra.launcher.n_jobs=N lets fewer run at once" if name == "SIGKILL" else ""
        return f"its process was killed by signal {-code} ({name}){memory}"
    return f"its process ended by itself, with exit code {code}"


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which multiprocessing would run once more in each worker: it may be a user's script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
