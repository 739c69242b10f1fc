from pathlib import Path

import pytest
from settings import config_with

from mnist_mlp.errors import UserError
from mnist_mlp.training import cgroup
from mnist_mlp.training import trainer as memory
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit
from mnist_mlp.training.processes import cores_of_job
from mnist_mlp.training.trainer import check_memory, free_bytes, needed_bytes


def test_the_estimate_includes_weights_gradients_optimizer_state_and_checkpoint() -> None:
    config = config_with({"model.hidden_layers": 1, "model.hidden_units": [5000], "data.batch_size": 1})
    weights = sum(item.numel() for item in DigitClassifier.from_config(config).parameters())
    per_step = 5 * 4 * weights  # weights, gradients, momentum; weights and momentum again in the checkpoint
    assert per_step < needed_bytes(config) < 1.2 * per_step + 4 * memory.EVAL_BATCH * (784 + 2 * 5000)


@pytest.mark.parametrize(
    "settings",
    [
        {"optim.name": "adam"},
        {"trainer.precision": "64-true"},
        {"model.hidden_units": [3000]},
        {"data.batch_size": 60_000},
    ],
)
def test_settings_that_need_more_memory_increase_the_estimate(settings: dict[str, object]) -> None:
    assert needed_bytes(config_with(settings)) > needed_bytes(config_with({}))


def test_a_default_run_fits_into_free_memory() -> None:
    free = free_bytes("cpu")
    assert free is None or free > 2**20
    check_memory(config_with({}), "cpu")


def test_a_run_that_exceeds_free_memory_is_a_one_line_error_and_writes_nothing(tmp_path: Path, idx_root: Path) -> None:
    config = config_with({"data.root": str(idx_root), "model.hidden_layers": 2, "model.hidden_units": [1_000_000]})
    with pytest.raises(UserError, match=r"^model.hidden_layers=2 .* need about [\d,.]+ GiB of memory but .* are free"):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_process_needs_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    one = needed_bytes(config_with({}))
    monkeypatch.setattr(memory, "free_bytes", lambda accelerator: 3 * one // 2)
    check_memory(config_with({}), "cpu")
    with pytest.raises(UserError, match="GiB are free"):
        check_memory(config_with({"trainer.devices": 2}), "cpu")


GROUP = "/sys/fs/cgroup"
V1 = "4:memory:/docker/c0ffee", "3:cpuacct,cpu:/docker/c0ffee", "0::/"
FULL = "anon 2500", "inactive_file 900", "active_file 100", "slab_reclaimable 50"


@pytest.mark.parametrize(
    ("groups", "files", "free", "cpus"),
    [
        (("0::/",), {"memory.max": ("max",), "memory.current": ("2000",), "cpu.max": ("max 100000",)}, None, None),
        (("0::/",), {"memory.max": ("3000",), "memory.current": ("2000",)}, 1000, None),
        (("0::/",), {"memory.max": ("4000",), "memory.current": ("3990",), "memory.stat": FULL}, 960, None),
        (("0::/",), {"cpu.max": ("250000 100000",)}, None, 3),
        (
            ("0::/slurm/job_7/step_0/task_0",),
            {"slurm/job_7/memory.max": ("3000",), "slurm/job_7/memory.current": ("1000",),
             "slurm/memory.max": ("9000",), "slurm/memory.current": ("1000",), "cpu.max": ("max 100000",),
             "slurm/job_7/step_0/task_0/memory.max": ("max",), "slurm/job_7/step_0/task_0/memory.current": ("500",),
             "slurm/job_7/step_0/cpu.max": ("200000 100000",)}, 2000, 2,
        ),
        (  # version 1: a container sees its own group at the mount point, under another name than its host's
            V1,
            {"memory/memory.limit_in_bytes": ("4000",), "memory/memory.usage_in_bytes": ("3000",),
             "memory/memory.stat": ("inactive_file 1", "total_inactive_file 700"),
             "cpu/cpu.cfs_quota_us": ("150000",), "cpu/cpu.cfs_period_us": ("100000",)}, 1700, 2,
        ),
        (V1, {"cpu/docker/cpu.cfs_quota_us": ("-1",), "cpu/docker/cpu.cfs_period_us": ("100000",)}, None, None),
        ((), {"memory.max": ("3000",), "memory.current": ("2000",)}, None, None),
    ],
    ids=["unlimited", "limited", "page cache", "quota", "nested", "version 1", "version 1 unlimited", "unknown"],
)  # fmt: skip
def test_the_limits_of_a_container_apply(
    groups: tuple[str, ...], files: dict[str, tuple[str, ...]], free: int | None, cpus: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    content = {"/proc/self/cgroup": groups, **{f"{GROUP}/{name}": lines for name, lines in files.items()}}
    for module in (memory, cgroup):
        monkeypatch.setattr(module, "read_lines", lambda path: list(content.get(str(path), ())))
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    for name in ("SLURM_CPUS_PER_TASK", "MNIST_MLP_PARALLEL_JOBS"):
        monkeypatch.delenv(name, raising=False)
    assert free_bytes("cpu") == free
    assert cores_of_job() == (cpus or 64)
