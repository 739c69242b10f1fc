"""Run functions in forks of this process, which import torch only once, to let them fail or be killed."""

import gc
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

ONE_LINE = 3
"""Exit code of a fork that ended with a one-line error."""


@dataclass
class Fork:
    """A running child process in its own process group, like a command in a terminal."""

    pid: int
    output: IO[str]
    start_time: float

    def kill(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the child, or to its whole group."""
        (os.killpg if group else os.kill)(self.pid, number)

    def has_ended_after(self, seconds: float) -> bool:
        """Wait until this long after its start; return whether the child has ended."""
        while True:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            left = self.start_time + seconds - time.monotonic()
            if ended is not None or left <= 0:
                return ended is not None
            time.sleep(min(left, 0.02))

    def end(self, seconds: float = 600) -> tuple[int, str]:
        """Wait for its exit code, negative for a signal, and output; kill it after the timeout."""
        if not self.has_ended_after(time.monotonic() - self.start_time + seconds):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.output.seek(0)
        with self.output:
            return os.waitstatus_to_exitcode(status), self.output.read()


def fork(work: Callable[[], None]) -> Fork:
    """Start a child process that calls this function."""
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- `end` closes it
    read_end, write_end = os.pipe()
    gc.freeze()  # otherwise garbage collection in children would copy all imported objects
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(read_end)
        _work(work, output, write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        pipe.read(1)
    return Fork(child, output, time.monotonic())


def _work(work: Callable[[], None], output: IO[str], write_end: int) -> None:
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        os.close(write_end)
        work()
        code = 0
    except SystemExit as ended:
        print(ended.code if isinstance(ended.code, str) else "", file=sys.stderr)
        code = ended.code or 0 if isinstance(ended.code, int | None) else ONE_LINE
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_a_fork(work: Callable[[], None]) -> tuple[int, str]:
    """Call a function in a child process; return its exit code and output."""
    return fork(work).end()
