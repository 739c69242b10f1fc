from pathlib import Path

import pytest
from settings import config_with

from mnist_mlp.errors import UserError
from mnist_mlp.training import trainer as memory
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit
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


@pytest.mark.parametrize(("limit", "free"), [("max", None), ("3000", 1000)])
def test_the_memory_limit_of_a_container_applies(limit: str, free: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"memory.max": [limit], "memory.current": ["2000"]}
    monkeypatch.setattr(memory, "_read_lines", lambda path: files.get(path.name, []))
    assert free_bytes("cpu") == free
