"""How many jobs of a sweep run at once, and which device each worker has."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_mlp.errors import UserError
from mnist_mlp.sweeps.survey import Survey
from mnist_mlp.training.processes import cores_of_job

WORKER_BYTES = 400 * 2**20
"""What a further worker takes beside the needs of its net: two and their server held 1.31 GiB, the server
alone 0.58 (Pss of smaps_rollup, full MNIST)."""
KEPT_FREE = 0.25
"""Part of the free memory that is left to others."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Limits:
    """The launcher's options: jobs at once (0: as many as there are cores and memory for), and of these on one GPU."""

    n_jobs: int = 0
    n_per_gpu: int = 1

    def __post_init__(self) -> None:
        if self.n_jobs < 0:
            raise UserError(
                f"hydra.launcher.n_jobs={self.n_jobs} is out of range: give a number of jobs, or 0 for as many as "
                "there are cores and memory for"
            )
        if self.n_per_gpu < 1:
            raise UserError(f"hydra.launcher.n_per_gpu={self.n_per_gpu} is out of range: give a whole number >= 1")

    def at_once(self, jobs: int, threads: int, survey: Survey) -> int:
        """How many of these jobs run at once. threads: of the one that has most."""
        if self.n_jobs:
            return min(self.n_jobs, jobs)
        most = [jobs, max(1, cores_of_job() // threads)]
        if survey.free is not None:
            each = WORKER_BYTES + (0 if survey.gpus else survey.bytes_per_job)
            most.append(max(1, int((1 - KEPT_FREE) * survey.free / each)))
        if survey.gpus:
            most.append(survey.gpus * self.n_per_gpu)
        return min(most)


def devices(gpus: int, at_once: int) -> Sequence[Mapping[str, str]]:
    """The environment variables of so many workers: each sees one GPU, in turn; nothing where there are none."""
    if not gpus:
        return [{}] * at_once
    given = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    names = given[:gpus] or list(map(str, range(gpus)))
    return [{VISIBLE: names[number % len(names)]} for number in range(at_once)]
