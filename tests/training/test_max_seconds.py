"""trainer.max_seconds: the run stops after the chunk in hand, is tested, says so, and can be extended exactly."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from outcomes import outcome

from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from mnist_mlp.data.module import DigitData
from mnist_mlp.errors import UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult, closing_table
from mnist_mlp.runs.settings import describe
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit
from mnist_mlp.training.trainer import cpu_threads

STEPS = 15
"""Steps per epoch: a chunk of 10 and one of 5."""


@pytest.fixture
def config(idx_root: Path) -> Config:
    return Config(
        data=DataConfig(root=str(idx_root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=1, hidden_units=[12], dropout=0.2, batch_norm=True),
        optim=OptimConfig(lr=0.05),
        trainer=TrainerConfig(max_epochs=4, progress=False, figures=False, threads=1),
    )


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by one second whenever it is read: the first epoch ends at 6."""
    seconds = itertools.count(0.0)
    monkeypatch.setattr("mnist_mlp.training.callbacks.time", SimpleNamespace(perf_counter=lambda: next(seconds)))


def limited(config: Config, seconds: float, **changes: Any) -> Config:
    return replace(config, trainer=replace(config.trainer, max_seconds=seconds, **changes))


def steps(path: Path) -> int:
    """Return the optimizer steps of a run, from metrics.csv."""
    return int((path / "metrics.csv").read_text().splitlines()[-1].split(",")[1])


def stopped(config: Config, path: Path) -> RunResult:
    """Train until the time ends within the second epoch."""
    result = fit(limited(config, 7.0), path)
    assert steps(path) == STEPS + 10
    return result


def test_a_run_stops_after_the_chunk_in_hand_and_is_tested(config: Config, tmp_path: Path) -> None:
    config = replace(config, data=replace(config.data, val_size=0, subset=0.8))  # 240 images; the last weights count
    result = stopped(config, tmp_path)
    assert result.status == "finished"
    assert result.stopped_at_epoch == 1.5  # of two chunks per epoch
    assert RunFolder(tmp_path).result() == result
    assert "STOPPED by trainer.max_seconds=7 at epoch 1.50 of 4" in closing_table(result, tmp_path)

    torch.manual_seed(config.seed)
    data, model = DigitData.from_config(config), DigitClassifier.from_config(config)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"accelerator": "cpu", "enable_model_summary": False, "limit_val_batches": 0}
    with cpu_threads(1):
        pl.Trainer(max_steps=STEPS + 10, **options).fit(model, data)
    weights = torch.load(RunFolder(tmp_path).best_checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seconds", [100.0, 0.0])
def test_more_time_gives_the_result_of_a_run_without_interruption(
    config: Config, tmp_path: Path, seconds: float
) -> None:
    stopped(config, tmp_path / "run")
    extended = fit(limited(config, seconds), tmp_path / "run")
    assert extended.stopped_at_epoch is None
    fit(limited(config, seconds), tmp_path / "unbroken")
    run, unbroken = outcome(tmp_path / "run"), outcome(tmp_path / "unbroken")
    assert run["result.json"].pop("evaluations", None) != unbroken["result.json"].pop("evaluations", ())
    assert {name: run.get(name) for name in unbroken if "previous" not in name} == {
        name: content for name, content in unbroken.items() if "previous" not in name
    }


def test_a_schedule_over_all_epochs_can_be_given_more_time_but_not_more_epochs(config: Config, tmp_path: Path) -> None:
    config = replace(config, optim=replace(config.optim, schedule="cosine"))
    stopped(config, tmp_path)
    with pytest.raises(UserError, match=r"optim\.schedule=cosine"):
        fit(limited(config, 9.0, max_epochs=8), tmp_path)
    assert fit(limited(config, 100.0), tmp_path).epochs == 4


def test_a_run_that_ends_within_its_first_epoch_can_be_extended(config: Config, tmp_path: Path) -> None:
    assert fit(limited(config, 1e-9), tmp_path).stopped_at_epoch == 0.5
    assert fit(limited(config, 7.0), tmp_path).stopped_at_epoch == 1.5


def test_less_time_is_refused_and_the_same_time_returns_the_result(config: Config, tmp_path: Path) -> None:
    result = stopped(config, tmp_path)
    assert fit(limited(config, 7.0), tmp_path) == result
    with pytest.raises(UserError, match=r"max_seconds=7\.0, .* cannot be shortened"):
        fit(limited(config, 3.0), tmp_path)


def test_a_run_killed_in_its_test_trains_no_longer(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(pl.Trainer, "test", lambda *_, **__: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                fit(limited(config, 6.0), tmp_path)  # at the end of the first epoch
    result = fit(limited(config, 6.0), tmp_path)
    assert (steps(tmp_path), result.stopped_at_epoch) == (STEPS, 1.0)


def test_the_option_leaves_the_fingerprints_of_other_runs(config: Config) -> None:
    values = to_dict(config)
    fingerprint = describe(values, [])["fingerprint"]
    del values["trainer"]["max_seconds"]
    assert describe(values, [])["fingerprint"] == fingerprint
    assert describe(to_dict(limited(config, 7.0)), [])["fingerprint"] != fingerprint
