"""A worker process: does one task after another, ends with its parent, and prints only through it."""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from mnist_mlp.interruption import SIGNALS, Interrupted, exit_code, stopping_on_signals

PATIENCE = 30.0
"""Seconds that a worker may go on for after its parent has died: time to finish a block of steps."""

Task = Callable[[], Any]
"""Something to do that can be pickled, and so must be found by its module's name."""


def work(tasks: Connection, output: Connection, environment: Mapping[str, str]) -> None:
    """Do the tasks that come through a pipe and send back what each returns, until the pipe closes or a signal comes.

    output: where all that is printed goes, by C code too. environment: in place of the fork server's own.
    """
    os.environ.clear()
    os.environ.update(environment)
    _print_into(output)
    faulthandler.enable()
    with stopping_on_signals(patient=True):
        threading.Thread(target=_end_with_parent, daemon=True).start()
        if hasattr(signal, "pthread_sigmask"):
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


def _print_into(output: Connection) -> None:
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def _end_with_parent() -> None:
    """Stop as by SIGTERM when the parent is gone, `kill -9` included; a worker that does not is ended."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)
