"""The HTML page that compares runs: presentation only; statistics and run loading live in `mnist_mlp.compare`."""
