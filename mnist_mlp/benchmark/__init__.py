"""Benchmark of mnist_mlp's training against a bare PyTorch loop, a typical Lightning example and matrix products."""
