"""Timing of mnist_mlp's training next to a bare PyTorch loop, the usual Lightning example and the matrix products."""
