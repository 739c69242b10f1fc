"""A run on two processes (DDP on the CPU), by the public command."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_mlp.training.processes import LAUNCHER_VARIABLES

SETTINGS = (
    *("model.hidden_layers=1", "model.hidden_units=[8]", "data.val_size=60", "optim.lr=0.05", "trainer.figures=false"),
    *("trainer.accelerator=cpu", "trainer.threads=1"),
)


def arguments(idx_root: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "mnist_mlp.train", f"data.root={idx_root}", *SETTINGS, *overrides]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}


def alive(process: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return process > 0 and ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def command_lines(children: Path) -> str:
    """The command lines of the processes that are listed in a file of /proc."""
    try:
        return "".join(Path(f"/proc/{child}/cmdline").read_text() for child in children.read_text().split())
    except OSError:
        return ""


def wait_until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not there():
        assert time.monotonic() < until
        time.sleep(0.1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


@pytest.mark.integration
def test_two_processes_of_half_the_batch_train_the_same_net_in_one_folder(idx_root: Path, tmp_path: Path) -> None:
    for name, overrides in (("one", ["data.batch_size=32"]), ("two", ["data.batch_size=16", "trainer.devices=2"])):
        done = subprocess.run(
            arguments(idx_root, "trainer.max_epochs=2", f"name={name}", *overrides),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("test accuracy") == 1
    assert sorted(path.name for path in (tmp_path / "outputs/train").iterdir()) == ["one", "two"]
    one, two = (tmp_path / "outputs/train" / name for name in ("one", "two"))
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, atol=1e-5, rtol=0)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    assert results[0]["data"] == results[1]["data"]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]
    with (two / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["8", "16"]  # 240 images by 2 x 16, once each
    with np.load(two / "predictions.npz") as saved, np.load(one / "predictions.npz") as alone:
        assert saved["truth"].tolist() == alone["truth"].tolist()
        assert saved["prediction"].tolist() == alone["prediction"].tolist()
        matrix = np.zeros((10, 10), int)
        np.add.at(matrix, (saved["truth"], saved["prediction"]), 1)
    assert matrix.tolist() == results[1]["confusion_matrix"]


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("training", [True, False], ids=["training", "starting"])
@pytest.mark.parametrize(
    ("victim", "number"),
    [("first", signal.SIGKILL), ("second", signal.SIGKILL), ("second", signal.SIGTERM)],
    ids=["first killed", "second killed", "second asked to end"],
)
def test_a_process_that_ends_takes_the_other_with_it_in_a_line(
    idx_root: Path, tmp_path: Path, victim: str, number: signal.Signals, training: bool
) -> None:
    folder = tmp_path / "outputs/train/x"
    running = subprocess.Popen(
        arguments(idx_root, "trainer.max_epochs=100000", "name=x", "data.batch_size=16", "trainer.devices=2"),
        cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    children, second = Path(f"/proc/{running.pid}/task/{running.pid}/children"), 0
    try:
        wait_until(lambda: running.poll() is not None or "train_ddp_process_1" in command_lines(children))
        (second,) = map(int, children.read_text().split())
        if training:
            wait_until(lambda: (folder / "checkpoints/last.ckpt").is_file() or running.poll() is not None)
        assert running.poll() is None, running.communicate()[1]
        os.kill(running.pid if victim == "first" else second, number)
        wait_until(lambda: not alive(second))
        _, errors = running.communicate(timeout=60)
    finally:
        for process in filter(alive, (running.pid, second)):
            os.kill(process, signal.SIGKILL)
        running.wait()
    line = "error: another process of this run has exited"
    go_on = f"; continue with resume={folder}" if training else ""
    assert [shown for shown in errors.splitlines() if shown.startswith("error: ")] == [line + go_on]
    assert "Traceback" not in errors
    assert not (folder / "result.json").exists()
    assert (folder / "checkpoints/last.ckpt").is_file() == training


@pytest.mark.faults
def test_a_run_that_goes_on_on_two_processes_equals_the_unbroken_one(idx_root: Path, tmp_path: Path) -> None:
    """With batch norm, whose running means each process has of its own images."""
    for name, epochs in (("unbroken", 2), ("resumed", 1), ("resumed", 2)):
        done = subprocess.run(
            arguments(
                idx_root, f"trainer.max_epochs={epochs}", f"name={name}", "data.batch_size=16", "trainer.devices=2",
                "model.batch_norm=true", "model.dropout=0.2",
            ),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "Resuming from" in done.stdout
    folders = [tmp_path / "outputs/train" / name for name in ("unbroken", "resumed")]
    for name, value in weights(folders[0]).items():
        assert torch.equal(weights(folders[1])[name], value), name
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]
