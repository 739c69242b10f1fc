"""The presets. Importing this package registers the schema, resolvers, launcher and sweeper."""

from mnist_mlp.cli.grid import register

register()
