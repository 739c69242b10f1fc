"""`python -m mnist_mlp`: run a command or list them all."""

import ast
import runpy
import sys
from pathlib import Path
from textwrap import shorten

from mnist_mlp import __version__

SUMMARY_LENGTH = 85
PACKAGE = Path(__file__).parent


def commands() -> dict[str, str]:
    """Return the package's commands with their summaries, from docstrings that begin with "Command: "."""
    summaries = {}
    for path in sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__main__.py")]):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        if first.startswith("Command: "):
            name = path.parent.name if path.name == "__main__.py" else path.stem
            summaries[name] = shorten(first.removeprefix("Command: "), SUMMARY_LENGTH, placeholder=" ...")
    return summaries


def main() -> None:
    """Entry point of `python -m mnist_mlp`: run a command like `python -m mnist_mlp.COMMAND`, or list them."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        print(f"mnist_mlp {__version__}")
    elif name in ("-h", "--help"):
        rows = [f"  {command:<12} {summary}" for command, summary in commands().items()]
        overview = (PACKAGE / "cli" / "templates" / "commands.txt").read_text(encoding="utf-8")
        print(overview.format(version=__version__, commands="\n".join(rows)), end="")
    elif name in commands():
        del sys.argv[1]
        runpy.run_module(f"mnist_mlp.{name}", run_name="__main__", alter_sys=True)
    else:
        sys.exit(f"error: unknown command {name}: use one of {', '.join(commands())}")


if __name__ == "__main__":
    main()
