"""Runs equal, bit for bit, hand-written loops of torch's optimizers, schedules and gradient clipping."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from power_cut import fit_until_power_cut
from settings import config_with
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import RMSprop, lr_scheduler
from torch.utils.data import IterableDataset

from mnist_mlp.config import Config
from mnist_mlp.data.module import DigitData
from mnist_mlp.errors import UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.settings import describe
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fit import fit
from mnist_mlp.training.trainer import cpu_threads

STEPS = 15  # per epoch
PLATEAU = {"optim.schedule": "plateau", "optim.gamma": 0.5, "optim.plateau_patience": 0, "optim.lr": 0.5}


def small(idx_root: Path, **settings: Any) -> Config:
    return config_with(
        {
            "data.root": str(idx_root), "data.val_size": 60, "data.batch_size": 16, "model.hidden_layers": 1,
            "model.hidden_units": [12], "trainer.max_epochs": 4, "trainer.steps_per_execution": 4,
            "trainer.progress": False, "trainer.figures": False, "trainer.accelerator": "cpu", "trainer.threads": 1,
            **settings,
        }
    )  # fmt: skip


def last_weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


def rates(folder: Path) -> list[float]:
    """The learning rate of each epoch's last step."""
    with (folder / "metrics.csv").open() as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


def sgd(parameters: Any, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, momentum=0.9, fused=True, **options)


def warmed_up(optimizer: Any) -> lr_scheduler.ChainedScheduler:
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / 4, total_iters=3)
    return lr_scheduler.ChainedScheduler([rise, lr_scheduler.MultiStepLR(optimizer, [STEPS, 3 * STEPS], gamma=0.5)])


# learning rates and factors are powers of two: exact in float32, the precision of the package's learning rates
LOOPS: dict[str, tuple[dict[str, Any], Callable[..., Any], Callable[..., Any], float]] = {
    "nesterov, clipped, step": (
        {
            "optim.nesterov": True, "optim.gradient_clip_val": 0.5, "optim.lr": 2**-4, "optim.schedule": "step",
            "optim.step_size": 2, "optim.gamma": 0.25,
        },
        lambda parameters: sgd(parameters, lr=2**-4, nesterov=True),
        lambda optimizer: lr_scheduler.StepLR(optimizer, 2 * STEPS, gamma=0.25),
        0.5,
    ),
    "rmsprop, warm-up, multi-step": (
        {
            "optim.name": "rmsprop", "optim.momentum": 0.5, "optim.weight_decay": 0.01, "optim.lr": 2**-9,
            "optim.warmup_epochs": 0.2, "optim.schedule": "multi_step", "optim.milestones": [1, 3], "optim.gamma": 0.5,
        },
        lambda parameters: RMSprop(parameters, lr=2**-9, momentum=0.5, weight_decay=0.01),
        warmed_up,
        float("inf"),
    ),
    "plateau": (
        PLATEAU,
        lambda parameters: sgd(parameters, lr=0.5),
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
        float("inf"),
    ),
}  # fmt: skip
"""Settings, and the same optimizer, schedule and maximum norm of the gradient."""


@pytest.mark.parametrize("name", [*list(LOOPS)[:2], pytest.param("plateau", marks=pytest.mark.integration)])
def test_a_run_is_bit_identical_to_a_hand_written_loop(name: str, idx_root: Path, tmp_path: Path) -> None:
    settings, build_optimizer, build_schedule, max_norm = LOOPS[name]
    config = small(idx_root, **settings)
    fit(config, tmp_path)
    torch.manual_seed(config.seed)
    data, model = DigitData.from_config(config), DigitClassifier.from_config(config)
    optimizer = build_optimizer(model.parameters())
    schedule, loader = build_schedule(optimizer), data.train_dataloader()
    val_images, val_labels = (values[data.split.val] for values in (data.digits.train_images, data.digits.train_labels))
    lrs, norms = [], []
    with cpu_threads(1):
        for epoch in range(4):
            loader.set_epoch(epoch)
            for images, labels in loader:
                lrs.append(optimizer.param_groups[0]["lr"])
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), max_norm).item())
                optimizer.step()
                if not isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
                    schedule.step()
            if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
                schedule.step(cross_entropy(model.logits(val_images), val_labels))
    for key, value in last_weights(tmp_path).items():
        assert torch.equal(value, model.state_dict()[key]), key
    assert rates(tmp_path) == pytest.approx(lrs[STEPS - 1 :: STEPS], rel=1e-12)
    assert len(set(lrs)) > 1
    assert max(norms) > 0.5 > min(norms), "some gradients must be clipped"


@pytest.mark.parametrize("schedule", ["plateau", pytest.param("step", marks=pytest.mark.integration)])
def test_a_run_with_reductions_can_be_resumed_and_extended(
    schedule: str, idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**PLATEAU, "optim.lr": 2.0, "optim.schedule": schedule, "optim.step_size": 1, "optim.ema": 0.2}
    settings |= {"optim.warmup_epochs": 0.5, "optim.gradient_clip_val": 1.0}
    config = small(idx_root, **settings)
    unbroken = fit(config, tmp_path / "unbroken")
    assert len(set(rates(tmp_path / "unbroken"))) > 1
    shorter = small(idx_root, **settings, **{"trainer.max_epochs": 3})
    fit_until_power_cut(shorter, tmp_path / "broken", monkeypatch)
    assert fit(shorter, tmp_path / "broken").epochs == 3
    assert fit(config, tmp_path / "broken").metrics == unbroken.metrics
    assert rates(tmp_path / "broken") == rates(tmp_path / "unbroken")
    for key, value in last_weights(tmp_path / "broken").items():
        assert torch.equal(value, last_weights(tmp_path / "unbroken")[key]), key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim.nesterov": True, "optim.momentum": 0.0}, r"optim\.nesterov=true .*optim\.momentum > 0"),
        ({"optim.nesterov": True, "optim.name": "adam"}, r"optim\.nesterov=true .*optim\.name=sgd, not adam"),
        ({"optim.schedule": "plateau", "data.val_size": 0}, r"optim\.schedule=plateau .*data\.val_size=0"),
        ({"optim.warmup_epochs": 10.0}, r"optim\.warmup_epochs=10\.0 .*trainer\.max_epochs=10"),
        ({"optim.milestones": [3, 3]}, r"optim\.milestones=\[3, 3\] .*increasing"),
        ({"optim.milestones": []}, r"optim\.milestones=\[\] .*increasing"),
        ({"optim.milestones": [0]}, r"optim\.milestones=\[0\] .*increasing"),
    ],
)
def test_settings_that_cannot_apply_are_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_with(settings)


def test_the_new_options_leave_the_fingerprints_of_earlier_versions_as_they_were() -> None:
    assert describe(to_dict(config_with({})), [])["fingerprint"] == "d442c5d30d91ee92"
    changed = [{"optim.nesterov": True}, {"optim.gamma": 0.5}, {"optim.milestones": [1]}, {"optim.warmup_epochs": 1.0}]
    assert len({describe(to_dict(config_with(settings)), [])["fingerprint"] for settings in [{}, *changed]}) == 5


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    """Random images without a length."""

    def __iter__(self) -> Any:
        while True:
            yield torch.zeros(28, 28, dtype=torch.uint8), torch.tensor(1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:You defined a `validation_step`")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim.schedule": "plateau"}, r"optim\.schedule=plateau needs a validation loss"),
        ({"optim.warmup_epochs": 0.5}, r"optim\.warmup_epochs=0\.5 needs .* a loader with a length"),
        ({"optim.schedule": "step"}, r"optim\.schedule=step .* a loader with a length"),
    ],
)
def test_a_plain_trainer_must_offer_what_a_schedule_needs(settings: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    trainer = pl.Trainer(
        **options, accelerator="cpu", max_epochs=2, limit_train_batches=2 if "plateau" in message else None
    )
    loader = torch.utils.data.DataLoader(Endless(), batch_size=2)
    with pytest.raises(UserError, match=message):
        trainer.fit(DigitClassifier.from_config(config_with(settings)), loader)
