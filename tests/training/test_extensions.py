"""User-defined networks, arrays, callbacks and loggers passed to `fit`."""

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor, ModelSummary
from pytorch_lightning.loggers import CSVLogger
from settings import config_with
from torch import Tensor, nn

import mnist_mlp
from mnist_mlp.config import Config
from mnist_mlp.data.mnist import Digits
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import read_object
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.extensions import named_loggers, network_name
from mnist_mlp.training.fit import fit


class Convolution(nn.Module):
    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(1, channels, 5, stride=4), nn.Linear(channels * 36, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images[:, None]).relu().flatten(1))
        return logits


@pytest.fixture
def settings(idx_root: Path) -> dict[str, Any]:
    return {
        "data.root": str(idx_root), "data.val_size": 60, "data.batch_size": 16, "trainer.max_epochs": 2,
        "trainer.progress": False, "trainer.figures": False,
    }  # fmt: skip


@pytest.fixture
def config(settings: dict[str, Any]) -> Config:
    return config_with(settings)


def test_a_user_defined_network_is_part_of_the_run(config: Config, tmp_path: Path) -> None:
    result = fit(config, tmp_path / "run", network=Convolution)
    assert result.config["model"]["network"].startswith("Convolution@")
    assert result.parameters == sum(weights.numel() for weights in Convolution().parameters())
    assert fit(config, tmp_path / "run", network=Convolution) == result
    for network in (None, Convolution(3), lambda: Convolution(3)):
        with pytest.raises(UserError, match=r"model\.network"):
            fit(config, tmp_path / "run", network=network)
    checkpoint = RunFolder(tmp_path / "run").best_checkpoint
    with pytest.raises(UserError, match="network="):
        DigitClassifier.load_from_checkpoint(checkpoint)
    DigitClassifier.load_from_checkpoint(checkpoint, network=Convolution())


def test_a_module_is_copied_and_a_function_is_seeded(settings: dict[str, Any], tmp_path: Path) -> None:
    module = Convolution()
    before = network_name(module)
    fit(config_with(settings), tmp_path / "module", network=module)
    assert network_name(module) == before
    names = [
        fit(config_with({**settings, "seed": seed}), tmp_path / f"{seed}{suffix}", network=Convolution).config["model"]
        for seed, suffix in ((0, "a"), (0, "b"), (1, "a"))
    ]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Flatten(), r"\(2, 784\) .* logits \(2, 10\)"),
        (nn.Linear(3, 10), r"network= fails for images of shape \(2, 28, 28\)"),
        (lambda: "net", "network= returns a str"),
    ],
)
def test_a_network_of_wrong_shape_or_type_is_a_one_line_error(
    network: Any, reason: str, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        fit(config, tmp_path / "run", network=network)
    assert not (tmp_path / "run").exists()


def test_a_network_that_is_only_named_in_the_config_is_an_error(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.network=CNN@0 .*network="):
        fit(config_with({**settings, "model.network": "CNN@0"}), tmp_path)
    with pytest.raises(UserError, match=r"network= .*model\.\*"):
        fit(config_with({**settings, "model.dropout": 0.5}), tmp_path, network=Convolution)
    with pytest.raises(UserError, match=r"data\.source=arrays .*data="):
        fit(config_with({**settings, "data.source": "arrays"}), tmp_path)


def test_user_arrays_have_a_fingerprint_like_files(config: Config, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (200, 28, 28), dtype=torch.uint8)
    labels = torch.arange(200) % 10
    digits = Digits(images, labels, images[:50], labels[:50])
    result = fit(config, tmp_path / "run", digits=digits)
    assert result.data["source"] == "arrays"
    assert result.data["digest"] == digits.digest
    assert (result.data["train"], result.data["test"]) == (140, 50)
    assert fit(config, tmp_path / "run", digits=digits) == result
    inverted = Digits(255 - images, labels, images[:50], labels[:50])
    with pytest.raises(UserError, match=r"data\.digest"):
        fit(config, tmp_path / "run", digits=inverted)


def test_steps_per_execution_does_not_affect_a_callback_that_changes_weights(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    metrics = [
        fit(
            config_with({**settings, "trainer.steps_per_execution": steps}),
            tmp_path / str(steps),
            callbacks=[EMAWeightAveraging(decay=0.9)],
        ).metrics
        for steps in (1, 10, 50)
    ]
    assert metrics[0] == metrics[1] == metrics[2]
    assert metrics[0] != fit(config_with(settings), tmp_path / "without").metrics


def test_callbacks_that_can_change_the_result_are_part_of_the_run(config: Config, tmp_path: Path) -> None:
    stop = EarlyStopping("val/accuracy", mode="max", patience=1)
    result = fit(config, tmp_path, callbacks=[stop])
    assert fit(config, tmp_path, callbacks=[EarlyStopping("val/accuracy", mode="max", patience=1)]) == result
    for callbacks in ([], [EarlyStopping("val/accuracy", mode="max", patience=2)], [EMAWeightAveraging(decay=0.9)]):
        with pytest.raises(UserError, match="callbacks"):
            fit(config, tmp_path, callbacks=callbacks)


def test_the_decay_of_an_averaging_callback_is_part_of_the_run(config: Config, tmp_path: Path) -> None:
    fit(config, tmp_path, callbacks=[EMAWeightAveraging(decay=0.9)])
    with pytest.raises(UserError, match=r"callbacks.*EMAWeightAveraging"):
        fit(config, tmp_path, callbacks=[EMAWeightAveraging(decay=0.8)])


def test_observers_are_not_part_of_the_run(config: Config, tmp_path: Path) -> None:
    class Observer(pl.Callback):
        affects_result = False

    plain = fit(config, tmp_path / "plain")
    logger = CSVLogger(tmp_path / "log")
    observers = [LearningRateMonitor(), ModelSummary(), Observer()]
    observed = fit(config, tmp_path / "observed", callbacks=observers, loggers=[logger])
    assert observed.fingerprint == plain.fingerprint
    assert observed.metrics == plain.metrics


def test_a_callback_that_needs_a_logger_is_refused_without_one(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LearningRateMonitor .*trainer\.logger"):
        fit(config, tmp_path / "run", callbacks=[LearningRateMonitor()])
    assert not (tmp_path / "run").exists()


def test_compiled_steps_and_callbacks_on_every_step_are_incompatible(settings: dict[str, Any], tmp_path: Path) -> None:
    compiled = config_with({**settings, "trainer.compile": True})
    with pytest.raises(UserError, match=r"trainer\.compile=true .*EMAWeightAveraging.*trainer\.compile=false"):
        fit(compiled, tmp_path, callbacks=[EMAWeightAveraging(decay=0.9)])


def test_loggers_receive_configuration_metrics_and_test_results(settings: dict[str, Any], tmp_path: Path) -> None:
    for is_instance, folder in ((True, tmp_path / "instance"), (False, tmp_path / "name")):
        config = config_with({**settings, "trainer.logger": "" if is_instance else "csv"})
        result = fit(config, folder, loggers=[CSVLogger(folder, name="csv")] if is_instance else ())
        rows = list(csv.DictReader((folder / "csv" / "version_0" / "metrics.csv").read_text().splitlines()))
        accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
        assert len(accuracies) == 2
        assert max(accuracies) == pytest.approx(result.metrics["val/accuracy"])
        (tested,) = [float(row["test/accuracy"]) for row in rows if row["test/accuracy"]]
        assert tested == pytest.approx(result.metrics["test/accuracy"])
        steps = [int(row["step"]) for row in rows if row["val/accuracy"]]
        assert steps == [14, 29]  # optimizer steps from 0, for any steps per execution
        assert "batch_size: 16" in (folder / "csv" / "version_0" / "hparams.yaml").read_text()
        assert read_object(folder / "run.json")["fingerprint"] == result.fingerprint


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_logger_package_is_a_one_line_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"trainer\.logger={name} .*pip install {name}"):
        named_loggers(name, RunFolder(tmp_path))


@pytest.mark.parametrize(
    "argument", [{"logger": True}, {"logger": [None]}, {"callbacks": EarlyStopping}, {"data": [1, 2]}]
)
def test_an_argument_of_wrong_type_is_a_one_line_error(argument: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{next(iter(argument))}=.*(give|pass|use) "):
        mnist_mlp.fit({"data.source": "sample"}, tmp_path / "run", **argument)
    assert not (tmp_path / "run").exists()
