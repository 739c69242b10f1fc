"""What a command shares with its terminal: output that cannot be written loses no run, and errors are one line."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_mlp.errors import UserError, one_line

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x09\x0b-\x1f]")
"""What would move the cursor, or colour the text, or make a link of it."""
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}
WITH_LINKS = {"WezTerm", "vscode", "ghostty", "Hyper", "iTerm.app", "Tabby", "rio"}
"""Values of TERM_PROGRAM of terminals that know hyperlinks (OSC 8)."""


def redraws(stream: Any = None) -> bool:
    """Whether this is a terminal that can replace what is on its line. stream: by default stdout."""
    unset = "xterm" if os.name == "nt" else "dumb"
    return _is_terminal(stream) and os.environ.get("TERM", unset) not in ("", "dumb", "unknown")


def colours(stream: Any = None) -> bool:
    """Whether to colour: on such a terminal, unless NO_COLOR is set to anything (no-color.org)."""
    return redraws(stream) and not os.environ.get("NO_COLOR")


def links(stream: Any = None) -> bool:
    """Whether the terminal is one that is known to show hyperlinks; FORCE_HYPERLINK=1 or 0 decides otherwise."""
    forced = os.environ.get("FORCE_HYPERLINK")
    if forced is not None:
        return forced != "0" and redraws(stream)
    asked = os.environ
    known = (
        asked.get("TERM_PROGRAM") in WITH_LINKS
        or any(asked.get(name) for name in ("WT_SESSION", "KONSOLE_VERSION", "DOMTERM"))
        or asked.get("TERM", "") in ("xterm-kitty", "alacritty", "foot", "xterm-ghostty")
        or _number(asked.get("VTE_VERSION")) >= 5000  # GNOME's and its relatives
    )
    return redraws(stream) and known


def styled(text: str, style: str, stream: Any = None) -> str:
    """The text in one of STYLES, where the stream takes colours."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colours(stream) and text else text


def linked(path: Path, stream: Any = None) -> str:
    """A path as it is shown; where the terminal can, a click on it opens the file."""
    if not links(stream):
        return shown_path(path)
    return f"\x1b]8;;file://{quote(str(path.absolute()))}\x1b\\{shown_path(path)}\x1b]8;;\x1b\\"


def shown_path(path: Path) -> str:
    """Relative where it is below the current folder, since that is shorter."""
    whole, here = path.absolute(), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(path)


def columns() -> int:
    """The width of the terminal now; 80 where there is none."""
    return shutil.get_terminal_size().columns


def mark(stream: Any = None) -> str:
    """What stands for left out letters."""
    return "…" if is_unicode(stream) else "..."


def is_unicode(stream: Any = None) -> bool:
    """Whether the stream takes every letter."""
    return str(getattr(stream or sys.stdout, "encoding", None) or "").lower().startswith("utf")


def plain(text: str) -> str:
    """The text without what would move the cursor, colour it or link it."""
    return CONTROL.sub("", text)


def cells(text: str) -> int:
    """The width on a terminal, where some letters are twice as wide."""
    text = plain(text)
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cropped(text: str, width: int) -> str:
    """What of the text fits into so many cells."""
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, max(0, width)).rstrip()


def shortened(text: str, width: int, left_out: str = "…") -> str:
    """The text in so many cells: where it is too long, its middle is left out."""
    if cells(text) <= width:
        return text
    room = max(0, width - cells(left_out))
    tail = cropped(text[::-1], room // 2)[::-1]
    return f"{cropped(text, room - room // 2)}{left_out}{tail}" if width > 0 else ""


def bar(part: float, width: int, stream: Any = None) -> str:
    """A bar of so many cells, this part of which (in [0, 1]) is done."""
    done = round(min(max(part, 0.0), 1.0) * width)
    full, empty = ("━", "─") if is_unicode(stream) else ("#", "-")
    return styled(full * done, "cyan", stream) + styled(empty * (width - done), "dim", stream)


def _is_terminal(stream: Any) -> bool:
    stream = stream or sys.stdout
    try:
        return bool(stream is not None and stream.isatty())
    except ValueError:  # closed
        return False


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


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


def error_summary(error: Exception) -> str:
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
def ignore_tensorboard_thread_errors() -> Iterator[None]:
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
