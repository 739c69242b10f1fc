"""Imported by the fork server alone: what each of its workers then has from its first moment."""

from mnist_mlp.quick_start import quick_start

with quick_start():
    from mnist_mlp.training import artifacts as artifacts
    from mnist_mlp.training import fit as fit
