"""Work done in forks of this process, so that torch is imported once, however many are to fail or be killed."""

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
"""Exit code of a fork that ended in an error which a user sees as one line."""


@dataclass
class Fork:
    """A child process at work; its group is its own, as that of a command in a terminal is."""

    pid: int
    output: IO[str]
    began: float

    def kill(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the child, or to its whole group."""
        (os.killpg if group else os.kill)(self.pid, number)

    def ended_after(self, seconds: float) -> bool:
        """Wait so long since its start; whether the child has ended meanwhile."""
        while True:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            left = self.began + seconds - time.monotonic()
            if ended is not None or left <= 0:
                return ended is not None
            time.sleep(min(left, 0.02))

    def end(self, seconds: float = 600) -> tuple[int, str]:
        """Its exit code, negative for a signal, and what it printed. It is killed when it takes longer than that."""
        if not self.ended_after(time.monotonic() - self.began + seconds):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.output.seek(0)
        with self.output:
            return os.waitstatus_to_exitcode(status), self.output.read()


def fork(work: Callable[[], None]) -> Fork:
    """A child process that does this work, begun."""
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- `end` closes it
    began, going = os.pipe()
    gc.freeze()  # or every child would go through all that was imported, and copy it by that
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(began)
        _work(work, output, going)
    os.close(going)
    with os.fdopen(began) as pipe:
        pipe.read(1)
    return Fork(child, output, time.monotonic())


def _work(work: Callable[[], None], output: IO[str], going: int) -> None:
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        os.close(going)
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
    """The exit code of a child process that does this work, and what it printed."""
    return fork(work).end()
