"""What a command does when nobody reads its output any more, as after `| head`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

EXIT_CODE = 141
"""128 + SIGPIPE: what shells report of any program that ends in this way."""


@contextmanager
def quiet_closed_pipe() -> Iterator[None]:
    """End the program without a traceback where stdout was closed."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()


def end_quietly() -> NoReturn:
    """SystemExit, after which nothing more is written to the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
    sys.exit(EXIT_CODE)
