"""Figures of one run and of several: arrays in, matplotlib Figure out. Only this room imports matplotlib;
others decide when to draw."""

import os
import sys

try:
    import matplotlib
except ValueError:  # MPLBACKEND names no backend; figures here need none
    os.environ.pop("MPLBACKEND", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        del sys.modules[name]
    import matplotlib  # noqa: F401
