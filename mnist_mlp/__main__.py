"""`python -m mnist_mlp`: which commands there are."""

import ast
import sys
from pathlib import Path
from textwrap import shorten

from mnist_mlp import __version__

SUMMARY_LENGTH = 85
PACKAGE = Path(__file__).parent
USAGE = """\
mnist_mlp {version}: train, compare and trust plain MLPs on MNIST.

Commands (each has --help):
{commands}

In Python: import mnist_mlp; mnist_mlp.fit(mnist_mlp.Config()), load_run, load_sweep, sweep.
First steps: python -m mnist_mlp.train experiment=debug
"""


def commands() -> dict[str, str]:
    """Every command of the package and what it does, from its docstring's "Command: ..."."""
    found = {}
    for path in sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("*/command.py")]):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        if first.startswith("Command: "):
            name = path.parent.name if path.name == "command.py" else path.stem
            found[name] = shorten(first.removeprefix("Command: "), SUMMARY_LENGTH, placeholder=" ...")
    return found


def usage() -> str:
    """What there is to run."""
    lines = [f"  python -m mnist_mlp.{name:<10} {does}" for name, does in commands().items()]
    return USAGE.format(version=__version__, commands="\n".join(lines))


def main() -> None:
    """Entry point of `python -m mnist_mlp`."""
    given = sys.argv[1:]
    if given == ["--version"]:
        print(f"mnist_mlp {__version__}")
    elif not given or set(given) <= {"-h", "--help"}:
        print(usage(), end="")
    elif given[0] in commands():
        sys.exit(f"error: run python -m mnist_mlp.{' '.join(given)}")
    else:
        sys.exit(f"error: no command {given[0]}: there is {', '.join(commands())}, as python -m mnist_mlp.COMMAND")


if __name__ == "__main__":
    main()
