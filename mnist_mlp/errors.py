"""Errors that the user can correct, and signals (SIGINT, SIGTERM, SIGHUP) that end a program with one line."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class UserError(ValueError):
    """A mistake the user can correct, or a missing prerequisite.

    Commands print its one-line message without a traceback. Newlines and unprintable characters are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    def _render_traceback_(self) -> list[str]:  # IPython calls it for an uncaught exception
        return [f"{type(self).__name__}: {self}"]


def one_line(text: str) -> str:
    """Escape newlines and other unprintable characters as Python does."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


class Interrupted(BaseException):
    """A signal asks the program to end, or the time for a sweep is over.

    Not an Exception, so handlers of failures do not catch it.
    """

    def __init__(self, number: int, reason: str = "") -> None:
        super().__init__(number, reason)
        self.number, self.reason = number, reason


def keyboard_interrupt(message: str) -> KeyboardInterrupt:
    """Return one of which IPython shows only the message; not a subclass, for which Python's exit code would be 1."""
    error = KeyboardInterrupt(message)
    vars(error)["_render_traceback_"] = lambda: [f"KeyboardInterrupt: {message}"]
    return error


def exit_code(stop: BaseException) -> int:
    """Return the exit code that shells use: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def describe_signal(stop: BaseException) -> str:
    """Describe what interrupted the program."""
    if isinstance(stop, Interrupted) and stop.reason:
        return stop.reason
    if isinstance(stop, Interrupted) and stop.number != signal.SIGINT:
        return f"interrupted by {signal.Signals(stop.number).name}"
    return "interrupted"


class _SignalState:
    """The signal that arrived, if any, and how to handle it."""

    number: int | None = None
    in_chunk = False
    ignores_repeats = False


@contextmanager
def stopping_on_signals(ignore_repeats: bool = False) -> Iterator[None]:
    """Turn the first signal into `Interrupted`, which ends the program with a one-line message and a shell's exit code.

    A second signal ends the process immediately, which is safe at any point because files are written atomically.
    Signals that are already ignored (nohup) stay ignored. Does nothing outside the main thread.

    Args:
        ignore_repeats: ignore a second signal, because the terminal and the parent process may both send one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _SignalState.number, _SignalState.in_chunk, _SignalState.ignores_repeats = None, False, ignore_repeats
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        yield
    except Interrupted as stop:
        print(f"\n{describe_signal(stop)}", file=sys.stderr)
        sys.exit(exit_code(stop))
    finally:
        _SignalState.number = None  # or the next training in this process would end, too
        for number, handler in before.items():
            signal.signal(number, handler)


def begin_chunk() -> None:
    """Defer the first signal until `end_chunk`."""
    _SignalState.in_chunk = True


def end_chunk() -> None:
    """Raise `Interrupted` if a signal arrived since `begin_chunk`, or earlier in a finalizer, which swallowed it."""
    was_in_chunk, _SignalState.in_chunk = _SignalState.in_chunk, False
    if was_in_chunk and _SignalState.number is not None:
        raise Interrupted(_SignalState.number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _SignalState.number is None:
        _SignalState.number = number
        if not _SignalState.in_chunk:
            raise Interrupted(number)
    elif not _SignalState.ignores_repeats:
        os._exit(128 + number)
