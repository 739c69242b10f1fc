"""Terminal output: width and styles, streams that tolerate write errors, and one-line error messages."""

import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mnist_mlp.errors import UserError, one_line

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x09\x0b-\x1f]")
"""Escape sequences and control characters, which move the cursor, color the text or link it."""
PACKAGE = os.path.dirname(os.path.realpath(__file__))
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def can_redraw(stream: Any = None) -> bool:
    """Return whether the stream (default: stdout) is a terminal that can overwrite its current line."""
    stream = stream or sys.stdout
    try:
        is_terminal = stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False
    unset = "xterm" if os.name == "nt" else "dumb"
    return is_terminal and os.environ.get("TERM", unset) not in ("", "dumb", "unknown")


def has_color(stream: Any = None) -> bool:
    """Return whether the stream is a terminal with color; NO_COLOR turns color off (no-color.org)."""
    return can_redraw(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, style: str, stream: Any = None) -> str:
    """Return the text in one of STYLES if the stream has color."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if has_color(stream) and text else text


def shown_path(path: Path) -> str:
    """Return the path, relative if it is inside the current folder."""
    absolute, current = path.absolute(), Path.cwd()
    return str(absolute.relative_to(current)) if absolute.is_relative_to(current) else str(path)


def shell_quoted(word: str) -> str:
    """Quote a word of a command for POSIX shells; on Windows for cmd.exe and PowerShell, which share double quotes."""
    if os.name != "nt":
        return shlex.quote(word)
    return word if re.fullmatch(r"[\w.:=/\\+-]+", word) else '"' + word.replace('"', '\\"') + '"'


def columns() -> int:
    """Return the current width of the terminal, or 80 if there is none."""
    return shutil.get_terminal_size().columns


def ellipsis(stream: Any = None) -> str:
    """Return an ellipsis that the stream can encode."""
    return "…" if is_unicode(stream) else "..."


def is_unicode(stream: Any = None) -> bool:
    """Return whether the stream can encode every character."""
    return str(getattr(stream or sys.stdout, "encoding", None) or "").lower().startswith("utf")


def plain(text: str) -> str:
    """Return the text without escape sequences and control characters."""
    return CONTROL.sub("", text)


def cells(text: str) -> int:
    """Return the width on a terminal, in cells; wide characters take two."""
    text = plain(text)
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, width: int, placeholder: str = "…") -> str:
    """Return the text in at most `width` cells; a placeholder replaces the middle of a longer text."""
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size

    kept = width - cells(placeholder)
    if kept < 0:
        return placeholder[: max(0, width)]
    start, end = (set_cell_size(text, kept - kept // 2), set_cell_size(text[::-1], kept // 2)[::-1])
    return f"{start.rstrip()}{placeholder}{end.lstrip()}"


def bar(fraction: float, width: int, stream: Any = None) -> str:
    """Return a progress bar of `width` cells."""
    done = round(min(max(fraction, 0.0), 1.0) * width)
    full, empty = ("━", "─") if is_unicode(stream) else ("#", "-")
    return styled(full * done, "cyan", stream) + styled(empty * (width - done), "dim", stream)


class GuardedStream:
    """A text stream whose writes never raise: `error` keeps the first error, and later output is dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: Exception | None = None
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")  # prints ? if the encoding lacks ±

    def write(self, text: str) -> int:
        """Write the text, or drop it after an error."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless an error occurred."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[..., Any], *arguments: str) -> None:
        try:
            if self.error is None:
                action(*arguments)
        except (OSError, ValueError) as error:
            self.error = error

    def isatty(self) -> bool:
        """Return whether the stream is an open terminal."""
        try:
            return bool(self._stream.isatty())
        except ValueError:  # closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def encodable_output() -> Iterator[None]:
    """Print ? for characters that the encoding of sys.stdout lacks, in cp1252 for example all of Asia's."""
    stream: Any = sys.stdout
    before = getattr(stream, "errors", None)
    if before is None or not hasattr(stream, "reconfigure"):  # closed, or of a notebook
        yield
        return
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


@contextmanager
def guarded_output() -> Iterator[GuardedStream]:
    """Replace sys.stdout, which may be closed, with a `GuardedStream` and yield it."""
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
        elif guard.error is not None:  # at exit, Python would report an error for the rest of the buffer
            with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), before.fileno())


@contextmanager
def command() -> Iterator[None]:
    """Run a command; user errors and errors of the environment end it with one line on stderr and exit code 1.

    If the output cannot be written (closed pipe, full disk), the command completes its work before it reports that.
    """
    with guarded_output() as output:
        try:
            if os.path.realpath("".join(sys.path[:1])) == PACKAGE:
                module = f"python -m mnist_mlp.{Path(sys.argv[0]).stem}"
                raise UserError(f"run {module} instead, from another folder than mnist_mlp, whose files hide libraries")
            yield
        except UserError as error:
            raise SystemExit(f"error: {error}") from None
        except (OSError, MemoryError) as error:
            raise SystemExit(f"error: {error_line(error)}") from None
    if output.error is not None:
        raise SystemExit(f"error: cannot write the output ({error_line(output.error)}); the command itself completed")


@contextmanager
def naming_file(path: Path, action: str) -> Iterator[None]:
    """Add a file and a participle, such as "written", to an OSError, because the system's message lacks them."""
    try:
        yield
    except OSError as error:
        _name_file(error, str(path), action)
        raise


def _name_file(error: OSError, file: str, action: str) -> None:
    if error.strerror and not error.strerror.startswith("cannot be "):  # it is named already
        hint = "; paths longer than 259 characters need Windows' long paths" * (os.name == "nt" and len(file) > 259)
        error.filename, error.strerror = file, f"cannot be {action} ({error.strerror}){hint}"


def error_line(error: BaseException) -> str:
    """Describe an error of the environment in one line: the file and the system's message."""
    if isinstance(error, MemoryError):
        return "out of memory; use a smaller network or a smaller batch size"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(" ".join(str(error).split()) or type(error).__name__)


def error_summary(error: Exception) -> str:
    """Describe a failure in one line: the message, preceded by the error's class unless it is a `UserError`."""
    if isinstance(error, UserError):
        return str(error)
    return error_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error_line(error)}"


@contextmanager
def ignore_tensorboard_thread_errors(folder: Path) -> Iterator[None]:
    """Name the folder in OSErrors of TensorBoard's writer thread, which its next write raises here; hide tracebacks."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if isinstance(arguments.exc_value, OSError):
            _name_file(arguments.exc_value, str(folder), "written")
        else:
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
