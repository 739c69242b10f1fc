"""Where files are cached that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/mnist_mlp or ~/.cache/mnist_mlp; None where there is no home directory."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist_mlp"
    except RuntimeError:
        return None
