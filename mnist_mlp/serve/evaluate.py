"""A trained net, or a committee of them, on one split of the digits."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.compare.statistics import McNemar, mcnemar
from mnist_mlp.config import Config, subset_fraction
from mnist_mlp.data.mnist import Digits, has_official_files, load_digits
from mnist_mlp.data.module import EVAL_BATCH, random_seed, split_digits
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.result import RunResult
from mnist_mlp.serve.nets import TrainedNet, load_classifier, locate, log_probabilities_of_views
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.metrics import MeanLoss, class_metrics, evaluation_metrics, to_float

SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class Evaluation:
    """One net, or committee, on one split.

    metrics: scalars by name, without the split; per_class: ten numbers each of precision, recall, f1 and support;
    confusion_matrix: 10 x 10 counts, rows are truth; truth: (n,); log_probabilities: (n, 10), of the images in
    `indices` (places in the split's file); images: (n, 28, 28); views: how many distorted views of each image are in
    the mean (`log_probabilities_of_views`).
    """

    name: str
    split: str
    source: str
    metrics: dict[str, float]
    per_class: dict[str, list[float]]
    confusion_matrix: list[list[int]]
    truth: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]
    indices: NDArray[np.int64]
    images: NDArray[np.uint8]
    views: int = 0

    @property
    def probabilities(self) -> NDArray[np.float32]:
        return np.exp(self.log_probabilities)

    @property
    def right(self) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = np.equal(self.log_probabilities.argmax(1), self.truth)
        return right

    def to_json(self) -> JSON:
        """Name, split, counts, metrics as `split/name`, and the rest as result.json has it."""
        return {
            "name": self.name,
            "split": self.split,
            "source": self.source,
            "images": len(self.truth),
            "views": self.views,
            "metrics": {f"{self.split}/{name}": value for name, value in self.metrics.items()},
            "per_class": self.per_class,
            "confusion_matrix": self.confusion_matrix,
        }


@dataclass(frozen=True)
class CommitteeEvaluation:
    """The members, what they say together (mean log-probabilities), and McNemar's test against the best."""

    members: list[Evaluation]
    committee: Evaluation
    best: Evaluation
    """The member with the highest accuracy; of equals, the first."""
    against_best: McNemar
    """Images that only the best member, and only the committee, has right."""

    def to_json(self) -> JSON:
        """Members and committee as `Evaluation` gives them, and the test between best member and committee."""
        test = self.against_best
        return {
            "members": [member.to_json() for member in self.members],
            "committee": self.committee.to_json(),
            "best_member": self.best.name,
            "mcnemar": {
                "only_best_member_right": test.only_first,
                "only_committee_right": test.only_second,
                "p_value": test.p_value,
            },
        }


def evaluate_run(
    run: str | Path, split: str = "test", data_root: str | None = None, views: int = 0, seed: int = 0
) -> Evaluation:
    """Evaluate a run (folder, checkpoint, name under outputs/ or "latest") on "test", "val" or "train".

    The number format is the one that the run was tested in (`trainer.precision`). data_root: where the official files
    are; default is the run's own data.root where they are there, else $MNIST_MLP_DATA or ./data. views: with so many
    distorted views of each image (`log_probabilities_of_views`), which `seed` draws. UserError where net or images are
    missing.
    """
    return evaluate_net(locate(run), split, data_root, views, seed)


def evaluate_net(
    net: TrainedNet, split: str = "test", data_root: str | None = None, views: int = 0, seed: int = 0
) -> Evaluation:
    """As `evaluate_run`, for a net that was located."""
    if split not in SPLITS:
        raise UserError(f"split={split!r} is none of {', '.join(SPLITS)}")
    model = load_classifier(net.checkpoint)
    about = _images(net, digits_of(net, data_root), split)
    with _number_format(net):
        logits = log_probabilities_of_views(model, about.images, views, seed) if views else _logits(model, about.images)
    return _evaluation(net.name, about, logits, views)


def evaluate_committee(
    runs: Sequence[str | Path], split: str = "test", data_root: str | None = None, views: int = 0, seed: int = 0
) -> CommitteeEvaluation:
    """Evaluate several runs, one by one and together. UserError where they are not about the same images.

    views, seed: as for `evaluate_run`; every member has views of its own.
    """
    if len(runs) < 2:
        raise UserError(f"a committee needs at least two runs, and {len(runs)} was given")
    members = [evaluate_run(run, split, data_root, views, random_seed(seed, number)) for number, run in enumerate(runs)]
    first = members[0]
    for other in members[1:]:
        if other.source != first.source or not np.array_equal(other.indices, first.indices):
            raise UserError(
                f"{first.name} and {other.name} have different {split} images (data.source, data.subset, data.val_size "
                "and data.split_seed decide them): a committee needs the same; use --split test"
            )
    together = torch.from_numpy(np.mean([member.log_probabilities for member in members], axis=0))
    about = _Images(split, first.source, *map(torch.from_numpy, (first.images, first.truth, first.indices)))
    committee = _evaluation(f"committee of {len(runs)}", about, together, views)
    best = max(members, key=lambda member: member.metrics["accuracy"])
    return CommitteeEvaluation(members, committee, best, mcnemar(best.right.tolist(), committee.right.tolist()))


def digits_of(net: TrainedNet, data_root: str | None = None) -> Digits:
    """The digits that the net's run was about. UserError where they are not here and cannot be fetched."""
    config = net.config()
    if data_root is None and config is not None:
        if config["data"]["source"] == "sample":
            return load_digits("sample", "")
        if has_official_files(config["data"]["root"]):
            return load_digits("mnist", config["data"]["root"])
    return load_digits("mnist", data_root or Config().data.root)


def _number_format(net: TrainedNet) -> AbstractContextManager[object]:
    """The one in which the net's own run tested it; plain float32 for a checkpoint alone."""
    config = net.config()
    mixed = config is not None and config["trainer"].get("precision") == "bf16-mixed"
    return torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext()


def disagreements_with(result: RunResult, evaluation: Evaluation) -> list[str]:
    """How an evaluation on test differs from the run's own result.json; empty where it does not.

    Counts are compared exactly, the loss to six digits: another number of threads rounds it differently.
    """
    found = []
    if evaluation.confusion_matrix != result.confusion_matrix:
        moved = np.abs(np.subtract(evaluation.confusion_matrix, result.confusion_matrix)).sum()
        found.append(f"the confusion matrix (entries differ by {moved} in all)")
    for name, value in evaluation.metrics.items():
        own = result.metrics.get(f"test/{name}")
        if own is not None and not np.isclose(value, own, rtol=1e-5, atol=1e-6):
            found.append(f"{name} ({value:.6g} here, {own:.6g} there)")
    return found


class _Images(NamedTuple):
    """images: (n, 28, 28) uint8; labels and places in the file of the split: (n,)."""

    split: str
    source: str
    images: Tensor
    labels: Tensor
    indices: Tensor


def _images(net: TrainedNet, digits: Digits, split: str) -> _Images:
    if split == "test":
        every = torch.arange(len(digits.test_labels))
        return _Images(split, digits.source, digits.test_images, digits.test_labels, every)
    config = net.config()
    if config is None:
        raise UserError(f"split={split}: a checkpoint alone does not say which images these were; give its run folder")
    data, counts = config["data"], net.result()
    # on the sample, val_size may have been cut down
    val_size = int(counts.data["val"]) if counts else int(data["val_size"])
    chosen = split_digits(digits.train_labels, val_size, subset_fraction(data["subset"]), data["split_seed"])
    indices = chosen.val if split == "val" else chosen.train
    if not len(indices):
        raise UserError("split=val: this run set no validation images aside (data.val_size=0)")
    return _Images(split, digits.source, digits.train_images[indices], digits.train_labels[indices], indices)


@torch.no_grad()
def _logits(model: DigitClassifier, images: Tensor) -> Tensor:
    """In the same pieces as a test, so that the same numbers come out."""
    return torch.cat([model(part).float() for part in images.split(EVAL_BATCH)])


def _evaluation(name: str, about: _Images, logits: Tensor, views: int) -> Evaluation:
    metrics, by_class, loss = evaluation_metrics("test"), class_metrics(), MeanLoss()
    for some, truth in zip(logits.split(EVAL_BATCH), about.labels.split(EVAL_BATCH), strict=True):
        metrics.update(some, truth)
        by_class.update(some, truth)
        loss.update(cross_entropy(some, truth)[None], torch.tensor([len(truth)]))
    scalars = {name.removeprefix("test/"): value for name, value in metrics.compute().items()}
    values = {"loss": loss.compute(), **scalars, **by_class.compute()}
    matrix = values["confusion_matrix"]
    per_class = {item: [to_float(value) for value in values[item]] for item in ("precision", "recall", "f1")}
    return Evaluation(
        name,
        about.split,
        about.source,
        {item: to_float(value) for item, value in values.items() if value.ndim == 0},
        {**per_class, "support": matrix.sum(1).tolist()},
        matrix.tolist(),
        about.labels.numpy(),
        logits.log_softmax(1).numpy(),
        about.indices.numpy(),
        about.images.numpy(),
        views,
    )
