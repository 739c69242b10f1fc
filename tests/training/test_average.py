"""Averaged weights: their values, and where they are used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from power_cut import fit_until_power_cut
from settings import config_with
from small_steps import classifier, epochs
from torch import Tensor

from mnist_mlp.data.mnist import load_digits
from mnist_mlp.serve.evaluate import evaluate_run
from mnist_mlp.serve.nets import load_classifier
from mnist_mlp.training.average import WeightAverage
from mnist_mlp.training.fast import run_eagerly
from mnist_mlp.training.fit import fit


@pytest.fixture
def settings(idx_root: Path) -> dict[str, Any]:
    return {
        "data.root": str(idx_root),
        "data.val_size": 60,
        "data.batch_size": 16,
        "model.hidden_layers": 1,
        "model.hidden_units": [12],
        "model.batch_norm": True,
        "model.dropout": 0.1,
        "optim.lr": 0.05,
        "optim.ema": 0.9,
        "trainer.max_epochs": 3,
        "trainer.progress": False,
        "trainer.figures": False,
    }


def test_the_average_is_the_weighted_mean_of_the_weights_after_each_update() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    average, states = WeightAverage(net, 0.7), []
    for _ in range(5):
        with torch.no_grad():
            for weights in net.parameters():
                weights.add_(torch.randn_like(weights))
        net(torch.randn(8, 3).double())  # updates the running mean and variance
        average.update()
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    coefficients = torch.tensor([0.7**age for age in range(4, -1, -1)]).double()
    with average.applied():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                history = torch.stack([state[name] for state in states])
                torch.testing.assert_close(value, torch.tensordot(coefficients / coefficients.sum(), history, 1))
    for name, value in net.state_dict().items():
        assert torch.equal(value, states[-1][name]), "the trained weights are not restored"


def test_averaging_does_not_affect_training() -> None:
    trained = []
    for ema in (0.0, 0.9):
        model, step, _ = classifier(**{"model.batch_norm": True, "model.dropout": 0.2, "optim.ema": ema})
        epochs(run_eagerly(step))
        trained.append(model.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_the_average_is_validated_tested_checkpointed_and_loaded(settings: dict[str, Any], tmp_path: Path) -> None:
    config = config_with({**settings, "trainer.test_curve": True})
    result = fit(config, tmp_path / "run")
    saved = load(tmp_path / "run/checkpoints/best.ckpt")
    loaded = load_classifier(tmp_path / "run/checkpoints/best.ckpt")
    assert torch.equal(loaded.mlp.layers[0].weight, saved["state_dict"]["mlp.layers.0.weight"])
    trained = saved["average"]["trained"]["mlp.layers.0.weight"]
    assert not torch.equal(loaded.mlp.layers[0].weight, trained)
    for split in ("val", "test"):
        metrics = evaluate_run(tmp_path / "run", split).metrics
        assert metrics["loss"] == pytest.approx(result.metrics[f"{split}/loss"], rel=1e-6)
    digits = load_digits("mnist", config.data.root)
    lines = (tmp_path / "run/metrics.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[result.best_epoch].split(","), strict=True))
    accuracy = (loaded.predict(digits.test_images) == digits.test_labels).double().mean().item()
    assert float(row["test/accuracy"]) == pytest.approx(accuracy)


def test_with_almost_no_decay_the_average_is_the_trained_network(settings: dict[str, Any], tmp_path: Path) -> None:
    fit(config_with({**settings, "optim.ema": 1e-9}), tmp_path / "averaged")
    fit(config_with({**settings, "optim.ema": 0.0}), tmp_path / "plain")
    averaged, plain = (load(tmp_path / name / "checkpoints/last.ckpt") for name in ("averaged", "plain"))
    assert "average" not in plain
    for name, value in plain["state_dict"].items():
        torch.testing.assert_close(averaged["state_dict"][name], value)


@pytest.mark.parametrize("val_size", [60, 0])
def test_an_interrupted_run_resumes_with_trained_and_averaged_weights(
    settings: dict[str, Any], val_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with({**settings, "data.val_size": val_size})
    unbroken = fit(config, tmp_path / "unbroken")
    fit_until_power_cut(config, tmp_path / "broken", monkeypatch)
    assert fit(config, tmp_path / "broken").metrics == unbroken.metrics
    for name in ("best", "last"):
        first, second = (load(tmp_path / run / f"checkpoints/{name}.ckpt") for run in ("unbroken", "broken"))
        assert to_lists(first) == to_lists(second)


def load(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def to_lists(checkpoint: dict[str, Any]) -> dict[str, list[Any]]:
    """Return weights, averages and their count, exactly."""
    tensors: dict[str, Tensor] = {
        **checkpoint["state_dict"],
        **{f"trained {name}": value for name, value in checkpoint["average"]["trained"].items()},
        "updates": checkpoint["average"]["updates"],
    }
    return {name: value.tolist() for name, value in tensors.items()}
