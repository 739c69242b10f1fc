"""Train, compare and trust plain MLPs on MNIST."""

__version__ = "0.1.0"
