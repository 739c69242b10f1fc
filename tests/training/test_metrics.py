import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from mnist_mlp.training.metrics import (
    GatheredLogits,
    MeanLoss,
    class_metrics,
    evaluation_metrics,
    to_float,
    training_metrics,
)


@pytest.fixture(params=["all classes", "class 7 never occurs"])
def logits_and_labels(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 10, (1_000,), generator=generator)
    logits = torch.randn(1_000, 10, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, 10)
    if request.param == "class 7 never occurs":
        keep = labels != 7
        logits, labels = logits[keep], labels[keep]
        logits[:, 7] = -9.0
    return logits, labels


def evaluate(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    metrics, by_class = evaluation_metrics("test"), class_metrics()
    for start in range(0, len(labels), 128):  # the last batch is smaller
        for collection in (metrics, by_class):
            collection.update(logits[start : start + 128], labels[start : start + 128])
    return {name.removeprefix("test/"): value for name, value in {**metrics.compute(), **by_class.compute()}.items()}


def test_scalars_and_per_class_values_agree_with_scikit_learn(
    logits_and_labels: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = logits_and_labels
    values, predicted = evaluate(logits, labels), logits.argmax(1)
    assert to_float(values["accuracy"]) == pytest.approx(sk.accuracy_score(labels, predicted), abs=1e-7)
    assert to_float(values["top2_accuracy"]) == pytest.approx(
        sk.top_k_accuracy_score(labels, logits.numpy(), k=2, labels=range(10)), abs=1e-7
    )
    present = sorted(set(labels.tolist()) | set(predicted.tolist()))
    macro = sk.precision_recall_fscore_support(labels, predicted, labels=present, average="macro", zero_division=0)
    for name, expected in zip(("precision_macro", "recall_macro", "f1_macro"), macro, strict=False):
        assert to_float(values[name]) == pytest.approx(expected, abs=1e-6), name
    per_class = sk.precision_recall_fscore_support(labels, predicted, labels=range(10), zero_division=0)
    for name, expected in zip(("precision", "recall", "f1"), per_class, strict=False):
        np.testing.assert_allclose(values[name].numpy(), expected, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(values["confusion_matrix"].sum(1).numpy(), per_class[3])


def test_the_confusion_matrix_has_truth_in_rows_and_agrees_with_scikit_learn(
    logits_and_labels: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = logits_and_labels
    matrix = evaluate(logits, labels)["confusion_matrix"]
    np.testing.assert_array_equal(matrix.numpy(), sk.confusion_matrix(labels, logits.argmax(1), labels=range(10)))
    assert int(matrix.sum()) == len(labels)


def test_calibration_error_is_the_weighted_gap_of_fifteen_equal_bins(
    logits_and_labels: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = logits_and_labels
    confidence, predicted = logits.softmax(1).max(1)
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).double().mean() - confidence[inside].double().mean()
            expected += abs(gap.item()) * inside.double().mean().item()
    assert to_float(evaluate(logits, labels)["calibration_error"]) == pytest.approx(expected, abs=1e-6)


def test_logits_in_the_unit_interval_are_not_taken_for_probabilities() -> None:
    logits, labels = torch.rand(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10
    confidence, predicted = logits.softmax(1).max(1)  # all in the bin from 2/15 to 3/15 or its neighbors
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).double().mean() - confidence[inside].double().mean()
            expected += abs(gap.item()) * inside.double().mean().item()
    assert to_float(evaluate(logits, labels)["calibration_error"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_logits_gathered_from_processes_are_in_file_order(world_size: int) -> None:
    logits = torch.randn(7, 10)
    gathered = GatheredLogits()
    for rank in range(world_size):  # torchmetrics concatenates the processes' images
        gathered.update(logits[rank::world_size])
    assert torch.equal(gathered.in_file_order(world_size), logits)


def test_training_metrics_equal_evaluation_metrics(logits_and_labels: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = logits_and_labels
    metrics = training_metrics()
    metrics.update(logits, labels)
    expected = evaluate(logits, labels)
    assert {name: to_float(value) for name, value in metrics.compute().items()} == {
        f"train/{name}": to_float(expected[name]) for name in ("accuracy", "f1_macro")
    }


def test_mean_loss_is_weighted_by_images() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor([1.0, 2.0]), torch.tensor([64, 64]))
    loss.update(torch.tensor([10.0]), torch.tensor([2]))
    assert to_float(loss.compute()) == pytest.approx((64 + 128 + 20) / 130)


def test_mean_loss_propagates_nan() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor([1.0, math.nan]), torch.tensor([1, 1]))
    assert math.isnan(to_float(loss.compute()))


def test_float32_values_are_converted_to_the_shortest_float() -> None:
    assert to_float(torch.tensor(0.9754)) == 0.9754
