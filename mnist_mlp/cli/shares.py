"""How many jobs of a sweep run at once, and which device each worker has."""

from collections.abc import Mapping

from mnist_mlp.training.processes import cores_of_job


def environments_of_workers(jobs: int, n_jobs: int, n_per_gpu: int) -> list[Mapping[str, str]]:
    """The environment variables of each worker."""
    at_once = n_jobs or cores_of_job()
    return [{} for _ in range(min(at_once, jobs))]
