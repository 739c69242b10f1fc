"""The text of --help, from conf/ and the dataclasses."""

from enum import Enum
from textwrap import shorten

from mnist_mlp.cli.conf import choices, conf_folder, groups
from mnist_mlp.config import Config, allowed_values, options

SUMMARY_LENGTH = 90
HELP = """\
Train a plain MLP on MNIST.

  python -m mnist_mlp.train [KEY=VALUE ...]            one run, into outputs/train/<name>
  python -m mnist_mlp.train -m KEY=A,B [KEY=VALUE ...]  a sweep, into outputs/sweeps/<name>

Presets (GROUP=CHOICE):
{groups}

Options (KEY=DEFAULT, then the allowed values):
{options}

--cfg job shows the composed configuration, --version the version; --hydra-help explains Hydra's own flags.
Completion of keys and values in bash: eval "$(mnist-mlp-train -sc install=bash)"
"""


def help_text() -> str:
    """Every group and every option."""
    lines = []
    for key, value, metadata in options(Config()):
        shown = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
        shown = shown.lower() if isinstance(value, bool) else shown
        lines.append(f"  {key}={shown}\n      {allowed_values(value, metadata)}\n      {metadata['meaning']}")
    return HELP.format(
        groups="\n".join(_group_lines(group) for group in groups()),
        options="\n".join(lines),
    )


def _group_lines(group: str) -> str:
    summaries = {
        choice: shorten(first_comment(group, choice), SUMMARY_LENGTH, placeholder=" ...") for choice in choices(group)
    }
    return "\n".join(f"  {f'{group}={choice}':<32} {summary}" for choice, summary in summaries.items())


def first_comment(group: str, choice: str) -> str:
    """What a choice does: the first line of its file, which is a comment on just that."""
    text = (conf_folder() / group / f"{choice}.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    first = next(line for line in lines if line and not line.startswith("@package"))
    return first.removeprefix("What:").strip()
