"""The presets. Importing this registers with Hydra what config.yaml names: schema, resolvers, launcher and sweeper."""

from mnist_mlp.cli.application import register

register()
