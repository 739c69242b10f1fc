"""The command line: the Hydra application, the jobs of a sweep, composition errors in one line. Only this room and
`mnist_mlp.train` know Hydra; nothing here trains, measures or draws."""
