"""The command line: the Hydra application, what it composes, and its messages. Only this package and `mnist_mlp.train`
know Hydra; nothing here trains, measures or draws."""
