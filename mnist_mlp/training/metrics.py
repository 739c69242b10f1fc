"""The torchmetrics collections of training and evaluation.

Every metric is exact over the epoch: counts accumulate on the device, and the value is computed once. Rows of a
confusion matrix are true labels, columns are predictions.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from mnist_mlp.datasets import DIGITS


class MeanLoss(Metric):
    """Mean loss per image over an epoch, summed in float64; NaN and infinity are kept, as signs of divergence."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, losses: Tensor, sizes: Tensor) -> None:
        """Add the mean losses (k,) of mini-batches of these sizes (k,)."""
        self.total += (losses.detach().double() * sizes).sum()
        self.count += sizes.sum()

    def compute(self) -> Tensor:
        """Return the mean loss ()."""
        return self.total / self.count


def in_file_order(gathered: Tensor, world_size: int) -> Tensor:
    """Reorder (n, classes), process by process, each of which has evaluated every `world_size`-th image."""
    indices = [torch.arange(rank, len(gathered), world_size) for rank in range(world_size)]
    return gathered[torch.cat(indices).argsort()]


class CalibrationError(MulticlassCalibrationError):
    """Calibration error of logits, which torchmetrics mistakes for probabilities if all of them lie in [0, 1]."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add logits (b, classes) and labels (b,)."""
        super().update(preds.softmax(1), target)


_COUNTED = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}


def _options(classes: int) -> dict[str, Any]:
    # validate_args costs a device synchronization per update, and both logits and labels are valid by construction
    return {"num_classes": classes, "validate_args": False}


def training_metrics(classes: int = len(DIGITS)) -> MetricCollection:
    """Build the training metrics: accuracy (micro) and F1 (macro)."""
    options = _options(classes)
    accuracy, f1 = MulticlassAccuracy(average="micro", **options), MulticlassF1Score(average="macro", **options)
    return MetricCollection({"accuracy": accuracy, "f1_macro": f1}, prefix="train/", compute_groups=False)


def evaluation_metrics(split: str, classes: int = len(DIGITS)) -> MetricCollection:
    """Build the scalar metrics of a split: accuracy (micro); precision, recall and F1 (macro).

    Macro averages are unweighted means over the classes that are a label or a prediction (`occurring_classes`).
    On "test" also the expected calibration error (15 bins) and the top-2 accuracy.
    """
    options = _options(classes)
    metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(average="micro", **options)}
    metrics |= {f"{name}_macro": metric(average="macro", **options) for name, metric in _COUNTED.items()}
    groups = [["accuracy"], [f"{name}_macro" for name in _COUNTED]]
    if split == "test":
        metrics["calibration_error"] = CalibrationError(n_bins=15, norm="l1", **options)
        metrics["top2_accuracy"] = MulticlassAccuracy(average="micro", top_k=2, **options)
        groups += [["calibration_error"], ["top2_accuracy"]]
    return MetricCollection(metrics, prefix=f"{split}/", compute_groups=groups)


def class_metrics(classes: int = len(DIGITS)) -> MetricCollection:
    """Build the per-class metrics: precision, recall and f1, (classes,), and confusion_matrix (classes, classes)."""
    options = _options(classes)
    metrics: dict[str, Metric | MetricCollection] = {
        name: metric(average="none", **options) for name, metric in _COUNTED.items()
    }
    metrics["confusion_matrix"] = MulticlassConfusionMatrix(**options)
    return MetricCollection(metrics, compute_groups=[list(_COUNTED), ["confusion_matrix"]])


def to_float(value: Tensor) -> float:
    """Convert a scalar tensor to the float of its shortest decimal: float32 0.9754 becomes 0.9754."""
    return float(str(value.detach().cpu().numpy()[()]))
