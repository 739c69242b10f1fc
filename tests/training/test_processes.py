"""Variables of launchers apply only if the run has the processes that they describe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps_in_process import TINY

from mnist_mlp.errors import UserError
from mnist_mlp.training.processes import (
    LAUNCHER_VARIABLES,
    cores_of_job,
    launched_by_slurm,
    launcher_variables,
    process_rank,
)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LAUNCHER_VARIABLES, "SLURM_STEP_NUM_TASKS", "SLURM_CPUS_PER_TASK", "MNIST_MLP_PARALLEL_JOBS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("devices", "variables", "rank"),
    [
        (1, {"LOCAL_RANK": "1"}, 0),
        (1, {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "RANK": "1"}, 0),
        (2, {"LOCAL_RANK": "1"}, 0),
        (2, {"LOCAL_RANK": "1", "WORLD_SIZE": ""}, 0),
        (2, {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}, 0),
        (2, {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, 1),
        (2, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 0),
        (2, {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 1),
    ],
)
def test_a_rank_applies_only_if_the_number_of_processes_matches(
    devices: int, variables: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert process_rank(devices) == rank
    assert launched_by_slurm(devices) is ("SLURM_STEP_NUM_TASKS" in variables)


def test_launcher_variables_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    before = dict(os.environ)
    with launcher_variables(1):
        assert "LOCAL_RANK" not in os.environ
        os.environ["WORLD_SIZE"] = "2"
    assert dict(os.environ) == before
    monkeypatch.setenv("WORLD_SIZE", "2")
    with launcher_variables(2):
        assert os.environ["LOCAL_RANK"] == "1"


def test_cores_come_from_slurm_or_else_the_affinity_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for text, threads in (("3", 3), ("", 8), ("abc", 8), ("0", 8), ("-1", 8), ("9" * 30, 8)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
        assert cores_of_job() == threads
    for text, threads in (("4", 2), ("100", 1), ("", 8)):
        monkeypatch.setenv("MNIST_MLP_PARALLEL_JOBS", text)
        assert cores_of_job() == threads
    for text in ("abc", "0", "-2", "1.5"):
        monkeypatch.setenv("MNIST_MLP_PARALLEL_JOBS", text)
        with pytest.raises(UserError, match="MNIST_MLP_PARALLEL_JOBS"):
            cores_of_job()


@pytest.mark.integration
def test_unrelated_rank_variables_do_not_affect_a_run(idx_root: Path, tmp_path: Path) -> None:
    stray = {"LOCAL_RANK": "1", "RANK": "", "SLURM_PROCID": "abc", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": ""}
    process = subprocess.run(
        [sys.executable, "-m", "mnist_mlp.train", f"data.root={idx_root}", *TINY, "name=x"],
        cwd=tmp_path, env={**os.environ, **stray}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "test accuracy" in process.stdout
    folder = tmp_path / "outputs/train/x"
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert (folder / "run.json").is_file()
