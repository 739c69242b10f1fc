"""Knowledge distillation: networks distilled from trained networks."""

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
    """A folder with two finished runs."""
    for seed in (0, 1):
        fit(replace(config, seed=seed), tmp_path / "sweep" / f"seed-{seed}")
    return tmp_path / "sweep"


def distilled(config: Config, teachers: object, **changes: Any) -> Config:
    """Return the config of a student, whose initial weights differ from its teachers'."""
    return replace(config, seed=7, optim=replace(config.optim, teacher=str(teachers)), **changes)


def test_a_teacher_predicts_the_normalized_mean_of_log_probabilities() -> None:
    torch.manual_seed(0)
    nets = [digit_classifier(**{"model.hidden_layers": 0, "data.normalization": "raw"}).double() for _ in range(3)]
    for net in nets:
        torch.nn.init.normal_(net.mlp.layers[0].weight, std=0.3)
    pixels = IMAGES[:20].flatten(1).double().numpy() / 255

    def layer(net: DigitClassifier) -> tuple[np.ndarray, np.ndarray]:
        weights, bias = net.mlp.parameters()
        return weights.detach().numpy(), bias.detach().numpy()

    expected = softmax(np.mean([log_softmax(pixels @ w.T + b, 1) for w, b in map(layer, nets)], axis=0), 1)
    targets = Ensemble(nets, "three")(IMAGES[:20])
    np.testing.assert_allclose(targets.numpy(), expected, rtol=1e-6)


def test_a_teacher_is_in_evaluation_mode_and_unchanged() -> None:
    nets = [digit_classifier(**{"model.batch_norm": True, "model.dropout": 0.5}).train()]
    before = {name: value.clone() for name, value in nets[0].state_dict().items()}
    ensemble = Ensemble(nets, "one")
    torch.testing.assert_close(ensemble(IMAGES), ensemble(IMAGES), rtol=0, atol=0)
    assert not ensemble(IMAGES.float()).requires_grad
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_linear_layers_in_the_dtype_of_autocast_change_no_target() -> None:
    net = digit_classifier(**{"model.batch_norm": True, "model.hidden_units": [64]})
    teacher = Ensemble([net], "one").to(torch.device("cpu"), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = teacher(IMAGES)
        teacher.to(torch.device("cpu"), torch.float32, torch.bfloat16)
        assert {layer.weight.dtype for layer in net.mlp.layers[::3]} == {torch.bfloat16}
        torch.testing.assert_close(teacher(IMAGES), expected, rtol=0, atol=0)


def test_the_name_of_a_teacher_identifies_its_weights() -> None:
    net = digit_classifier()
    first = Ensemble([net], "nets").name
    assert Ensemble([net], "nets").name == first
    with torch.no_grad():
        net.mlp.layers[0].weight[3, 400] += 1e-3
    assert Ensemble([net], "nets").name != first


def test_the_target_is_the_prediction_of_the_teacher_for_the_augmented_image() -> None:
    _, step, _ = classifier(**{"augment.rotation": 30.0, "optim.lr": 0.0001})
    inputs: list[tuple[str, Tensor]] = []
    student = step.objective.model

    def spy_student(images: Tensor) -> Tensor:
        inputs.append(("student", images))
        return student(images)

    targets = torch.rand(20, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)

    def spy_teacher(images: Tensor) -> Tensor:
        inputs.append(("teacher", images))
        return targets

    step.objective.model, step.objective.teacher = spy_student, spy_teacher
    loss, logits = step(IMAGES, LABELS, torch.arange(20), torch.tensor(0.0001))
    assert {name for name, _ in inputs} == {"student", "teacher"}
    torch.testing.assert_close(inputs[0][1], inputs[1][1], rtol=0, atol=0)
    assert not torch.equal(inputs[0][1], IMAGES[:20].float())
    expected = -(targets.numpy() * log_softmax(logits.numpy(), 1)).sum(1).mean()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)


def test_a_student_ignores_the_labels() -> None:
    losses = []
    for labels in (LABELS, LABELS.flip(0)):
        _, step, _ = classifier(**{"optim.teacher": "two nets"})
        for _ in range(3):
            loss, _ = step(IMAGES, labels, torch.arange(40), torch.tensor(0.05))
        losses.append(loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


@pytest.mark.integration
def test_a_student_converges_to_its_teacher() -> None:
    model, step, _ = classifier(**{"optim.teacher": "two nets", "optim.name": "adam", "model.hidden_units": [64]})
    for _ in range(300):
        step(IMAGES, LABELS, torch.arange(90), torch.tensor(0.003))
    torch.testing.assert_close(model(IMAGES).softmax(1).detach(), teacher()(IMAGES), rtol=0, atol=0.01)


def test_a_run_is_distilled_from_a_sweep_and_pins_its_weights(config: Config, sweep: Path, tmp_path: Path) -> None:
    student = distilled(config, sweep)
    result = fit(student, tmp_path / "student")
    pinned = result.config["optim"]["teacher"]
    assert pinned.startswith(f"{sweep}@")
    assert json.loads((tmp_path / "student/run.json").read_text())["config"]["optim"]["teacher"] == pinned
    assert result.metrics["train/loss"] != fit(distilled(config, ""), tmp_path / "without").metrics["train/loss"]
    ensemble = evaluate_ensemble([sweep / "seed-0", sweep / "seed-1"], "test", str(config.data.root)).ensemble
    digits = load_digits("mnist", config.data.root)
    targets = load_teacher(pinned, config.data, digits.digest)(digits.test_images)
    expected = softmax(ensemble.log_probabilities, 1)
    np.testing.assert_allclose(targets.numpy(), expected, atol=1e-5)
    assert fit(student, tmp_path / "student") == result  # repeated
    assert fit(distilled(config, pinned), tmp_path / "student") == result
    assert fit(distilled(config, f"{sweep}/"), tmp_path / "student") == result  # from shell completion
    single = fit(distilled(config, sweep / "seed-1"), tmp_path / "single")
    assert single.config["optim"]["teacher"].startswith(f"{sweep / 'seed-1'}@")


def test_an_interrupted_distilled_run_resumes_with_identical_results(
    config: Config, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = distilled(config, sweep, trainer=replace(config.trainer, max_epochs=3))
    unbroken = fit(student, tmp_path / "unbroken")
    fit_until_power_cut(student, tmp_path / "broken", monkeypatch)
    assert fit(student, tmp_path / "broken").metrics == unbroken.metrics


def test_a_teacher_that_changed_is_another_setting(config: Config, sweep: Path, tmp_path: Path) -> None:
    student = distilled(config, sweep)
    pinned = fit(student, tmp_path / "student").config["optim"]["teacher"]
    shutil.rmtree(sweep / "seed-1")
    with pytest.raises(UserError, match=r"optim\.teacher: .*@[0-9a-f]{12} -> .*@[0-9a-f]{12}"):
        fit(student, tmp_path / "student")
    with pytest.raises(UserError, match="the weights in that folder have changed"):
        fit(distilled(config, pinned), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def error_message(config: Config, tmp_path: Path) -> str:
    with pytest.raises(UserError) as error:
        fit(config, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_unusable_teacher_is_a_one_line_error(
    config: Config, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is not the folder of a run or sweep" in error_message(distilled(config, tmp_path / "nowhere"), tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is not the folder of a run or sweep" in error_message(distilled(config, tmp_path / "empty"), tmp_path)

    data = replace(config.data, val_size=30)
    assert "the student's validation images" in error_message(distilled(config, sweep, data=data), tmp_path)
    data = replace(config.data, split_seed=3)
    assert "the student's validation images" in error_message(distilled(config, sweep, data=data), tmp_path)
    fit(distilled(config, sweep, data=replace(config.data, val_size=0, split_seed=3)), tmp_path / "all images")

    file = sweep / "seed-1/result.json"
    original = file.read_text()
    content = json.loads(original)
    file.write_text(json.dumps({**content, "data": {**content["data"], "digest": "of others"}}))
    assert "seed-1 used another dataset" in error_message(distilled(config, sweep), tmp_path)
    file.write_text(json.dumps({**content, "status": "diverged"}))
    assert "seed-1 has not finished" in error_message(distilled(config, sweep), tmp_path)
    file.write_text("{")
    assert "seed-1 has not finished" in error_message(distilled(config, sweep), tmp_path)
    file.unlink()
    assert "seed-1 has not finished" in error_message(distilled(config, sweep), tmp_path)
    file.write_text(original)
    checkpoint = sweep / "seed-1/checkpoints/best.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    assert "best.ckpt" in error_message(distilled(config, sweep), tmp_path)
    checkpoint.unlink()
    assert "seed-1 has not finished" in error_message(distilled(config, sweep), tmp_path)


def test_a_classifier_is_not_trained_without_its_teacher(config: Config, tmp_path: Path) -> None:
    options = distilled(config, "somewhere")
    data = DigitData.from_config(options, load_digits("mnist", config.data.root))
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(UserError, match=r"optim\.teacher=somewhere is not loaded"):
        trainer.fit(DigitClassifier.from_config(options), datamodule=data)
