from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_steps import digit_classifier
from torch import nn
from torch.optim import lr_scheduler

from mnist_mlp.config import OptimConfig
from mnist_mlp.training.step import StepLambdaLR, schedule_factor


@pytest.mark.parametrize("total", [7, 50, 1_000])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle"])
def test_schedules_agree_with_torch(schedule: str, total: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=total),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=total),
        "one_cycle": lambda: lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=total, cycle_momentum=False),
    }[schedule]()
    options = OptimConfig(schedule=schedule)
    assert_same_rates(optimizer, reference, options, total, total)
    end = schedule_factor(options, total, total, total)
    assert schedule_factor(options, total + 9, total, total) == pytest.approx(end)  # constant afterwards


def assert_same_rates(optimizer: Any, reference: Any, options: OptimConfig, total: int, per_epoch: int) -> None:
    """Assert that all but rounding of the learning rates is that of a torch scheduler of an optimizer with lr=0.5."""
    for step in range(total):
        assert 0.5 * schedule_factor(options, step, total, per_epoch) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-9
        )
        optimizer.step()
        if step < total - 1:
            reference.step()


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # SequentialLR passes it
def test_warm_up_is_followed_by_schedules_of_fixed_length() -> None:
    for schedule in ("cosine", "linear", "one_cycle"):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
        warmup = lr_scheduler.LinearLR(optimizer, 1 / 6, total_iters=5)
        following = {
            "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=35),
            "linear": lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=35),
            "one_cycle": None,
        }[schedule]
        options = OptimConfig(schedule=schedule, warmup_epochs=0.5)
        if following:
            reference = lr_scheduler.SequentialLR(optimizer, [warmup, following(optimizer)], milestones=[5])
            assert_same_rates(optimizer, reference, options, 40, 10)
        else:  # torch's OneCycleLR sets an absolute rate
            rates = [schedule_factor(options, step, 40, 10) for step in range(40)]
            plain = [schedule_factor(OptimConfig(schedule=schedule), step, 35, 10) for step in range(35)]
            assert rates == pytest.approx([plain[0] * (step + 1) / 6 for step in range(5)] + plain)


def test_warm_up_multiplies_schedules_that_count_epochs() -> None:
    settings: list[tuple[dict[str, Any], Callable[[Any], Any]]] = [
        ({}, lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        ({"schedule": "step", "step_size": 2}, lambda optimizer: lr_scheduler.StepLR(optimizer, 20)),
        (
            {"schedule": "multi_step", "milestones": [1, 3], "gamma": 0.5},
            lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [10, 30], gamma=0.5),
        ),
    ]
    for options, build in settings:
        for warmup in (0.0, 1.2):
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
            reference: Any = build(optimizer)
            if warmup:
                rise = lr_scheduler.LinearLR(optimizer, 1 / 13, total_iters=12)
                reference = lr_scheduler.ChainedScheduler([reference, rise])
            assert_same_rates(optimizer, reference, OptimConfig(**options, warmup_epochs=warmup), 50, 10)


def test_plateau_agrees_with_torch() -> None:
    losses = torch.rand(60, generator=torch.Generator().manual_seed(0)).cumprod(0).clamp_min(1e-9).tolist()
    for values in (losses, [1.0, *[0.99995] * 8, float("nan"), 0.5, 0.9, 0.9, 0.4]):  # less than the threshold
        for patience in (0, 3):
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
            reference = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0)
            scheduler = StepLambdaLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5), lambda step: 1.0)
            for loss in values:
                reference.step(loss)
                scheduler.reduce_on_plateau(loss, 0.5, patience)
                assert scheduler.get_lr() == [optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize(
    ("name", "mean", "deviation"), [("raw", 0, 1), ("symmetric", 0.5, 0.5), ("standard", 0.1307, 0.3081)]
)
def test_inputs_are_normalized(name: str, mean: float, deviation: float) -> None:
    model = digit_classifier(**{"model.hidden_layers": 0, "data.normalization": name})
    images = torch.arange(28 * 28).remainder(256).to(torch.uint8).reshape(1, 28, 28)
    expected = model.mlp((images.double() / 255 - mean).div(deviation).float())
    torch.testing.assert_close(model(images), expected)


@pytest.mark.mnist
def test_the_statistics_are_the_mean_and_deviation_of_the_training_images(mnist_root: str) -> None:
    from mnist_mlp.data.mnist import Digits, load_digits

    digits = load_digits("mnist", mnist_root)
    pixels = digits.train_images.double() / 255
    expected = pytest.approx((pixels.mean().item(), pixels.std().item()), abs=5e-5)
    arrays = Digits(digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    assert digits.statistics == arrays.statistics == expected


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_optimizer_has_the_configured_type_and_options(name: str) -> None:
    model = digit_classifier(**{"optim.name": name, "optim.lr": 0.02, "optim.weight_decay": 0.1, "optim.momentum": 0.8})
    optimizer = model.configure_optimizers()["optimizer"]
    assert type(optimizer).__name__.lower() == name
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(0.02), 0.1)
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


def test_hyper_parameters_are_primitives() -> None:
    model = digit_classifier(**{"model.hidden_units": [8, 8], "augment.rotation": 3.0})

    def leaf_types(value: object) -> set[type]:
        if isinstance(value, dict):
            return set().union(*map(leaf_types, value.values()))
        return set().union(*map(leaf_types, value)) if isinstance(value, list) else {type(value)}

    assert leaf_types(dict(model.hparams)) == {int, float, str, bool}
