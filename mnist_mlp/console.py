"""What a command shares with its terminal: output that cannot be written loses no run, and errors are one line."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mnist_mlp.errors import UserError, one_line


class GuardedStream:
    """A text stream whose writing never fails: the first error is kept in `error`, and what follows is dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: Exception | None = None
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")  # a terminal without ± gets a question mark

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.error = error

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except ValueError:  # closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_output() -> Iterator[GuardedStream]:
    """Let nothing that is printed meanwhile raise. Yields what stands in for sys.stdout, which may be closed."""
    before = sys.stdout
    guard = GuardedStream(before if before is not None else open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    sys.stdout = guard
    try:
        yield guard
        guard.flush()
    finally:
        sys.stdout = before
        if before is None:
            guard.close()
        elif guard.error is not None:
            _drop_rest(before)


@contextmanager
def command() -> Iterator[None]:
    """Run a command: a user's mistake or an error of the environment ends it in one line on stderr and exit code 1.

    Where the output cannot be written (a closed pipe, a full disk), the work is done all the same, and then said so.
    """
    with guarded_output() as output:
        try:
            yield
        except UserError as error:
            raise SystemExit(f"error: {error}") from None
        except (OSError, MemoryError) as error:
            raise SystemExit(f"error: {error_line(error)}") from None
    if output.error is not None:
        raise SystemExit(f"error: the output cannot be written ({error_line(output.error)}); the work itself is done")


def error_line(error: BaseException) -> str:
    """An error of the environment in a line: the file and what the system says."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; choose a smaller network or a smaller batch"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(" ".join(str(error).split()) or type(error).__name__)


def reason(error: Exception) -> str:
    """Why something failed, in a line: of our own errors the message, of others the kind too."""
    if isinstance(error, UserError):
        return str(error)
    return error_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error_line(error)}"


def _drop_rest(stream: Any) -> None:
    """Send what is still in the buffer nowhere, or Python would complain about it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def quiet_writers() -> Iterator[None]:
    """TensorBoard's writing thread prints no traceback of an OSError: this thread gets it with its next write."""
    before = threading.excepthook

    def report(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before
