"""The whole step and evaluation on fake CUDA tensors, which have shapes and devices but no data.

An operation that mixes devices, or needs a value on the CPU (`item`, `nonzero`, a Python number), raises an error here;
on a GPU it would stall the queue. The engine of autograd and fused kernels need a driver, so stand-ins replace them.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from settings import config_with
from small_steps import CHOICES, digit_classifier
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from mnist_mlp.training import classifier as classifier_module
from mnist_mlp.training import teacher as teacher_module
from mnist_mlp.training.average import WeightAverage
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.fast import Chunk, run_eagerly
from mnist_mlp.training.optimizer import FunctionalOptimizer
from mnist_mlp.training.step import Objective, TrainingStep
from mnist_mlp.training.teacher import Ensemble


def _gradients(outputs: Tensor, inputs: Any, **options: Any) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, [inputs] if isinstance(inputs, Tensor) else inputs))


def _update(self: FunctionalOptimizer, gradients: list[Tensor], lr: Tensor) -> None:
    with torch.no_grad():
        for weights, gradient in zip(self.parameters, gradients, strict=True):
            weights -= lr * gradient


@pytest.fixture(autouse=True)
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.autograd, "grad", _gradients)
    monkeypatch.setattr(FakeTensor, "__deepcopy__", lambda self, memo: self.detach().clone(), raising=False)
    monkeypatch.setattr(FunctionalOptimizer, "__call__", _update)
    # torchmetrics synchronizes here, once per chunk of steps
    monkeypatch.setattr(torch, "bincount", lambda values, minlength: values.new_empty(minlength))
    monkeypatch.setattr(teacher_module, "_digest", lambda members: "")
    monkeypatch.setattr(classifier_module, "to_device_async", lambda values, device: values.to(device))
    monkeypatch.setattr(DigitClassifier, "log", lambda *arguments, **options: None)
    monkeypatch.setattr(DigitClassifier, "log_dict", lambda *arguments, **options: None)
    with FakeTensorMode():
        yield


def _training(settings: dict[str, Any]) -> tuple[DigitClassifier, TrainingStep, Chunk]:
    options = config_with(settings).optim
    with torch.device("cuda"):
        model = digit_classifier(**settings)
        teacher = Ensemble([digit_classifier(**{"model.hidden_units": [8]})], "a net") if options.teacher else None
        images, labels = torch.empty(90, 28, 28, dtype=torch.uint8), torch.empty(90, dtype=torch.int64)
        batches = torch.empty(90, dtype=torch.int64).split(20)
    strengths = config_with(settings).augment.strengths()
    objective = Objective(model, strengths, options.label_smoothing, options.vat, teacher)
    average = WeightAverage(model.mlp, options.ema) if options.ema else None
    optimizer = FunctionalOptimizer(model.configure_optimizers()["optimizer"])
    return model, TrainingStep(objective, optimizer, average), Chunk(images, labels, batches)


@pytest.mark.parametrize("name", CHOICES)
def test_steps_and_metrics_stay_on_the_gpu(name: str) -> None:
    model, step, chunk = _training(CHOICES[name])
    losses, logits = run_eagerly(step)(chunk, torch.empty(len(chunk.batches), device="cuda"))
    labels = chunk.labels[torch.cat(chunk.batches)]
    model._log_training(losses, [len(batch) for batch in chunk.batches], logits, labels)
    assert (losses.device.type, losses.shape, logits.shape) == ("cuda", (5,), (90, 10))
    assert {value.device.type for value in model.train_metrics.compute().values()} == {"cuda"}


def test_evaluation_stays_on_the_gpu() -> None:
    model, _, chunk = _training({})
    model.eval()
    model.validation_step((chunk.images, chunk.labels), 0)
    model.test_step((chunk.images, chunk.labels), 0)
    metrics = [model.val_metrics, model.test_metrics, model.val_class_metrics, model.test_class_metrics]
    values = [value for collection in metrics for value in collection.compute().values()]
    assert {value.device.type for value in [*values, model.test_loss.compute()]} == {"cuda"}


def test_a_hidden_synchronization_is_an_error() -> None:
    _, step, chunk = _training({})
    forward = step.objective.model
    step.objective.model = lambda images: forward(images) * float(images.float().mean())
    with pytest.raises(DataDependentOutputException):
        step(chunk.images, chunk.labels, chunk.batches[0], torch.empty((), device="cuda"))
