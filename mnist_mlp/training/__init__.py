"""From a configuration to a tested run: LightningModule, metrics, callbacks, Trainer, `fit`; independent of Hydra."""

from mnist_mlp.training.processes import hide_invalid_ranks

with hide_invalid_ranks() as any_hidden:
    if any_hidden:
        import pytorch_lightning  # noqa: F401
