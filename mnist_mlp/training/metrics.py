"""The torchmetrics collections of training and evaluation.

Every metric is exact over the epoch: state is counted on the device and computed once. In a confusion matrix rows are
truth and columns are predictions.
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
from torchmetrics.utilities.data import dim_zero_cat

from mnist_mlp.config import CLASSES


class MeanLoss(Metric):
    """Mean loss per image over an epoch, summed in float64. NaN and infinity pass through: they mean divergence."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, losses: Tensor, sizes: Tensor) -> None:
        """losses: (b,) mean loss of each mini-batch; sizes: (b,) images in it."""
        self.total += (losses.detach().double() * sizes).sum()
        self.count += sizes.sum()

    def compute(self) -> Tensor:
        return self.total / self.count


class KeptLogits(Metric):
    """The logits of every evaluated image, in the order of the images' places whatever rank saw them."""

    full_state_update = False
    places: list[Tensor]
    logits: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("places", [], dist_reduce_fx="cat")
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, places: Tensor, logits: Tensor) -> None:
        """places: (b,) where the images stand in their file; logits: (b, 10)."""
        self.places.append(places)
        self.logits.append(logits)

    def compute(self) -> Tensor:
        """(n, 10)."""
        order = dim_zero_cat(self.places).argsort()
        return dim_zero_cat(self.logits)[order]


class CalibrationError(MulticlassCalibrationError):
    """torchmetrics' calibration error, from logits.

    torchmetrics takes a batch for probabilities where all its values happen to lie in [0, 1]; here the softmax is
    always taken.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """preds: (b, 10) logits; target: (b,) digits."""
        super().update(preds.softmax(1), target)


# validate_args costs a device synchronisation per update, and the inputs are our own network's and checked files'
_OPTIONS: dict[str, Any] = {"num_classes": CLASSES, "validate_args": False}


def training_metrics() -> MetricCollection:
    """Micro accuracy and macro F1."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(average="micro", **_OPTIONS),
            "f1_macro": MulticlassF1Score(average="macro", **_OPTIONS),
        },
        compute_groups=[["accuracy"], ["f1_macro"]],
    )


def evaluation_metrics(calibration: bool = False) -> MetricCollection:
    """All metrics of an evaluated split, from logits (n, 10) and labels (n,).

    Scalars: accuracy (micro), precision_macro, recall_macro, f1_macro; (10,) each: precision, recall, f1;
    confusion_matrix (10, 10). With calibration also calibration_error (expected, 15 bins) and top2_accuracy.
    """
    metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(average="micro", **_OPTIONS)}
    counted = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}
    metrics |= {f"{name}_macro": metric(average="macro", **_OPTIONS) for name, metric in counted.items()}
    metrics |= {name: metric(average="none", **_OPTIONS) for name, metric in counted.items()}
    metrics["confusion_matrix"] = MulticlassConfusionMatrix(**_OPTIONS)
    groups = [["accuracy"], [f"{name}{end}" for name in counted for end in ("_macro", "")], ["confusion_matrix"]]
    if calibration:
        metrics["calibration_error"] = CalibrationError(n_bins=15, norm="l1", **_OPTIONS)
        metrics["top2_accuracy"] = MulticlassAccuracy(average="micro", top_k=2, **_OPTIONS)
        groups += [["calibration_error"], ["top2_accuracy"]]
    return MetricCollection(metrics, compute_groups=groups)


def to_float(value: Tensor) -> float:
    """The shortest decimal that stands for a scalar tensor: a float32 accuracy of 0.9754 becomes 0.9754."""
    return float(str(value.detach().cpu().numpy()[()]))
