"""docs/configuration.md, made by `python -m mnist_mlp.cli.help > docs/configuration.md`."""

from collections.abc import Iterator
from enum import Enum
from itertools import groupby
from textwrap import shorten, wrap
from typing import Any

from mnist_mlp.config import Config, choices, conf_folder, groups
from mnist_mlp.options import allowed_values, options

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


def value_offers(line: str) -> list[str] | None:
    """What the last word of a command line may become; None where it is not an option followed by "="."""
    word = line.rpartition(" ")[2]
    key, equals, begun = word.partition("=")
    known = {name: (value, metadata) for name, value, metadata in options(Config())}
    if not equals or key not in known:
        return None
    done, comma, part = begun.rpartition(",")
    return [f"{key}={done}{comma}{value}" for value in _values(*known[key]) if value.startswith(part)]


def _values(default: Any, metadata: dict[str, Any]) -> list[str]:
    if isinstance(default, Enum):
        return [choice.name for choice in type(default)]
    if isinstance(default, bool):
        return ["true", "false"]
    return list(metadata["choices"]) or ([] if isinstance(default, list) or default is None else [str(default)])


HEAD = """\
# Configuration reference

Made by `python -m mnist_mlp.cli.help` from `mnist_mlp/config.py` and `conf/`; a test compares the two. Every
option is a key of the command line (`optim.lr=0.005`), of `mnist_mlp.fit({"optim.lr": 0.005})` and an attribute of
`Config` (`config.optim.lr`). Those marked with a star do not affect the result: they are left out of the fingerprint,
by which an earlier run is recognised.
"""


def reference() -> str:
    """Every option by group, then every preset."""
    parts = [HEAD]
    for name, group in groupby(options(Config()), lambda row: row[0].rpartition(".")[0]):
        parts.append(f"\n## {name or 'General'}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n")
        parts += [_row(*option) for option in group]
    parts.append("\n## Presets\n\n| preset | what it is |\n|---|---|\n")
    parts += [f"| `{group}={name}` | {first_comment(group, name)} |\n" for group in groups() for name in choices(group)]
    return "".join(parts)


def _row(key: str, value: Any, metadata: dict[str, Any]) -> str:
    star = "" if metadata["affects_result"] else " *"
    cells = (f"`{key}`{star}", f"`{_default(key, value)}`", allowed_values(value, metadata), metadata["meaning"])
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _default(key: str, value: Any) -> str:
    if key == "data.root":
        return "$MNIST_MLP_DATA or ./data"
    shown = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
    return shown.lower() if isinstance(value, bool) else shown or '""'


if __name__ == "__main__":
    print(reference(), end="")
