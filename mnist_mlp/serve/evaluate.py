"""Evaluate a trained net, or an ensemble of them, on one split of the images."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.compare.statistics import McNemar, mcnemar
from mnist_mlp.config import subset_fraction
from mnist_mlp.data.mnist import Digits, has_official_files, load_digits
from mnist_mlp.data.module import EVAL_BATCH, random_seed, split_digits
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.result import RunResult
from mnist_mlp.serve.nets import TrainedNet, load_classifier, locate, log_probabilities_of_views
from mnist_mlp.training.metrics import MeanLoss, class_metrics, evaluation_metrics, to_float

SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class Evaluation:
    """One net, or an ensemble, on one split.

    images: (n, 28, 28); truth: (n,); indices: (n,), positions in the split's file; logits: (n, 10); views: how many
    distorted views of each image are in the mean (`log_probabilities_of_views`).
    """

    name: str
    split: str
    source: str
    images: NDArray[np.uint8]
    truth: NDArray[np.int64]
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]
    views: int = 0

    @cached_property
    def log_probabilities(self) -> NDArray[np.float32]:
        """(n, 10)."""
        return torch.from_numpy(self.logits).log_softmax(1).numpy()

    @property
    def probabilities(self) -> NDArray[np.float32]:
        return np.exp(self.log_probabilities)

    @property
    def correct(self) -> NDArray[np.bool_]:
        return np.asarray(self.log_probabilities.argmax(1) == self.truth)

    @cached_property
    def _scores(self) -> dict[str, Tensor]:
        metrics, by_class, loss = evaluation_metrics("test"), class_metrics(), MeanLoss()
        logits, truth = (torch.from_numpy(values).split(EVAL_BATCH) for values in (self.logits, self.truth))
        for batch, labels in zip(logits, truth, strict=True):
            metrics.update(batch, labels)
            by_class.update(batch, labels)
            loss.update(cross_entropy(batch, labels)[None], torch.tensor([len(labels)]))
        scalars = {key.removeprefix("test/"): value for key, value in metrics.compute().items()}
        return {"loss": loss.compute(), **scalars, **by_class.compute()}

    @property
    def metrics(self) -> dict[str, float]:
        """Scalars by name, without the split."""
        return {name: to_float(value) for name, value in self._scores.items() if value.ndim == 0}

    @property
    def confusion_matrix(self) -> list[list[int]]:
        """10 x 10 counts, rows are truth."""
        matrix: list[list[int]] = self._scores["confusion_matrix"].tolist()
        return matrix

    @property
    def per_class(self) -> dict[str, list[float]]:
        """Ten numbers each of precision, recall, f1 and support."""
        scores = {name: [to_float(value) for value in self._scores[name]] for name in ("precision", "recall", "f1")}
        return {**scores, "support": self._scores["confusion_matrix"].sum(1).tolist()}

    def to_json(self) -> JSON:
        """Name, split, counts, metrics as `split/name`, and per_class and confusion_matrix as in result.json."""
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
class EnsembleEvaluation:
    """The members, their ensemble (mean of the log-probabilities), and McNemar's test against the best member."""

    members: list[Evaluation]
    ensemble: Evaluation
    best: Evaluation
    """The member with the highest accuracy; among equals, the first."""
    against_best: McNemar
    """Images that only the best member, and only the ensemble, classifies correctly."""

    def to_json(self) -> JSON:
        """Members and ensemble as `Evaluation` has them, and the test; keys are those of earlier versions."""
        test = self.against_best
        return {
            "members": [member.to_json() for member in self.members],
            "committee": self.ensemble.to_json(),
            "best_member": self.best.name,
            "mcnemar": {
                "only_best_member_right": test.only_first,
                "only_committee_right": test.only_second,
                "p_value": test.p_value,
            },
        }


def evaluate_run(
    run: str | Path | TrainedNet, split: str = "test", data_root: str | None = None, views: int = 0, seed: int = 0
) -> Evaluation:
    """Evaluate a run, in the number format in which the run was tested (`trainer.precision`).

    Args:
        run: run folder, checkpoint, name under outputs/, "latest", or a net that was located.
        split: "test", "val" or "train".
        data_root: folder with the official files; default is the run's own data.root if they are there, else
            $MNIST_MLP_DATA or ./data.
        views: also average over so many distorted views of each image (`log_probabilities_of_views`).
        seed: draws the views.

    Raises:
        UserError: the net or its images are missing.
    """
    if split not in SPLITS:
        raise UserError(f"split={split!r} is none of {', '.join(SPLITS)}")
    net = run if isinstance(run, TrainedNet) else locate(run)
    model, digits, config = load_classifier(net.checkpoint), digits_of(net, data_root), net.config()
    indices = _indices(net, digits, split)
    name = "test" if split == "test" else "train"
    images, labels = getattr(digits, f"{name}_images")[indices], getattr(digits, f"{name}_labels")[indices]
    mixed = config is not None and config["trainer"].get("precision") == "bf16-mixed"
    with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext(), torch.no_grad():
        if views:
            logits = log_probabilities_of_views(model, images, views, seed)
        else:  # in batches of the same size as a test, which gives the same numbers
            logits = torch.cat([model(batch).float() for batch in images.split(EVAL_BATCH)])
    known = images.numpy(), labels.numpy(), indices.numpy()
    return Evaluation(net.name, split, digits.source, *known, logits.numpy(), views)


def evaluate_ensemble(
    runs: Sequence[str | Path], split: str = "test", data_root: str | None = None, views: int = 0, seed: int = 0
) -> EnsembleEvaluation:
    """Evaluate several runs, one by one and as an ensemble; arguments as for `evaluate_run`.

    Every member has views of its own.

    Raises:
        UserError: the runs have different images.
    """
    if len(runs) < 2:
        raise UserError(f"an ensemble needs at least two runs: there is {len(runs)}")
    members = [evaluate_run(run, split, data_root, views, random_seed(seed, number)) for number, run in enumerate(runs)]
    first = members[0]
    for member in members[1:]:
        if member.source != first.source or not np.array_equal(member.indices, first.indices):
            raise UserError(
                f"{first.name} and {member.name} have different {split} images (data.source, data.subset, "
                "data.val_size and data.split_seed decide them): an ensemble needs the same; use --split test"
            )
    mean = np.mean([member.log_probabilities for member in members], axis=0)
    ensemble = replace(first, name=f"ensemble of {len(runs)}", logits=mean)
    best = max(members, key=lambda member: member.metrics["accuracy"])
    return EnsembleEvaluation(members, ensemble, best, mcnemar(best.correct.tolist(), ensemble.correct.tolist()))


def digits_of(net: TrainedNet, data_root: str | None = None) -> Digits:
    """The digits of the net's run.

    Raises:
        UserError: they are not on this machine and cannot be downloaded, or were arrays.
    """
    config = net.config()
    if config is not None and config["data"]["source"] == "arrays":
        raise UserError(
            f"{net.name} was trained on arrays of your own, which are not in its folder: test it in Python, by "
            "Trainer.test with mnist_mlp.DigitData"
        )
    if data_root is None and config is not None:
        if config["data"]["source"] == "sample":
            return load_digits("sample")
        if has_official_files(config["data"]["root"]):
            return load_digits("mnist", config["data"]["root"])
    return load_digits("mnist", data_root)


def disagreements_with(result: RunResult, evaluation: Evaluation) -> list[str]:
    """How an evaluation on test differs from the run's own result.json; empty if it does not.

    Counts are compared exactly, the loss to six digits: another number of threads rounds it differently.
    """
    differences = []
    if evaluation.confusion_matrix != result.confusion_matrix:
        moved = np.abs(np.subtract(evaluation.confusion_matrix, result.confusion_matrix)).sum()
        differences.append(f"the confusion matrix (entries differ by {moved} in all)")
    for name, value in evaluation.metrics.items():
        own = result.metrics.get(f"test/{name}")
        if own is not None and not np.isclose(value, own, rtol=1e-5, atol=1e-6):
            differences.append(f"{name} ({value:.6g} here, {own:.6g} there)")
    return differences


def _indices(net: TrainedNet, digits: Digits, split: str) -> Tensor:
    """The positions of the split's images in their file."""
    if split == "test":
        return torch.arange(len(digits.test_labels))
    config, result = net.config(), net.result()
    if config is None:
        raise UserError(f"split={split}: a checkpoint alone does not say which images these were; give its run folder")
    data = config["data"]
    val_size = int(result.data["val"]) if result else int(data["val_size"])  # the sample may have reduced it
    chosen = split_digits(digits.train_labels, val_size, subset_fraction(data["subset"]), data["split_seed"])
    if split == "val" and not len(chosen.val):
        raise UserError("split=val: this run has no validation images (data.val_size=0)")
    return chosen.val if split == "val" else chosen.train
