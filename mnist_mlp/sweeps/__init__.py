"""The jobs of a sweep: parallel execution in worker processes, progress display and results. Independent of Hydra."""
