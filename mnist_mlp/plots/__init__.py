"""Figures of one run and of several: arrays in, matplotlib Figure out. Only this room imports matplotlib;
others decide when to draw."""

import logging
import os
import sys

# where the home folder cannot be written, matplotlib keeps its list of fonts for this process alone, and warns twice
logging.getLogger("matplotlib").addFilter(
    lambda record: not str(record.msg).startswith(("mkdir -p failed", "Matplotlib created a temporary cache"))
)
try:
    import matplotlib
except ValueError:  # MPLBACKEND names no backend; figures here need none
    os.environ.pop("MPLBACKEND", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        del sys.modules[name]
    import matplotlib  # noqa: F401
