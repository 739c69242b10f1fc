"""The text of --help, from conf/ and the dataclasses: groups of options, their defaults below each other."""

from collections.abc import Iterator
from enum import Enum
from itertools import groupby
from textwrap import shorten, wrap
from typing import Any

from mnist_mlp.config import Config, allowed_values, options
from mnist_mlp.presets import choices, conf_folder, groups

WIDTH = 100
SUMMARY_LENGTH = 65
DEFAULT_LENGTH = 12
"""Cells for a default; one that is longer has its line for itself."""
HELP = """\
Train a plain MLP on MNIST.

  python -m mnist_mlp.train [KEY=VALUE ...]             one run, into outputs/train/<name>
  python -m mnist_mlp.train -m KEY=A,B [KEY=VALUE ...]  a sweep, into outputs/sweeps/<name>

Presets, as GROUP=CHOICE
{groups}

Options, as KEY=VALUE; with their defaults, and in brackets the values that are allowed
{options}

--cfg job shows the composed configuration, --version the version; --hydra-help explains Hydra's own
flags. Completion of keys and values in bash: eval "$(mnist-mlp-train -sc install=bash)"
"""


def help_text() -> str:
    """Every group and every option."""
    rows = list(options(Config()))
    indent = max(len(key) for key, _, _ in rows) + 4
    lines: list[str] = []
    for _, group in groupby(rows, lambda row: row[0].rpartition(".")[0]):
        lines.append("")
        for key, value, metadata in group:
            lines += _option_lines(key, value, metadata, indent)
    return HELP.format(
        groups="\n".join(line for group in groups() for line in _group_lines(group)),
        options="\n".join(lines),
    )


def _option_lines(key: str, value: Any, metadata: dict[str, Any], indent: int) -> Iterator[str]:
    shown = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
    shown = (shown.lower() if isinstance(value, bool) else shown) or '""'
    margin = indent + DEFAULT_LENGTH + 2
    words = wrap(
        f"{metadata['meaning']} [{allowed_values(value, metadata)}]",
        WIDTH - margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    start = f"  {key}".ljust(indent) + shown
    if len(shown) > DEFAULT_LENGTH:
        yield start
        start = ""
    for line in words:
        yield start.ljust(margin) + line
        start = ""


def _group_lines(group: str) -> Iterator[str]:
    yield ""
    for choice in choices(group):
        summary = shorten(first_comment(group, choice), SUMMARY_LENGTH, placeholder=" ...")
        yield f"  {f'{group}={choice}':<32} {summary}"


def first_comment(group: str, choice: str) -> str:
    """What a choice does: the first line of its file, which is a comment on just that."""
    text = (conf_folder() / group / f"{choice}.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    first = next(line for line in lines if line and not line.startswith("@package"))
    return first.removeprefix("What:").strip()
