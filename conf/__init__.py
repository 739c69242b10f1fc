"""The presets. Importing this package registers the schema, resolvers and launcher of config.yaml."""

from mnist_mlp.cli.application import register

register()
