"""Imported by the fork server of a sweep that Hydra composes, before its workers are there."""

from mnist_mlp.startup import quick_start

with quick_start():
    from hydra.core import utils as utils

    from mnist_mlp.cli import compose as compose
    from mnist_mlp.sweeps import preload as preload
