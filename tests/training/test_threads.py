import pytest
import torch

from mnist_mlp.config import Config, DataConfig, ModelConfig, TrainerConfig
from mnist_mlp.training.processes import cores_of_job
from mnist_mlp.training.trainer import cpu_threads, step_flops, threads_for, threads_of


def test_the_cost_of_a_step_is_that_of_its_matrix_products() -> None:
    # 2 * batch * inputs * outputs each for forward, weight gradients and input gradients (of the first layer, too)
    assert step_flops([784, 256, 10], batch_size=2) == 3 * 2 * 2 * (784 * 256 + 256 * 10)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "on_2", "on_16"),
    [
        ([784, 256, 128, 64, 10], 64, 1, 1),
        ([784, 512, 256, 128, 10], 200, 2, 2),
        ([784, 512, 512, 10], 256, 2, 4),
        ([784, 1024, 1024, 1024, 10], 500, 2, 16),
        ([784, 10], 1, 1, 1),
    ],
)
def test_small_steps_use_one_thread_and_large_ones_more(
    sizes: list[int], batch_size: int, on_2: int, on_16: int
) -> None:
    work = step_flops(sizes, batch_size)
    assert [threads_for(work, cores) for cores in (1, 2, 16)] == [1, on_2, on_16]


def test_the_cores_of_a_job_are_its_allocation_or_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    for jobs, cores in ((1, 8), (3, 2), (20, 1)):
        monkeypatch.setenv("MNIST_MLP_PARALLEL_JOBS", str(jobs))
        assert cores_of_job() == cores
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    assert cores_of_job() == 5


def test_the_processes_of_a_run_share_its_cores_unless_allocated_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "MNIST_MLP_PARALLEL_JOBS"):
        monkeypatch.delenv(name, raising=False)

    def threads(devices: int) -> int:
        wide = ModelConfig(hidden_units=[1024])
        return threads_of(Config(data=DataConfig(batch_size=500), model=wide, trainer=TrainerConfig(devices=devices)))

    assert [threads(devices) for devices in (1, 2, 3, 20)] == [8, 4, 2, 1]
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert threads(2) == 8


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
