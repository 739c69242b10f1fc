"""The command line: the Hydra application, composition and messages; nothing here trains, measures or draws."""
