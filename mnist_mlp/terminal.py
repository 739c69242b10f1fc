"""What the terminal can do, and text made to fit it. Rich is imported only to measure text that is not plain ASCII."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
