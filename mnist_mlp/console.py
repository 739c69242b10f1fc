"""The terminal: its width and styles, output that may fail without losing a run, and errors in one line."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mnist_mlp.errors import UserError, one_line

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x09\x0b-\x1f]")
"""Escape sequences and control characters, which move the cursor, colour the text or link it."""
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def redraws(stream: Any = None) -> bool:
    """Whether the stream, by default stdout, is a terminal that can overwrite its current line."""
    stream = stream or sys.stdout
    try:
        is_terminal = stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False
    unset = "xterm" if os.name == "nt" else "dumb"
    return is_terminal and os.environ.get("TERM", unset) not in ("", "dumb", "unknown")


def colours(stream: Any = None) -> bool:
    """Whether to colour: on a terminal that `redraws`, unless NO_COLOR is set to anything (no-color.org)."""
    return redraws(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, style: str, stream: Any = None) -> str:
    """The text in one of STYLES if the stream takes colours."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colours(stream) and text else text


def shown_path(path: Path) -> str:
    """The path, relative if it is below the current folder."""
    whole, here = path.absolute(), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(path)


def columns() -> int:
    """The current width of the terminal; 80 without one."""
    return shutil.get_terminal_size().columns


def mark(stream: Any = None) -> str:
    """The ellipsis that the stream can show."""
    return "…" if is_unicode(stream) else "..."


def is_unicode(stream: Any = None) -> bool:
    """Whether the stream can encode every character."""
    return str(getattr(stream or sys.stdout, "encoding", None) or "").lower().startswith("utf")


def plain(text: str) -> str:
    """The text without escape sequences and control characters."""
    return CONTROL.sub("", text)


def cells(text: str) -> int:
    """The width on a terminal, on which some characters are twice as wide."""
    text = plain(text)
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, width: int, left_out: str = "…") -> str:
    """The text in at most `width` cells, without its middle if it is too long."""
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size

    kept = width - cells(left_out)
    if kept < 0:
        return left_out[: max(0, width)]
    start, end = (set_cell_size(text, kept - kept // 2), set_cell_size(text[::-1], kept // 2)[::-1])
    return f"{start.rstrip()}{left_out}{end.lstrip()}"


def bar(fraction: float, width: int, stream: Any = None) -> str:
    """A progress bar of `width` cells."""
    done = round(min(max(fraction, 0.0), 1.0) * width)
    full, empty = ("━", "─") if is_unicode(stream) else ("#", "-")
    return styled(full * done, "cyan", stream) + styled(empty * (width - done), "dim", stream)


class GuardedStream:
    """A text stream whose writing never fails: `error` keeps the first error, later output is dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: Exception | None = None
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")  # a terminal without ± gets a question mark

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[..., Any], *arguments: str) -> None:
        try:
            if self.error is None:
                action(*arguments)
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
    """Replace sys.stdout, which may be closed, by a `GuardedStream`, and yield that."""
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
        elif guard.error is not None:  # Python would complain at exit about what is left in the buffer
            with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), before.fileno())


@contextmanager
def command() -> Iterator[None]:
    """Run a command: a user's mistake or an error of the environment ends it in one line on stderr and exit code 1.

    If the output cannot be written (a closed pipe, a full disk), the command completes its work before that error.
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
    """Describe an error of the environment in a line: the file and the system's message."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; choose a smaller network or a smaller batch"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(" ".join(str(error).split()) or type(error).__name__)


def error_summary(error: Exception) -> str:
    """Say in a line why something failed: the message, after the error's class if it is not a `UserError`."""
    if isinstance(error, UserError):
        return str(error)
    return error_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error_line(error)}"


@contextmanager
def ignore_tensorboard_thread_errors() -> Iterator[None]:
    """Print no traceback of an OSError in TensorBoard's writing thread: this thread gets it with its next write."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
