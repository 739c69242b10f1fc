"""From a configuration to a tested run: LightningModule, optimiser step, metrics, callbacks, trainer, `fit`. Knows no
Hydra, and importing it changes no global state."""

from mnist_mlp.training.processes import unusable_ranks_hidden

with unusable_ranks_hidden() as hidden:
    if hidden:
        import pytorch_lightning  # noqa: F401
