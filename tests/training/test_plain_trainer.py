"""`DigitClassifier` and `DigitData` under a plain Lightning trainer, as Lightning's documentation uses them."""

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.tuner import Tuner
from settings import config_with
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mnist_mlp.data.mnist import Digits
from mnist_mlp.data.module import DigitData
from mnist_mlp.errors import UserError
from mnist_mlp.training.classifier import DigitClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:.*`lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`",
)
SMALL = {"model.hidden_layers": 1, "model.hidden_units": [16], "optim.lr": 0.05, "data.val_size": 60}


def digits(count: int = 260) -> Digits:
    """Return noise with a bar whose position depends on the digit: learned in a few steps."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 90, (count, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[2 * label : 2 * label + 6, 4:24] += 150
    return Digits(images, labels, images[:50].clone(), labels[:50].clone())


def data_and_model(**settings: Any) -> tuple[DigitData, DigitClassifier]:
    """Return data and an untrained model: 200 training images, 10 steps per epoch."""
    config = config_with({"data.batch_size": 20, **SMALL, **settings})
    torch.manual_seed(config.seed)
    return DigitData.from_config(config, digits()), DigitClassifier.from_config(config)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return pl.Trainer(**{**defaults, "default_root_dir": folder, "enable_model_summary": False, **options})


class Recorder(pl.Callback):
    """Records learning rates, batches, gradients and validations."""

    affects_result = False

    def __init__(self) -> None:
        self.lrs: list[float] = []
        self.batches: list[Tensor] = []
        self.gradient_norms: list[float] = []
        self.backward = self.validations = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.batches.append(batch[0].clone())

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.backward += 1

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradient_norms.append(nn.utils.get_total_norm([w.grad for w in pl_module.parameters()]).item())

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validations += 1


def rows(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.rglob("metrics.csv")
    with path.open() as file:
        return list(csv.DictReader(file))


def test_fit_validate_test_and_predict(tmp_path: Path) -> None:
    data, model = data_and_model()
    run = trainer(tmp_path, max_epochs=4)
    run.fit(model, datamodule=data)
    assert run.global_step == 40
    (validated,) = run.validate(model, datamodule=data, verbose=False)
    (tested,) = run.test(model, datamodule=data, verbose=False)
    assert set(validated) >= {"val/loss", "val/accuracy", "val/f1_macro"}
    assert tested["test/accuracy"] > 0.8
    probabilities = torch.cat(run.predict(model, datamodule=data))
    assert probabilities.shape == (50, 10)
    accuracy = (probabilities.argmax(1) == data.digits.test_labels).double().mean().item()
    assert accuracy == pytest.approx(tested["test/accuracy"])
    assert model.test_logits is not None
    torch.testing.assert_close(model.test_logits.softmax(1), probabilities)


def test_an_epoch_has_each_image_once_in_uint8_batches() -> None:
    data, _ = data_and_model()
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 10
    assert all(images.dtype == torch.uint8 and images.shape[1:] == (28, 28) for images, _ in batches)
    assert all(labels.dtype == torch.int64 for _, labels in batches)
    pixels = torch.cat([images for images, _ in batches]).flatten(1).tolist()
    assert sorted(pixels) == sorted(data.digits.train_images[data.split.train].flatten(1).tolist())
    assert "200 train" in str(data)


def test_the_schedule_spans_the_training_for_every_limit(tmp_path: Path) -> None:
    limits: list[dict[str, Any]] = [
        {"max_epochs": 2},
        {"max_steps": 7},
        {"max_epochs": -1, "max_steps": 20},
        {"max_epochs": 3, "limit_train_batches": 4},
        {"max_epochs": 2, "accumulate_grad_batches": 4},
    ]
    for limit in limits:
        for schedule in ("linear", "one_cycle"):
            data, model = data_and_model(**{"optim.schedule": schedule})
            recorder = Recorder()
            run = trainer(tmp_path, callbacks=[recorder], **limit)
            run.fit(model, datamodule=data)
            steps = len(recorder.gradient_norms)
            assert run.global_step == steps
            assert max(recorder.lrs) <= 0.05 + 1e-9
            lr = run.optimizers[0].param_groups[0]["lr"]
            assert lr == pytest.approx(0.0 if schedule == "linear" else 0.05 / 25e4, abs=1e-6), (limit, schedule)
    data, model = data_and_model(**{"optim.schedule": "linear"})
    with pytest.raises(UserError, match=r"optim\.schedule=linear .* max_epochs or max_steps"):
        trainer(tmp_path, max_epochs=-1, callbacks=[EarlyStopping("val/loss")]).fit(model, datamodule=data)


def test_steps_are_counted_limited_and_accumulated(tmp_path: Path) -> None:
    data, model = data_and_model()
    run = trainer(tmp_path, max_steps=13)
    run.fit(model, datamodule=data)
    assert run.global_step == 13
    # two accumulated mini-batches have the gradient of one of twice the size
    data, model = data_and_model(**{"data.batch_size": 10})
    trainer(tmp_path, max_epochs=2, accumulate_grad_batches=2).fit(model, datamodule=data)
    reference_data, reference = data_and_model()
    trainer(tmp_path, max_epochs=2).fit(reference, datamodule=reference_data)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    data, model = data_and_model()
    run = trainer(tmp_path, fast_dev_run=True)
    run.fit(model, datamodule=data)
    assert run.global_step == 1


def test_overfit_batches_repeats_the_same_batch_in_every_epoch(tmp_path: Path) -> None:
    data, model = data_and_model()
    recorder = Recorder()
    trainer(tmp_path, max_epochs=3, overfit_batches=1, callbacks=[recorder]).fit(model, datamodule=data)
    first, second, third = recorder.batches
    assert torch.equal(first, second)
    assert torch.equal(first, third)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_and_step_hooks_are_called(precision: Any, tmp_path: Path) -> None:
    class AfterClipping(Recorder):
        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            gradients = [w.grad for w in pl_module.parameters() if w.grad is not None]
            if gradients:
                self.gradient_norms.append(nn.utils.get_total_norm(gradients).item())

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            pass

    data, model = data_and_model()
    recorder = AfterClipping()
    options: dict[str, Any] = {"gradient_clip_val": 0.01, "precision": precision}
    trainer(tmp_path, max_epochs=1, callbacks=[recorder], **options).fit(model, datamodule=data)
    assert recorder.backward == 10
    assert max(recorder.gradient_norms) == pytest.approx(0.01, rel=1e-3)


def test_val_check_interval_is_respected(tmp_path: Path) -> None:
    data, model = data_and_model()
    recorder = Recorder()
    options: dict[str, Any] = {"max_epochs": 2, "val_check_interval": 0.5, "num_sanity_val_steps": 0}
    trainer(tmp_path, callbacks=[recorder], **options).fit(model, datamodule=data)
    assert recorder.validations == 4


def test_loggers_receive_every_metric_and_the_learning_rate(tmp_path: Path) -> None:
    data, model = data_and_model(**{"optim.name": "adamw", "optim.lr": 0.01})
    loggers = [CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "board")]
    run = trainer(tmp_path, max_epochs=3, logger=loggers, callbacks=[LearningRateMonitor()], log_every_n_steps=5)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    logged = rows(tmp_path / "csv")
    for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy", "lr-AdamW"):
        assert any(row[name] for row in logged), name
    accuracies = [float(row["val/accuracy"]) for row in logged if row["val/accuracy"]]
    assert len(accuracies) == 3
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((tmp_path / "board").rglob("events*")).parent))
    events.Reload()
    assert [event.value for event in events.Scalars("val/accuracy")] == pytest.approx(accuracies)


def test_step_checkpoints_are_written_and_can_be_loaded(tmp_path: Path) -> None:
    data, model = data_and_model()
    checkpoint = ModelCheckpoint(tmp_path / "steps", every_n_train_steps=4, save_top_k=-1)
    trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[checkpoint]).fit(model, datamodule=data)
    paths = sorted((tmp_path / "steps").iterdir())
    assert [path.name.rpartition("step=")[2] for path in paths] == ["4.ckpt", "8.ckpt"]
    steps = [torch.load(path, weights_only=True)["global_step"] for path in paths]
    assert steps == [4, 8]
    loaded = DigitClassifier.load_from_checkpoint(paths[-1], seed=7)
    assert loaded.hparams["seed"] == 7
    assert not loaded.training
    saved = torch.load(paths[-1], weights_only=True)
    del saved["state_dict"]["mlp.layers.0.bias"]
    torch.save(saved, tmp_path / "partial.ckpt")
    with pytest.raises(RuntimeError, match=r"layers\.0\.bias"):
        DigitClassifier.load_from_checkpoint(tmp_path / "partial.ckpt")
    partial = DigitClassifier.load_from_checkpoint(tmp_path / "partial.ckpt", strict=False, map_location="cpu")
    assert torch.equal(partial.state_dict()["mlp.layers.2.weight"], loaded.state_dict()["mlp.layers.2.weight"])


def test_early_stopping_and_progress_bar_use_the_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = data_and_model(**{"optim.lr": 1e-9})
    callbacks = [EarlyStopping("val/accuracy", mode="max", patience=2), TQDMProgressBar()]
    options: dict[str, Any] = {"max_epochs": 50, "enable_progress_bar": True, "num_sanity_val_steps": 0}
    run = trainer(tmp_path, callbacks=callbacks, **options)
    run.fit(model, datamodule=data)
    assert run.current_epoch == 3
    captured = capsys.readouterr()
    assert "val/loss=" in captured.out + captured.err


def test_ema_averages_once_per_step(tmp_path: Path) -> None:
    class Averaging(pl.Callback):
        def __init__(self) -> None:
            self.average: Tensor | None = None

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            weights = pl_module.mlp.layers[0].weight.detach().clone()
            self.average = weights if self.average is None else 0.9 * self.average + 0.1 * weights

    data, model = data_and_model()
    averaging = Averaging()
    callbacks = [averaging, EMAWeightAveraging(decay=0.9)]
    trainer(tmp_path, max_epochs=2, callbacks=callbacks).fit(model, datamodule=data)
    torch.testing.assert_close(model.mlp.layers[0].weight.detach(), averaging.average)


@pytest.mark.filterwarnings("ignore:.*swa", "ignore:Swapping scheduler", "ignore:.*StochasticWeightAveraging")
def test_stochastic_weight_averaging_with_batch_norm_keeps_the_averaged_weights(tmp_path: Path) -> None:
    class Weights(pl.Callback):
        def __init__(self) -> None:
            self.of_epoch: list[Tensor] = []

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.of_epoch.append(pl_module.mlp.layers[0].weight.detach().clone())

    data, model = data_and_model(**{"model.batch_norm": True})
    weights = Weights()
    callbacks = [weights, StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2)]
    trainer(tmp_path, max_epochs=4, callbacks=callbacks).fit(model, datamodule=data)
    expected = torch.stack(weights.of_epoch[:3]).mean(0)  # Lightning averages at the beginning of an epoch
    torch.testing.assert_close(model.mlp.layers[0].weight.detach(), expected)  # the last epoch changed no weight


def test_a_subclass_can_define_its_schedule(tmp_path: Path) -> None:
    class Stepwise(DigitClassifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]

    data, _ = data_and_model()
    recorder = Recorder()
    model = Stepwise.from_config(config_with(SMALL))
    trainer(tmp_path, max_epochs=3, callbacks=[recorder]).fit(model, datamodule=data)
    assert recorder.lrs[::10] == [0.1, 0.05, 0.025]


class Convolution(nn.Module):
    """A user-defined network."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(1, 4, 5, stride=3), nn.Linear(4 * 64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images[:, None]).relu().flatten(1))
        return logits


def test_a_user_defined_network_trains_and_loads(tmp_path: Path) -> None:
    data, _ = data_and_model()
    model = DigitClassifier(Convolution(), seed=1)
    checkpoint = ModelCheckpoint(tmp_path, filename="user")
    run = trainer(tmp_path, max_epochs=4, enable_checkpointing=True, callbacks=[checkpoint])
    run.fit(model, datamodule=data)
    (tested,) = run.test(model, datamodule=data, verbose=False)
    assert tested["test/accuracy"] > 0.8
    with pytest.raises(UserError, match="network="):
        DigitClassifier.load_from_checkpoint(tmp_path / "user.ckpt")
    loaded = DigitClassifier.load_from_checkpoint(tmp_path / "user.ckpt", network=Convolution())
    images = data.digits.test_images
    torch.testing.assert_close(loaded.probabilities(images), model.probabilities(images))


def test_another_lightning_module_trains_on_the_data(tmp_path: Path) -> None:
    class Linear(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(784, 10)

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            images, labels = batch
            return nn.functional.cross_entropy(self.layer(images.flatten(1) / 255), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    data, _ = data_and_model()
    model = Linear()
    trainer(tmp_path, max_epochs=5).fit(model, train_dataloaders=data.train_dataloader())
    predicted = model.layer(data.digits.test_images.flatten(1) / 255).argmax(1)
    assert (predicted == data.digits.test_labels).double().mean() > 0.8


def test_the_model_trains_from_another_data_loader(tmp_path: Path) -> None:
    dataset = digits()
    floats = dataset.train_images[:, None] / 255  # like torchvision's ToTensor
    uint8 = DataLoader(TensorDataset(dataset.train_images, dataset.train_labels), batch_size=20)
    scaled = DataLoader(TensorDataset(floats, dataset.train_labels), batch_size=20)
    weights = []
    for loader in (uint8, scaled):
        _, model = data_and_model()
        run = trainer(tmp_path, max_epochs=1)
        run.fit(model, train_dataloaders=loader, val_dataloaders=loader)
        weights.append(model.mlp.layers[0].weight.detach())
    torch.testing.assert_close(weights[0], weights[1])


@pytest.mark.filterwarnings("ignore:.*tuner", "ignore:.*Fabric")
def test_the_lightning_tuner_sets_learning_rate_and_batch_size(tmp_path: Path) -> None:
    data, model = data_and_model()
    tuner = Tuner(trainer(tmp_path, max_epochs=20))
    finder = tuner.lr_find(model, datamodule=data, num_training=60, max_lr=0.5)
    assert finder is not None
    assert model.lr == model.hparams["optim"]["lr"] == finder.suggestion() != 0.05
    tuner.scale_batch_size(model, datamodule=data, init_val=4, max_trials=2, steps_per_trial=1)
    assert data.batch_size == 8
    recorder = Recorder()
    trainer(tmp_path, max_epochs=1, callbacks=[recorder]).fit(model, datamodule=data)
    assert len(recorder.batches[0]) == 8
    assert recorder.lrs[0] == pytest.approx(model.lr)


@pytest.mark.parametrize("options", [{"max_steps": 0}, {"max_epochs": 0}, {"limit_train_batches": 0, "max_epochs": 1}])
def test_training_zero_steps_is_allowed(options: dict[str, Any], tmp_path: Path) -> None:
    data, model = data_and_model(**{"optim.schedule": "one_cycle"})
    run = trainer(tmp_path, **options)
    run.fit(model, datamodule=data)
    assert run.global_step == 0
