"""The command line: the Hydra application, what is composed, errors of composition in one line. Only this room and
`mnist_mlp.train` know Hydra; nothing here trains, measures or draws."""
