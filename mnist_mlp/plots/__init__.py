"""Figures of one run and of several: arrays in, matplotlib Figure out. No other package imports matplotlib."""

import logging
import os
import sys

# if the home folder is read-only, matplotlib warns twice that its font cache is temporary
logging.getLogger("matplotlib").addFilter(
    lambda record: not str(record.msg).startswith(("mkdir -p failed", "Matplotlib created a temporary cache"))
)
try:
    import matplotlib
except ValueError:  # MPLBACKEND is invalid; these figures need no backend
    os.environ.pop("MPLBACKEND", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        del sys.modules[name]
    import matplotlib  # noqa: F401
