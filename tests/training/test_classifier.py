import pytest
import torch
from small_steps import digit_classifier
from torch import nn

from mnist_mlp.training.step import schedule_factor


@pytest.mark.parametrize("total", [7, 50, 1_000])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle"])
def test_schedules_agree_with_torch(schedule: str, total: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedulers = torch.optim.lr_scheduler
    reference = {
        "constant": lambda: schedulers.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, T_max=total),
        "linear": lambda: schedulers.LinearLR(optimizer, 1.0, 0.0, total_iters=total),
        "one_cycle": lambda: schedulers.OneCycleLR(optimizer, max_lr=0.5, total_steps=total, cycle_momentum=False),
    }[schedule]()
    for step in range(total):
        assert 0.5 * schedule_factor(schedule, step, total) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-9
        )
        optimizer.step()
        if step < total - 1:
            reference.step()
    end = schedule_factor(schedule, total, total)
    assert schedule_factor(schedule, total + 9, total) == pytest.approx(end)  # constant afterwards


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
