"""The presets. Importing this package registers the schema, resolvers and launcher.

The sweeper replaces Hydra's `basic`, so only the commands register it: other applications keep theirs.
"""

from mnist_mlp.cli.compose import register_schema
from mnist_mlp.cli.launcher import register_launcher

register_schema()
register_launcher()
