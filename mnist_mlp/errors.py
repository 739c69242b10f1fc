"""Ctrl-C, SIGTERM and SIGHUP: the block of steps that runs is finished, then the program ends with one line."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any


class UserError(ValueError):
    """A mistake the user can correct, or a missing prerequisite. Its message is one line, shown without a traceback.

    What cannot be shown in a line, such as a newline in a value, is written as Python would write it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text with escapes in place of newlines and of everything else that a terminal does not show as itself."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


AGAIN_SECONDS = 0.01
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(BaseException):
    """The user or the system asked the program to end. No Exception, so that nothing takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(stop: BaseException) -> int:
    """As shells have it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def describe_signal(stop: BaseException) -> str:
    """What happened, in words."""
    if isinstance(stop, Interrupted) and stop.number != signal.SIGINT:
        return f"interrupted by {signal.Signals(stop.number).name}"
    return "interrupted"


class _SignalState:
    """The signal that came, if any, and whether it has to wait."""

    number: int | None = None
    in_block = False
    patient = False


@contextmanager
def stopping_on_signals(patient: bool = False) -> Iterator[None]:
    """While this lasts a signal raises `Interrupted`, a second one ends the process at once.

    What is written is written atomically, so it may end anywhere. Signals that the process was told to ignore (nohup)
    stay ignored. Does nothing outside the main thread. At the end an `Interrupted` becomes one line and the exit code.
    patient: a second signal is passed over, since a terminal and the parent may both send one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, report = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook
    _SignalState.number, _SignalState.in_block, _SignalState.patient = None, False, patient
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = partial(_on_unraisable, report)
    try:
        yield
    except Interrupted as stop:
        print(f"\n{describe_signal(stop)}", file=sys.stderr)
        sys.exit(exit_code(stop))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = report


def begin_block() -> None:
    """From here to `end_block` the first signal waits."""
    _SignalState.in_block = True


def end_block() -> None:
    """Raise `Interrupted` where a signal came since `begin_block`."""
    waiting = _SignalState.in_block and _SignalState.number is not None
    _SignalState.in_block = False
    if waiting:
        assert _SignalState.number is not None
        raise Interrupted(_SignalState.number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _SignalState.number is not None:
        if _SignalState.patient:
            return
        os._exit(128 + number)
    _SignalState.number = number
    if not _SignalState.in_block:
        raise Interrupted(number)


def _on_unraisable(report: Callable[["sys.UnraisableHookArgs"], Any], caught: "sys.UnraisableHookArgs") -> None:
    """Send the signal once more that came within a finalizer, where Python drops every exception."""
    if not isinstance(caught.exc_value, Interrupted):
        report(caught)
        return
    _SignalState.number = None
    main = threading.main_thread().ident
    threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, caught.exc_value.number)).start()
