"""Run folders survive interruptions, damage and misuse without incorrect results."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import made_up_digits, write_idx
from power_cut import fit_until_power_cut
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import FIGURES, FolderLock, RunFolder, previous
from mnist_mlp.runs.result import RunResult
from mnist_mlp.training.checkpoint import DamagedCheckpointError, read_checkpoint
from mnist_mlp.training.fit import fit

Interrupt = Callable[..., Path]


@pytest.fixture
def config(idx_root: Path) -> Config:
    return Config(
        data=DataConfig(root=str(idx_root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=1, hidden_units=[12], dropout=0.2, batch_norm=True),
        optim=OptimConfig(lr=0.05),
        trainer=TrainerConfig(max_epochs=4, progress=False, figures=False, threads=1),
    )


@pytest.fixture
def interrupt(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Start the run in a folder, and interrupt it after some epochs."""

    def run(epochs: int = 2, path: Path = tmp_path / "run") -> Path:
        fit_until_power_cut(config, path, monkeypatch, epochs)
        return path

    return run


def outcome(path: Path, result: RunResult) -> object:
    """Return all that must not depend on interruptions: metrics, epochs, rows of metrics.csv, weights, TensorBoard."""
    weights = {
        (name, key): value.tolist()
        for name in ("best", "last")
        for key, value in torch.load(path / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"].items()
    }
    lines = (path / "metrics.csv").read_text().splitlines()
    time_columns = [index for index, name in enumerate(lines[0].split(",")) if "second" in name]
    rows = [[cell for index, cell in enumerate(line.split(",")) if index not in time_columns] for line in lines]
    board = EventAccumulator(str(path / "tensorboard"), purge_orphaned_data=False)
    board.Reload()
    points = {
        tag: sorted((event.step, None if "second" in tag else event.value) for event in board.Scalars(tag))
        for tag in board.Tags()["scalars"]
    }
    return [result.metrics, result.best_epoch, result.epochs, result.confusion_matrix, weights, rows, points]


def test_old_weights_are_never_reported_under_new_settings(config: Config, interrupt: Interrupt) -> None:
    path = interrupt()
    (path / "run.json").unlink()
    changed = replace(config, optim=OptimConfig(lr=0.01))
    with pytest.raises(
        UserError, match=r"last\.ckpt belongs to a run with other settings \(optim\.lr: 0\.05 -> 0\.01\)"
    ):
        fit(changed, path)


def test_a_checkpoint_without_its_run_is_not_resumed(config: Config, interrupt: Interrupt) -> None:
    path = interrupt()
    last = path / "checkpoints/last.ckpt"
    torch.save({name: value for name, value in torch.load(last, weights_only=True).items() if name != "run"}, last)
    with pytest.raises(UserError, match=r"does not identify its run.*resume=never"):
        fit(config, path)


def test_a_run_without_run_json_resumes_and_rewrites_it(config: Config, interrupt: Interrupt, tmp_path: Path) -> None:
    path = interrupt()
    (path / "run.json").unlink()
    unbroken = fit(config, tmp_path / "unbroken")
    assert outcome(path, fit(config, path)) == outcome(tmp_path / "unbroken", unbroken)
    assert RunFolder(path).run() is not None


def test_another_dataset_of_equal_size_is_another_run(config: Config, tmp_path: Path) -> None:
    result = fit(config, tmp_path / "run")
    images, labels = made_up_digits(100, 7)
    for name, values in (("images-idx3", images), ("labels-idx1", labels)):
        shutil.copytree(config.data.root, tmp_path / "other", dirs_exist_ok=True)
        write_idx(tmp_path / f"other/MNIST/raw/t10k-{name}-ubyte", values)
    changed = replace(config, data=replace(config.data, root=str(tmp_path / "other")))
    with pytest.raises(UserError, match=rf"data\.digest: {result.data['digest']} -> "):
        fit(changed, tmp_path / "run")
    moved = tmp_path / "moved"
    shutil.copytree(config.data.root, moved)
    assert fit(replace(config, data=replace(config.data, root=str(moved))), tmp_path / "run") == result


def test_a_result_that_contradicts_run_json_is_not_returned(config: Config, tmp_path: Path) -> None:
    fit(config, tmp_path / "run")
    changed = replace(config, seed=1)
    fit(changed, tmp_path / "other")
    shutil.copy(tmp_path / "other/run.json", tmp_path / "run/run.json")
    for requested in (config, changed):
        with pytest.raises(UserError, match="other settings"):
            fit(requested, tmp_path / "run")


def test_a_moved_run_resumes_with_identical_results(config: Config, interrupt: Interrupt, tmp_path: Path) -> None:
    unbroken = fit(config, tmp_path / "unbroken")
    path = interrupt(3).rename(tmp_path / "moved")
    assert outcome(path, fit(config, path)) == outcome(tmp_path / "unbroken", unbroken)


@pytest.mark.parametrize("case", ["truncated", "one byte", "empty", "missing"])
@pytest.mark.parametrize("names", [["last.ckpt"], ["best.ckpt"], ["last.ckpt", "last.ckpt.previous"]])
def test_damaged_checkpoints_are_detected_and_the_run_has_identical_results(
    config: Config,
    interrupt: Interrupt,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
    names: list[str],
) -> None:
    unbroken = fit(config, tmp_path / "unbroken")
    path = interrupt(3)
    for name in names:
        damage(path / "checkpoints" / name, case)
    capsys.readouterr()
    assert outcome(path, fit(config, path)) == outcome(tmp_path / "unbroken", unbroken)
    lines = [line for line in capsys.readouterr().out.splitlines() if ".ckpt" in line]
    messages = [line for line in lines if "Resuming" not in line]
    assert messages or case == "missing"
    if names == ["last.ckpt"]:
        assert f"Resuming from {path / 'checkpoints/last.ckpt.previous'}" in lines
        assert all(line.endswith("resuming from the previous checkpoint") for line in messages)
    else:
        assert all(line.endswith(("resuming from the previous checkpoint", "restarting")) for line in messages)


def damage(path: Path, case: str) -> None:
    content = bytearray(path.read_bytes())
    if case == "missing":
        path.unlink()
        return
    content[len(content) // 2] ^= 1
    half = content[: len(content) // 2]
    path.write_bytes({"one byte": bytes(content), "empty": b"", "truncated": bytes(half)}[case])


def test_every_flipped_byte_of_a_checkpoint_is_detected(config: Config, interrupt: Interrupt, tmp_path: Path) -> None:
    content = (interrupt(1) / "checkpoints/last.ckpt").read_bytes()
    target = tmp_path / "flipped.ckpt"
    for position in range(0, len(content) - 71, len(content) // 60):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        target.write_bytes(flipped)
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(target)


def test_a_run_that_lost_its_first_epoch_logs_no_point_twice(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = fit(config, tmp_path / "unbroken")

    def power_cut(*arguments: object, **options: object) -> None:
        raise RuntimeError("power cut")

    for function in (
        "mnist_mlp.training.checkpoint.DurableCheckpointIO.save_checkpoint",
        "mnist_mlp.training.artifacts.write_hparams",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(function, power_cut)
            with pytest.raises(RuntimeError, match="power cut"):
                fit(config, tmp_path / "run")
    assert outcome(tmp_path / "run", fit(config, tmp_path / "run")) == outcome(tmp_path / "unbroken", unbroken)


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize("name", ["notes.txt", "metrics.csv", "result.json", "checkpoints/last.ckpt", "figures/x.png"])
def test_a_folder_with_unrelated_files_is_an_error_and_unchanged(
    config: Config, tmp_path: Path, resume: str, name: str
) -> None:
    file = tmp_path / "folder" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"is not empty .*: choose another folder"):
        fit(replace(config, resume=resume), tmp_path / "folder")
    assert file.read_text() == '{"a": 1}'
    assert [path for path in (tmp_path / "folder").rglob("*") if path.is_file()] == [file]


def test_restarting_is_an_error_if_old_files_cannot_be_removed(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(config, tmp_path / "run")
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name == "last.ckpt":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"last\.ckpt cannot be removed \(Permission denied\): the run is not started"):
        fit(replace(config, resume="never"), tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()


def test_resuming_keeps_the_original_records(
    config: Config, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_mlp.runs.settings._commit", lambda: "the first")
    path = interrupt()
    monkeypatch.setattr("mnist_mlp.runs.settings._commit", lambda: "the second")
    (path / ".hydra").mkdir()
    (path / ".hydra/config.yaml").write_text("the first\n")
    result = fit(config, path, records={".hydra/config.yaml": "the second\n", ".hydra/overrides.yaml": "[]\n"})
    assert result.environment["commit"] == "the first"
    assert (path / ".hydra/config.yaml").read_text() == "the first\n"
    assert (path / ".hydra/overrides.yaml").read_text() == "[]\n"


def test_two_processes_cannot_write_to_one_folder(config: Config, tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path / "run").acquire(),
        pytest.raises(UserError, match=rf"is being written by process {os.getpid()} on .* since .*: wait until"),
    ):
        fit(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert fit(config, tmp_path / "run").epochs == 4
    assert not (tmp_path / "run/.lock").exists()


def test_a_lock_is_released_when_its_process_exits(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from mnist_mlp.runs.folder import FolderLock;"
    code += "lock = FolderLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on"):
            FolderLock(tmp_path).acquire()
        holder.kill()
        holder.wait()
        assert (tmp_path / ".lock").is_file()
        FolderLock(tmp_path).acquire().release()
    assert not (tmp_path / ".lock").exists()


def test_a_run_finished_by_another_process_is_returned(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire, results, modified = FolderLock.acquire, [], []

    def acquire_late(self: FolderLock, on_wait: Callable[[str], None] | None = None) -> FolderLock:
        if not results:
            results.append(None)
            results.append(fit(config, tmp_path / "run"))
            modified.append((tmp_path / "run/result.json").stat().st_mtime_ns)
        return acquire(self, on_wait)

    monkeypatch.setattr(FolderLock, "acquire", acquire_late)
    assert fit(config, tmp_path / "run") == results[1]
    assert (tmp_path / "run/result.json").stat().st_mtime_ns == modified[0]


def test_figures_lists_the_figures_of_a_run(config: Config, tmp_path: Path) -> None:
    fit(replace(config, trainer=replace(config.trainer, figures=True, max_epochs=1)), tmp_path / "run")
    assert {path.stem for path in (tmp_path / "run/figures").iterdir()} == set(FIGURES)


def test_a_checkpoint_is_a_zip_archive_that_torch_reads(interrupt: Interrupt) -> None:
    last = interrupt(2) / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    assert torch.load(previous(last), weights_only=True)["epoch"] == 0
    content = last.read_bytes()
    assert content[-71:-64] == b"sha256 "
    assert struct.unpack("<H", content[-73:-71]) == (71,)
