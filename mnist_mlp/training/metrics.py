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


class GatheredLogits(Metric):
    """The logits of every evaluated image, in file order whatever process saw them."""

    full_state_update = False
    logits: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor) -> None:
        """logits: (b, 10) of this process's next images."""
        self.logits.append(logits)

    def compute(self) -> Tensor:
        """(n, 10)."""
        return dim_zero_cat(self.logits)

    def in_file_order(self, world_size: int) -> Tensor:
        """(n, 10) on the CPU, of images of which each process saw every `world_size`-th."""
        gathered = self.compute().cpu()
        shares = [torch.arange(rank, len(gathered), world_size) for rank in range(world_size)]
        return gathered[torch.cat(shares).argsort()]


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
_COUNTED = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}


def training_metrics() -> MetricCollection:
    """Build micro accuracy and macro F1 of training."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(average="micro", **_OPTIONS),
            "f1_macro": MulticlassF1Score(average="macro", **_OPTIONS),
        },
        prefix="train/",
        compute_groups=False,
    )


def evaluation_metrics(split: str) -> MetricCollection:
    """Build the scalar metrics of an evaluated split, from logits (n, 10) and labels (n,).

    Accuracy is micro; precision, recall and F1 are macro. On test also the expected calibration error (15 bins) and
    the top-2 accuracy.
    """
    metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(average="micro", **_OPTIONS)}
    metrics |= {f"{name}_macro": metric(average="macro", **_OPTIONS) for name, metric in _COUNTED.items()}
    groups = [["accuracy"], [f"{name}_macro" for name in _COUNTED]]
    if split == "test":
        metrics["calibration_error"] = CalibrationError(n_bins=15, norm="l1", **_OPTIONS)
        metrics["top2_accuracy"] = MulticlassAccuracy(average="micro", top_k=2, **_OPTIONS)
        groups += [["calibration_error"], ["top2_accuracy"]]
    return MetricCollection(metrics, prefix=f"{split}/", compute_groups=groups)


def class_metrics() -> MetricCollection:
    """Build precision, recall and f1 of each class, (10,) each, and confusion_matrix (10, 10)."""
    metrics: dict[str, Metric | MetricCollection] = {
        name: metric(average="none", **_OPTIONS) for name, metric in _COUNTED.items()
    }
    metrics["confusion_matrix"] = MulticlassConfusionMatrix(**_OPTIONS)
    return MetricCollection(metrics, compute_groups=[list(_COUNTED), ["confusion_matrix"]])


def to_float(value: Tensor) -> float:
    """The shortest decimal that stands for a scalar tensor: a float32 accuracy of 0.9754 becomes 0.9754."""
    return float(str(value.detach().cpu().numpy()[()]))
