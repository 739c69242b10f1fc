"""Nets that learn what trained nets say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from power_cut import fit_until_power_cut
from scipy.special import log_softmax, softmax
from small_steps import IMAGES, LABELS, classifier, digit_classifier, teacher
from torch import Tensor

from mnist_mlp.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.module import DigitData
from mnist_mlp.errors import UserError
from mnist_mlp.serve.evaluate import evaluate_ensemble
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit
from mnist_mlp.training.teacher import Ensemble, load_teacher


@pytest.fixture
def config(idx_root: Path) -> Config:
    return Config(
        data=DataConfig(root=str(idx_root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=1, hidden_units=[12], batch_norm=True),
        optim=OptimConfig(lr=0.05),
        augment=AugmentConfig(rotation=5),
        trainer=TrainerConfig(max_epochs=2, progress=False, figures=False),
    )


@pytest.fixture
def sweep(config: Config, tmp_path: Path) -> Path:
    """Two finished runs beside each other."""
    for seed in (0, 1):
        fit(replace(config, seed=seed), tmp_path / "sweep" / f"seed-{seed}")
    return tmp_path / "sweep"


def taught(config: Config, teachers: object, **changes: Any) -> Config:
    """The config of a student, whose weights start elsewhere than its teachers'."""
    return replace(config, seed=7, optim=replace(config.optim, teacher=str(teachers)), **changes)


def test_a_teacher_says_what_the_mean_of_log_probabilities_says() -> None:
    nets = [digit_classifier(**{"model.hidden_layers": 0, "data.normalization": "raw"}).double() for _ in range(3)]
    for net in nets:
        torch.nn.init.normal_(net.mlp.layers[0].weight, std=0.3)
    pixels = IMAGES[:20].flatten(1).double().numpy() / 255

    def layer(net: DigitClassifier) -> tuple[np.ndarray, np.ndarray]:
        weights, bias = net.mlp.parameters()
        return weights.detach().numpy(), bias.detach().numpy()

    by_hand = softmax(np.mean([log_softmax(pixels @ w.T + b, 1) for w, b in map(layer, nets)], axis=0), 1)
    said = Ensemble(nets, "three")(IMAGES[:20])
    np.testing.assert_allclose(said.numpy(), by_hand, rtol=1e-6)


def test_a_teacher_is_in_evaluation_and_keeps_its_weights_and_statistics() -> None:
    nets = [digit_classifier(**{"model.batch_norm": True, "model.dropout": 0.5}).train()]
    before = {name: value.clone() for name, value in nets[0].state_dict().items()}
    said = Ensemble(nets, "one")
    torch.testing.assert_close(said(IMAGES), said(IMAGES), rtol=0, atol=0)
    assert not said(IMAGES.float()).requires_grad
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_name_of_a_teacher_tells_its_weights() -> None:
    net = digit_classifier()
    first = Ensemble([net], "nets").name
    assert Ensemble([net], "nets").name == first
    with torch.no_grad():
        net.mlp.layers[0].weight[3, 400] += 1e-3
    assert Ensemble([net], "nets").name != first


def test_the_target_is_what_the_teacher_says_of_the_image_as_the_student_sees_it() -> None:
    _, step, _ = classifier(**{"augment.rotation": 30.0, "optim.lr": 0.0001})
    seen: list[tuple[str, Tensor]] = []
    student = step.objective.model

    def spy_student(images: Tensor) -> Tensor:
        seen.append(("student", images))
        return student(images)

    targets = torch.rand(20, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)

    def spy_teacher(images: Tensor) -> Tensor:
        seen.append(("teacher", images))
        return targets

    step.objective.model, step.objective.teacher = spy_student, spy_teacher
    loss, logits = step(IMAGES, LABELS, torch.arange(20), torch.tensor(0.0001))
    assert {name for name, _ in seen} == {"student", "teacher"}
    torch.testing.assert_close(seen[0][1], seen[1][1], rtol=0, atol=0)
    assert not torch.equal(seen[0][1], IMAGES[:20].float())
    by_hand = -(targets.numpy() * log_softmax(logits.numpy(), 1)).sum(1).mean()
    np.testing.assert_allclose(loss.item(), by_hand, rtol=1e-6)


def test_a_student_learns_from_the_teacher_and_not_from_the_labels() -> None:
    losses = []
    for labels in (LABELS, LABELS.flip(0)):
        _, step, _ = classifier(**{"optim.teacher": "two nets"})
        for _ in range(3):
            loss, _ = step(IMAGES, labels, torch.arange(40), torch.tensor(0.05))
        losses.append(loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


def test_a_student_comes_to_say_what_its_teacher_says() -> None:
    model, step, _ = classifier(**{"optim.teacher": "two nets", "optim.name": "adam", "model.hidden_units": [64]})
    for _ in range(300):
        step(IMAGES, LABELS, torch.arange(90), torch.tensor(0.003))
    torch.testing.assert_close(model(IMAGES).softmax(1).detach(), teacher()(IMAGES), rtol=0, atol=0.01)


def test_a_run_is_taught_by_a_sweep_and_pins_its_weights(config: Config, sweep: Path, tmp_path: Path) -> None:
    student = taught(config, sweep)
    result = fit(student, tmp_path / "student")
    pinned = result.config["optim"]["teacher"]
    assert pinned.startswith(f"{sweep}@")
    assert json.loads((tmp_path / "student/run.json").read_text())["config"]["optim"]["teacher"] == pinned
    assert result.metrics["train/loss"] != fit(taught(config, ""), tmp_path / "alone").metrics["train/loss"]
    # the loss is that of the ensemble's own predictions, known from elsewhere
    ensemble = evaluate_ensemble([sweep / "seed-0", sweep / "seed-1"], "test", str(config.data.root)).ensemble
    digits = load_digits("mnist", config.data.root)
    said = load_teacher(pinned, config.data, digits.digest)(digits.test_images)
    expected = softmax(ensemble.log_probabilities, 1)
    np.testing.assert_allclose(said.numpy(), expected, atol=1e-5)
    assert fit(student, tmp_path / "student") == result  # asked for again
    assert fit(taught(config, pinned), tmp_path / "student") == result
    assert fit(taught(config, f"{sweep}/"), tmp_path / "student") == result  # as a shell completes it
    one = fit(taught(config, sweep / "seed-1"), tmp_path / "of one")
    assert one.config["optim"]["teacher"].startswith(f"{sweep / 'seed-1'}@")


def test_a_taught_run_that_was_cut_off_ends_as_if_it_never_stopped(
    config: Config, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = taught(config, sweep, trainer=replace(config.trainer, max_epochs=3))
    whole = fit(student, tmp_path / "whole")
    fit_until_power_cut(student, tmp_path / "cut", monkeypatch)
    assert fit(student, tmp_path / "cut").metrics == whole.metrics


def test_a_teacher_that_changed_is_another_setting(config: Config, sweep: Path, tmp_path: Path) -> None:
    student = taught(config, sweep)
    pinned = fit(student, tmp_path / "student").config["optim"]["teacher"]
    shutil.rmtree(sweep / "seed-1")
    with pytest.raises(UserError, match=r"optim\.teacher: .*@[0-9a-f]{12} -> .*@[0-9a-f]{12}"):
        fit(student, tmp_path / "student")
    with pytest.raises(UserError, match="the weights in that folder have changed"):
        fit(taught(config, pinned), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def refused(config: Config, tmp_path: Path) -> str:
    with pytest.raises(UserError) as caught:
        fit(config, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_cannot_teach_is_refused_in_a_line(
    config: Config, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is not the folder of a run or sweep" in refused(taught(config, tmp_path / "nowhere"), tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is not the folder of a run or sweep" in refused(taught(config, tmp_path / "empty"), tmp_path)

    other = replace(config.data, val_size=30)
    assert "the student's validation images" in refused(taught(config, sweep, data=other), tmp_path)
    other = replace(config.data, split_seed=3)
    assert "the student's validation images" in refused(taught(config, sweep, data=other), tmp_path)
    fit(taught(config, sweep, data=replace(config.data, val_size=0, split_seed=3)), tmp_path / "all images")

    file = sweep / "seed-1/result.json"
    kept = file.read_text()
    content = json.loads(kept)
    file.write_text(json.dumps({**content, "data": {**content["data"], "digest": "of others"}}))
    assert "seed-1 used another dataset" in refused(taught(config, sweep), tmp_path)
    file.write_text(json.dumps({**content, "status": "diverged"}))
    assert "seed-1 has not finished" in refused(taught(config, sweep), tmp_path)
    file.write_text("{")
    assert "seed-1 has not finished" in refused(taught(config, sweep), tmp_path)
    file.unlink()
    assert "seed-1 has not finished" in refused(taught(config, sweep), tmp_path)
    file.write_text(kept)
    checkpoint = sweep / "seed-1/checkpoints/best.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    assert "best.ckpt" in refused(taught(config, sweep), tmp_path)
    checkpoint.unlink()
    assert "seed-1 has not finished" in refused(taught(config, sweep), tmp_path)


def test_a_classifier_without_the_teacher_of_its_options_is_not_trained(config: Config, tmp_path: Path) -> None:
    options = taught(config, "somewhere")
    data = DigitData.from_config(options, load_digits("mnist", config.data.root))
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(UserError, match=r"optim\.teacher=somewhere is not loaded"):
        trainer.fit(DigitClassifier.from_config(options), datamodule=data)
