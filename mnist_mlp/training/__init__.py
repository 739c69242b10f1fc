"""From a configuration to a tested run: LightningModule, optimiser step, metrics, callbacks, trainer, `fit`. Knows no
Hydra, and importing it changes no global state."""
