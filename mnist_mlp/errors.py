"""Errors that the user can correct, and the signals that end a program in one line: Ctrl-C, SIGTERM and SIGHUP."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class UserError(ValueError):
    """A mistake the user can correct, or a missing prerequisite. Its message is one line, shown without a traceback.

    Characters that cannot be shown in a line, such as a newline in a value, appear as Python escapes them.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Escape newlines and every other character that a terminal does not show as itself."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(BaseException):
    """The user or the system asked the program to end. Not an Exception, so that no handler takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(stop: BaseException) -> int:
    """Return what shells return: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def describe_signal(stop: BaseException) -> str:
    """Say what interrupted the program."""
    if isinstance(stop, Interrupted) and stop.number != signal.SIGINT:
        return f"interrupted by {signal.Signals(stop.number).name}"
    return "interrupted"


class _SignalState:
    """The signal that arrived, if any, and whether it has to wait."""

    number: int | None = None
    in_block = False
    patient = False


@contextmanager
def stopping_on_signals(patient: bool = False) -> Iterator[None]:
    """Turn the first signal into `Interrupted`, which ends the program with one line and the exit code of shells.

    A second signal ends the process at once: files are written atomically, so it may end anywhere. Signals that the
    process was told to ignore (nohup) stay ignored. Does nothing outside the main thread.

    Args:
        patient: ignore a second signal, since a terminal and the parent process may both send one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _SignalState.number, _SignalState.in_block, _SignalState.patient = None, False, patient
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        yield
    except Interrupted as stop:
        print(f"\n{describe_signal(stop)}", file=sys.stderr)
        sys.exit(exit_code(stop))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def begin_chunk() -> None:
    """Let the first signal wait until `end_chunk`."""
    _SignalState.in_block = True


def end_chunk() -> None:
    """Raise `Interrupted` if a signal arrived since `begin_chunk`, or before it in a finaliser, which swallowed it."""
    was_in_block, _SignalState.in_block = _SignalState.in_block, False
    if was_in_block and _SignalState.number is not None:
        raise Interrupted(_SignalState.number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _SignalState.number is None:
        _SignalState.number = number
        if not _SignalState.in_block:
            raise Interrupted(number)
    elif not _SignalState.patient:
        os._exit(128 + number)
