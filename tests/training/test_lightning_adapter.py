"""What the adapter uses of Lightning beyond its public interface, and the fallback without it."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, Optimizer, TrainerConfig
from mnist_mlp.training.fit import fit


@pytest.fixture
def config(idx_root: Path) -> Config:
    return Config(
        data=DataConfig(root=str(idx_root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=1, hidden_units=[8]),
        optim=OptimConfig(name=Optimizer.adam, lr=0.01),
        trainer=TrainerConfig(max_epochs=2, steps_per_execution=4, progress=False, figures=False),
    )


def test_lightning_still_counts_manual_steps_where_the_adapter_looks() -> None:
    loop = pl.Trainer(logger=False, enable_checkpointing=False).fit_loop.epoch_loop
    progress = loop.manual_optimization.optim_step_progress
    assert (progress.total.ready, progress.total.completed, progress.current.ready) == (0, 0, 0), (
        "Lightning changed: adapt mnist_mlp/training/lightning_adapter.py"
    )


def test_the_public_fallback_counts_the_same_steps_and_trains_the_same_weights(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = fit(config, tmp_path / "usual")
    monkeypatch.setattr("mnist_mlp.training.trainer.step_progress", lambda module: None)
    fallback = fit(config, tmp_path / "fallback")
    assert fallback.metrics == usual.metrics
    paths = [tmp_path / name / "checkpoints" / "last.ckpt" for name in ("usual", "fallback")]
    one, other = (torch.load(path, weights_only=True) for path in paths)
    assert one["global_step"] == other["global_step"] == 30
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
