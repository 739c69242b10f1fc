"""Chunks of steps: captured (tests/tape.py stands in for a CUDA graph), eager, and in a plain trainer."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from settings import config_with
from small_steps import CHOICES, IMAGES, LABELS, assert_equal_training, classifier
from tape import Tape, capture_on
from torch import Tensor

from mnist_mlp.data.module import DigitData
from mnist_mlp.training.checkpoint import PortableCheckpoint
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fast import Chunk, CUDAGraphRunner, run_eagerly
from mnist_mlp.training.fit import fit
from mnist_mlp.training.optimizer import RULES
from mnist_mlp.training.step import TrainingStep
from mnist_mlp.training.trainer import cpu_threads


@pytest.mark.parametrize("name", list(CHOICES))
def test_replayed_chunks_equal_eager_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch restricts the RMSprop that graphs can capture to GPUs
    module = sys.modules["torch.optim.rmsprop"]
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda: ["cpu"])
    rmsprop = RULES[torch.optim.RMSprop]
    monkeypatch.setitem(
        RULES, torch.optim.RMSprop, lambda group, *state: rmsprop({**group, "capturable": True}, *state)
    )
    tapes: list[Tape] = []

    def captured(step: TrainingStep, state: list[Tensor]) -> CUDAGraphRunner:
        return CUDAGraphRunner(run_eagerly(step), state, capture_on(state, tapes))

    assert_equal_training(CHOICES[name], captured)
    assert len(tapes) == 2  # one for full chunks, one for the last of an epoch


def test_another_dataset_is_not_replayed_on_the_captured_one() -> None:
    _, step, state = classifier()
    execute = CUDAGraphRunner(run_eagerly(step), state, capture_on(state, []))
    batches, lrs = torch.arange(40).split(20), torch.zeros(2)
    for _ in range(3):
        logits = execute(Chunk(IMAGES, LABELS, batches), lrs)[1].clone()
    inverted_logits = execute(Chunk(255 - IMAGES, LABELS, batches), lrs)[1]
    assert not torch.allclose(logits, inverted_logits)


@pytest.mark.parametrize("name", ["plain", "all"])
def test_a_failed_capture_prints_one_line_and_changes_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(function: object) -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    assert_equal_training(CHOICES[name], lambda step, state: CUDAGraphRunner(run_eagerly(step), state, fail))
    assert capsys.readouterr().out == "CUDA graphs are off: operation not permitted when stream is capturing\n"


@pytest.mark.parametrize("name", ["plain", "all"])
def test_an_incorrect_capture_is_detected_and_changes_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def capture_incorrectly(step: TrainingStep, state: list[Tensor]) -> CUDAGraphRunner:
        record = capture_on(state, [])

        def capture(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
            results, replay = record(function)

            def replay_incorrectly() -> None:
                replay()
                with torch.no_grad():
                    state[0].mul_(1.01)

            return results, replay_incorrectly

        return CUDAGraphRunner(run_eagerly(step), state, capture)

    assert_equal_training(CHOICES[name], capture_incorrectly)
    output = capsys.readouterr().out
    assert output == "CUDA graphs are off: the recorded chunk does not compute what the eager one does\n"


def test_an_epoch_of_one_chunk_is_captured() -> None:
    _, step, state = classifier()
    tapes: list[Tape] = []
    runner = CUDAGraphRunner(run_eagerly(step), state, capture_on(state, tapes))
    for _ in range(3):
        runner(Chunk(IMAGES, LABELS, torch.arange(40).split(20)), torch.full((2,), 0.01))
    assert len(tapes) == 1
    assert runner.fault == ""


EQUAL: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw, one cycle": {"optim.name": "adamw", "optim.lr": 0.003, "optim.schedule": "one_cycle"},
    "nadam, cosine": {"optim.name": "nadam", "optim.lr": 0.003, "optim.schedule": "cosine"},
    "batch norm": {"model.batch_norm": True, "optim.label_smoothing": 0.1},
    "dropout": {"model.dropout": 0.3, "optim.weight_decay": 0.01},
    "distortions": {"augment.rotation": 10.0, "augment.elastic": 1.0},
    "rmsprop, warm-up, step": {
        "optim.name": "rmsprop",
        "optim.lr": 0.0001,
        "optim.schedule": "step",
        "optim.step_size": 1,
        "optim.warmup_epochs": 0.7,
    },
    "nesterov, clipped, plateau": {
        "optim.nesterov": True,
        "optim.gradient_clip_val": 0.3,
        "optim.schedule": "plateau",
        "optim.ema": 0.5,
        "optim.vat": 1.0,
        "trainer.precision": "bf16-mixed",
    },
    "ema": {"optim.ema": 0.9, "model.batch_norm": True, "optim.schedule": "linear"},
    "virtual adversarial": {"optim.vat": 1.0, "model.batch_norm": True},
    "bfloat16": {"trainer.precision": "bf16-mixed"},
}


@pytest.mark.parametrize("name", list(EQUAL))
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_fit_is_bit_identical_to_a_plain_trainer(name: str, idx_root: Path, tmp_path: Path) -> None:
    config = config_with(
        {
            "data.root": str(idx_root), "data.val_size": 60, "data.batch_size": 16, "model.hidden_layers": 2,
            "model.hidden_units": [12], "trainer.max_epochs": 2, "trainer.steps_per_execution": 4,
            "trainer.progress": False, "trainer.figures": False, "trainer.accelerator": "cpu", "trainer.threads": 1,
            **EQUAL[name],
        }
    )  # fmt: skip
    result = fit(config, tmp_path / "fit")
    torch.manual_seed(config.seed)
    data, model = DigitData.from_config(config), DigitClassifier.from_config(config)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    checkpoint = PortableCheckpoint(tmp_path / "steps", filename="plain", save_on_train_epoch_end=True)
    options: dict[str, Any] = {**quiet, "max_epochs": 2, "precision": config.trainer.precision, "accelerator": "cpu"}
    trainer = pl.Trainer(**options, callbacks=[checkpoint])
    with cpu_threads(1):  # the number of threads affects rounding
        trainer.fit(model, datamodule=data)
    plain = torch.load(tmp_path / "steps" / "plain.ckpt", weights_only=True)
    fast = torch.load(tmp_path / "fit" / "checkpoints" / "last.ckpt", weights_only=True)
    assert plain["global_step"] == fast["global_step"] == 2 * len(data.train_dataloader())
    groups = [checkpoint["optimizer_states"][0]["param_groups"][0] for checkpoint in (plain, fast)]
    assert groups[0]["lr"] == groups[1]["lr"]
    assert plain["lr_schedulers"][0]["last_epoch"] == fast["lr_schedulers"][0]["last_epoch"]
    assert plain["state_dict"].keys() == fast["state_dict"].keys()
    for weights, value in plain["state_dict"].items():
        assert torch.equal(value, fast["state_dict"][weights]), weights
    assert trainer.callback_metrics["val/accuracy"].item() == pytest.approx(result.metrics["val/accuracy"])
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(result.metrics["train/loss"])


class CountSteps(pl.Callback):
    """An observer that needs every step."""

    affects_result = False

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1


def test_a_run_can_be_resumed_with_and_without_chunks_of_steps(idx_root: Path, tmp_path: Path) -> None:
    settings = {
        "data.root": str(idx_root), "data.val_size": 60, "data.batch_size": 16, "model.hidden_layers": 1,
        "model.hidden_units": [8], "trainer.max_epochs": 3, "trainer.progress": False, "trainer.figures": False,
        "optim.name": "adamw", "optim.schedule": "one_cycle", "optim.ema": 0.8, "model.dropout": 0.2,
        "trainer.steps_per_execution": 4,
    }  # fmt: skip
    unbroken = fit(config_with(settings), tmp_path / "unbroken")
    observer = CountSteps()
    for name, first, second in (("to", [], [observer]), ("from", [observer], [])):

        class PowerCut(pl.Callback):
            affects_result = False

            def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
                if trainer.current_epoch == 1:
                    raise SystemExit

        with pytest.raises(SystemExit):
            fit(config_with(settings), tmp_path / name, callbacks=[PowerCut(), *first])
        resumed = fit(config_with(settings), tmp_path / name, callbacks=second)
        assert resumed.metrics == unbroken.metrics
        assert resumed.fingerprint == unbroken.fingerprint
    assert observer.steps == 3 * 15


def test_lightning_still_has_the_step_counters_in_use() -> None:
    loop = pl.Trainer(logger=False, enable_checkpointing=False).fit_loop.epoch_loop
    changed = "Lightning changed: adapt count_steps in mnist_mlp/training/fast.py, share_step_count in checkpoint.py"
    progress = loop.manual_optimization.optim_step_progress
    assert (progress.total.ready, progress.total.completed, progress.current.ready) == (0, 0, 0), changed
    assert loop._batches_that_stepped == 0, changed
