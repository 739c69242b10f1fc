"""python -m mnist_mlp.benchmark."""

from mnist_mlp.benchmark.command import main

main()
