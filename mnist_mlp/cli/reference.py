"""docs/configuration.md, made by `python -m mnist_mlp.cli.reference > docs/configuration.md`."""

from enum import Enum
from itertools import groupby
from typing import Any

from mnist_mlp.cli.help import first_comment
from mnist_mlp.config import Config, allowed_values, options
from mnist_mlp.presets import choices, groups

HEAD = """\
# Configuration reference

Made by `python -m mnist_mlp.cli.reference` from `mnist_mlp/config.py` and `conf/`; a test compares the two. Every
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
