"""Command: train and test an MLP, or run a sweep with -m."""

import os
import sys

from mnist_mlp import __version__
from mnist_mlp.console import command
from mnist_mlp.errors import stopping_on_signals


def main() -> None:
    """Entry point of `python -m mnist_mlp.train` and of the script `mnist-mlp-train`."""
    with stopping_on_signals(), command() as output:
        if {"-h", "--help"} & set(sys.argv[1:]):  # before Hydra composes the configuration
            from mnist_mlp.cli.help import help_text  # deferred: needs neither Hydra nor the comparison of runs

            print(help_text(), end="")
        elif sys.argv[1:] == ["--version"]:
            print(f"mnist_mlp {__version__}")
        elif "query=bash" in sys.argv and (word := os.environ.get("COMP_LINE", "").rpartition(" ")[2]).count("="):
            from mnist_mlp.cli.help import completions  # Hydra completes values of groups, but not of options

            print(" ".join(completions(word)))
        else:
            output.announce_start()
            from mnist_mlp.cli.application import run  # deferred: Ctrl-C during this import ends in one line, too

            run()


if __name__ == "__main__":
    main()
