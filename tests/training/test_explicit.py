"""Explicit gradients have the bits of autograd's, and give way to autograd where they do not apply."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from settings import config_with
from small_steps import CHOICES, IMAGES, LABELS, classifier, epochs

from mnist_mlp.model import ACTIVATIONS
from mnist_mlp.training.explicit import ExplicitObjective, explicit_objective
from mnist_mlp.training.fast import FastClassifier, run_eagerly
from mnist_mlp.training.fit import fit
from mnist_mlp.training.step import Objective

CASES = {name: settings for name, settings in CHOICES.items() if "optim.vat" not in settings}
CASES |= {name: {"model.activation": name, "model.hidden_units": [16, 12]} for name in ACTIVATIONS}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_explicit_training_equals_autograd_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    outcomes = []
    for choose in (explicit_objective, lambda objective: objective):
        model, step, _ = classifier(dtype=dtype, **CASES[name])
        step.objective = choose(step.objective)
        assert (type(step.objective) is ExplicitObjective) == (choose is explicit_objective)
        losses, logits = epochs(run_eagerly(step), 1)
        outcomes.append([*losses, *logits, *model.state_dict().values()])
    assert all(torch.equal(explicit, autograd) for explicit, autograd in zip(*outcomes, strict=True))


def _register_hook(objective: Any) -> None:
    objective.model.mlp.layers[0].register_forward_hook(lambda *arguments: None)


def _freeze(objective: Any) -> None:
    objective.model.mlp.layers[0].weight.requires_grad_(False)


def _evaluate(objective: Any) -> None:
    objective.model.mlp.layers[1].eval()


def _parametrize(objective: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(objective.model.mlp.layers[0])


def _replace(objective: Any) -> None:
    objective.model.mlp = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))


def _set(index: int, layer: torch.nn.Module) -> Callable[[Any], None]:
    return lambda objective: objective.model.mlp.layers.__setitem__(index, layer)


def _transpose(objective: Any) -> None:
    objective.model.mlp.layers[2].weight.data = torch.randn(16, 16).t()


def _share(objective: Any) -> None:
    objective.model.mlp.layers.insert(2, objective.model.mlp.layers[2])


CHANGES = {
    **{change.__name__: change for change in (_register_hook, _freeze, _evaluate, _parametrize, _replace, _transpose)},
    "shared": _share,
    "slope": _set(1, torch.nn.LeakyReLU(0.2)),
    "approximation": _set(1, torch.nn.GELU("tanh")),
    "in place": _set(1, torch.nn.SiLU(inplace=True)),
    "no bias": _set(2, torch.nn.Linear(16, 16, bias=False)),
    "no running mean": _set(1, torch.nn.BatchNorm1d(16, track_running_stats=False)),
    "cumulative mean": _set(1, torch.nn.BatchNorm1d(16, momentum=None)),
    "everything dropped": _set(1, torch.nn.Dropout(1.0)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_autograd_is_used_for_anything_but_a_plain_mlp(change: Callable[[Objective], None]) -> None:
    _, step, _ = classifier()
    change(step.objective)
    assert explicit_objective(step.objective) is step.objective


def test_autograd_is_used_for_an_activation_without_explicit_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "relu", torch.nn.Softplus)
    _, step, _ = classifier()
    assert explicit_objective(step.objective) is step.objective


def test_batch_norm_refuses_a_single_image_as_autograd_does() -> None:
    _, step, _ = classifier(**{"model.batch_norm": True})
    for objective in (step.objective, explicit_objective(step.objective)):
        with pytest.raises(ValueError, match="more than"):
            objective.gradients(IMAGES[:1], LABELS[:1], step.optimizer.parameters)


@pytest.mark.parametrize(
    "is_compiled",
    [
        False,
        pytest.param(
            True, marks=[pytest.mark.integration, pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")]
        ),
    ],
)
def test_hooks_registered_during_training_are_called(is_compiled: bool, tmp_path: Path) -> None:
    class Activations(pl.Callback):
        affects_result = False
        calls = 0

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            assert isinstance(pl_module, FastClassifier)
            if trainer.current_epoch == 1:
                pl_module.mlp.layers[0].register_forward_hook(self.count)

        def count(self, *arguments: Any) -> None:
            self.calls += 1

    callback = Activations()
    options = {
        "trainer.max_epochs": 2,
        "trainer.figures": False,
        "data.source": "sample",
        "trainer.compile": is_compiled,
    }
    fit(config_with(options), tmp_path / "run", callbacks=[callback])
    assert callback.calls > 50  # also in training: 55 mini-batches
