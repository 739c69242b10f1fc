"""The text of --help, from conf/ and the dataclasses."""

from enum import Enum

from mnist_mlp.cli.conf import choices, groups
from mnist_mlp.config import Config, allowed_values, options

HELP = """\
Train a plain MLP on MNIST.

  python -m mnist_mlp.train [KEY=VALUE ...]            one run, into outputs/train/<name>
  python -m mnist_mlp.train -m KEY=A,B [KEY=VALUE ...]  a sweep, into outputs/sweeps/<name>

Presets (GROUP=CHOICE):
{groups}

Options (KEY=DEFAULT, then the allowed values):
{options}

--cfg job shows the composed configuration; --hydra-help explains Hydra's own flags.
"""


def help_text() -> str:
    """Every group and every option."""
    lines = []
    for key, value, metadata in options(Config()):
        shown = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
        shown = shown.lower() if isinstance(value, bool) else shown
        lines.append(f"  {key}={shown}\n      {allowed_values(value, metadata)}\n      {metadata['meaning']}")
    return HELP.format(
        groups="\n".join(f"  {group}: {', '.join(choices(group))}" for group in groups()),
        options="\n".join(lines),
    )
