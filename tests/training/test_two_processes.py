"""A run in two processes (DDP on the CPU), with the public command."""

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


def is_alive(process: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return process > 0 and ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def command_lines(children: Path) -> str:
    """Read the command lines of the processes listed in a file of /proc."""
    try:
        return "".join(Path(f"/proc/{child}/cmdline").read_text() for child in children.read_text().split())
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


@pytest.mark.integration
def test_two_processes_with_half_the_batch_train_the_same_network_in_one_folder(idx_root: Path, tmp_path: Path) -> None:
    for name, overrides in (("one", ["data.batch_size=32"]), ("two", ["data.batch_size=16", "trainer.devices=2"])):
        process = subprocess.run(
            arguments(idx_root, "trainer.max_epochs=2", f"name={name}", *overrides),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert process.stdout.count("test accuracy") == 1
    assert sorted(path.name for path in (tmp_path / "outputs/train").iterdir()) == ["one", "two"]
    one, two = (tmp_path / "outputs/train" / name for name in ("one", "two"))
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, atol=1e-5, rtol=0)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    assert results[0]["data"] == results[1]["data"]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]
    with (two / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["8", "16"]  # 240 images in batches of 2 x 16
    with np.load(two / "predictions.npz") as saved, np.load(one / "predictions.npz") as expected:
        assert saved["truth"].tolist() == expected["truth"].tolist()
        assert saved["prediction"].tolist() == expected["prediction"].tolist()
        matrix = np.zeros((10, 10), int)
        np.add.at(matrix, (saved["truth"], saved["prediction"]), 1)
    assert matrix.tolist() == results[1]["confusion_matrix"]


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("training", [True, False], ids=["training", "starting"])
@pytest.mark.parametrize(
    ("victim", "number"),
    [("first", signal.SIGKILL), ("second", signal.SIGKILL), ("second", signal.SIGTERM)],
    ids=["first killed", "second killed", "second terminated"],
)
def test_if_one_process_exits_the_other_ends_with_one_line(
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
        wait_until(lambda: not is_alive(second))
        _, errors = running.communicate(timeout=60)
    finally:
        for process in filter(is_alive, (running.pid, second)):
            os.kill(process, signal.SIGKILL)
        running.wait()
    line = "error: another process of this run has exited"
    remedy = f"; continue with resume={folder}" if training else ""
    assert [text for text in errors.splitlines() if text.startswith("error: ")] == [line + remedy]
    assert "Traceback" not in errors
    assert not (folder / "result.json").exists()
    assert (folder / "checkpoints/last.ckpt").is_file() == training


@pytest.mark.faults
def test_resuming_on_two_processes_gives_identical_results(idx_root: Path, tmp_path: Path) -> None:
    """Uses batch norm, whose running means differ between processes."""
    for name, epochs in (("unbroken", 2), ("resumed", 1), ("resumed", 2)):
        process = subprocess.run(
            arguments(
                idx_root, f"trainer.max_epochs={epochs}", f"name={name}", "data.batch_size=16", "trainer.devices=2",
                "model.batch_norm=true", "model.dropout=0.2",
            ),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
    assert "Resuming from" in process.stdout
    folders = [tmp_path / "outputs/train" / name for name in ("unbroken", "resumed")]
    for name, value in weights(folders[0]).items():
        assert torch.equal(weights(folders[1])[name], value), name
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]
