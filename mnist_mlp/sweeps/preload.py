"""Imported only by the fork server of a sweep's workers: what each of them has from its first moment."""

from mnist_mlp.startup import quick_start

with quick_start():
    from mnist_mlp.sweeps import jobs as jobs
    from mnist_mlp.training import artifacts as artifacts
    from mnist_mlp.training import fit as fit
