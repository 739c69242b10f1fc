"""Evaluate a trained network, or an ensemble, on one split of the images."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnist_mlp.compare.statistics import McNemar, mcnemar
from mnist_mlp.config import subset_fraction
from mnist_mlp.console import error_summary
from mnist_mlp.data.mnist import Digits, has_official_files, load_digits
from mnist_mlp.data.module import EVAL_BATCH, random_seed, split_digits
from mnist_mlp.datasets import DATASETS, DIGITS, QMNIST_TESTS
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, UnreadableFileError
from mnist_mlp.runs.folder import is_continuation
from mnist_mlp.runs.result import RunResult, source_name
from mnist_mlp.runs.settings import changes, identity
from mnist_mlp.serve.nets import NetOrPath, TrainedNet, augmented_log_probabilities, load_classifier, locate
from mnist_mlp.training.checkpoint import read_checkpoint
from mnist_mlp.training.metrics import MeanLoss, class_metrics, evaluation_metrics, to_float
from mnist_mlp.training.trainer import default_torch_state

SPLITS = ("test", "val", "train", *QMNIST_TESTS)


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one network, or of an ensemble, on one split.

    Attributes:
        images, truth, logits: Shapes (n, 28, 28), (n,) and (n, classes).
        indices: (n,); positions of the images in their file.
        augment: Augmented copies per image (`augmented_log_probabilities`); 0 without test-time augmentation.
        classes: Names of the classes.
        evaluations: How often each test set was evaluated so far; empty for validation and training images.
    """

    name: str
    split: str
    source: str
    images: NDArray[np.uint8]
    truth: NDArray[np.int64]
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]
    augment: int = 0
    classes: tuple[str, ...] = DIGITS
    evaluations: str = ""

    @cached_property
    def log_probabilities(self) -> NDArray[np.float32]:
        """Shape (n, classes)."""
        return torch.from_numpy(self.logits).log_softmax(1).numpy()

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Shape (n, classes)."""
        return np.exp(self.log_probabilities)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, (n,)."""
        return np.asarray(self.log_probabilities.argmax(1) == self.truth)

    @cached_property
    @default_torch_state()
    def _scores(self) -> dict[str, Tensor]:
        count, loss = len(self.classes), MeanLoss()
        metrics, by_class = evaluation_metrics("test", count), class_metrics(count)
        logits, truth = (torch.from_numpy(values).split(EVAL_BATCH) for values in (self.logits, self.truth))
        for batch, labels in zip(logits, truth, strict=True):
            metrics.update(batch, labels)
            by_class.update(batch, labels)
            loss.update(cross_entropy(batch, labels)[None], torch.tensor([len(labels)]))
        scalars = {key.removeprefix("test/"): value for key, value in metrics.compute().items()}
        return {"loss": loss.compute(), **scalars, **by_class.compute()}

    @property
    def metrics(self) -> dict[str, float]:
        """Scalar metrics by name, without the split."""
        return {name: to_float(value) for name, value in self._scores.items() if value.ndim == 0}

    @property
    def confusion_matrix(self) -> list[list[int]]:
        """Counts (classes, classes); rows are true classes, columns are predicted classes."""
        matrix: list[list[int]] = self._scores["confusion_matrix"].tolist()
        return matrix

    @property
    def per_class(self) -> dict[str, list[float]]:
        """Precision, recall, f1 and support, each a list with a number per class."""
        scores = {name: [to_float(value) for value in self._scores[name]] for name in ("precision", "recall", "f1")}
        return {**scores, "support": self._scores["confusion_matrix"].sum(1).tolist()}

    def to_json(self) -> JSON:
        """Return the evaluation with the keys of result.json."""
        return {
            "name": self.name, "split": self.split, "source": self.source, "images": len(self.truth),
            "views": self.augment, "metrics": {f"{self.split}/{name}": value for name, value in self.metrics.items()},
            "per_class": self.per_class, "confusion_matrix": self.confusion_matrix, "evaluations": self.evaluations,
        }  # fmt: skip


@dataclass(frozen=True)
class EnsembleEvaluation:
    """Members, their ensemble (mean of log-probabilities), and McNemar's test of the best member and the ensemble."""

    members: list[Evaluation]
    ensemble: Evaluation
    best: Evaluation
    """The first member with the highest accuracy."""
    against_best: McNemar
    """Counts images that only the best member (first) or only the ensemble (second) classifies correctly."""

    def to_json(self) -> JSON:
        """Return members, ensemble and test; keys are those of earlier versions, which called it a committee."""
        test = self.against_best
        counts = {"only_best_member_right": test.only_first, "only_committee_right": test.only_second}
        return {
            "members": [member.to_json() for member in self.members],
            "committee": self.ensemble.to_json(),
            "best_member": self.best.name,
            "mcnemar": {**counts, "p_value": test.p_value},
        }


@default_torch_state()
def evaluate_run(
    run: NetOrPath, split: str = "test", data_root: str | None = None, augment: int = 0, seed: int = 0
) -> Evaluation:
    """Evaluate a run in the precision of its own test (`trainer.precision`); UserError if its images are missing.

    Args:
        run: Run folder, checkpoint, name, "latest", or a located network.
        split: "test", "val" or "train"; "qmnist50k" or "qmnist60k" for a network trained on MNIST.
        data_root: Folder with the official files; default: the run's data.root, else $MNIST_MLP_DATA or ./data.
        augment: Augmented copies per image for test-time augmentation (`augmented_log_probabilities`).
        seed: Seed of the augmented copies.
    """
    if split not in SPLITS:
        raise UserError(f"split={split!r} is unknown: use {', '.join(SPLITS)}")
    net = locate(run)
    model, config = load_classifier(net.checkpoint), net.config()
    digits = _second_test(net, data_root) if split in QMNIST_TESTS else digits_of(net, data_root)
    if digits.classes != model.class_names:
        raise UserError(f"{net.name} was trained on other classes than those of {net.dataset}: use its run folder")
    indices = _indices(net, digits, split)
    name = "train" if split in ("val", "train") else "test"
    images, labels = getattr(digits, f"{name}_images")[indices], getattr(digits, f"{name}_labels")[indices]
    mixed = config is not None and config["trainer"].get("precision") == "bf16-mixed"
    with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext(), torch.no_grad():
        if augment:
            logits = augmented_log_probabilities(model, images, augment, seed)
        else:  # the batch size of a run's test, for identical results
            logits = torch.cat([model(batch).float() for batch in images.split(EVAL_BATCH)])
    arrays = images.numpy(), labels.numpy(), indices.numpy(), logits.numpy()
    source = source_name(digits.source, digits.digest, net.dataset)
    evaluations = _count(net, source if split == "test" else split) if name == "test" else ""
    return Evaluation(net.name, split, source, *arrays, augment, digits.classes, evaluations)


def _count(net: TrainedNet, test_set: str) -> str:
    """Count an evaluation on a test set; return the counts so far, and why this one is not counted."""
    failure = ""
    try:
        if net.folder is None or net.folder.result() is None:
            return "not counted, because there is no result.json"
        net.folder.count_evaluation(test_set)
    except (OSError, UnreadableFileError) as error:
        failure = f"; this one is not counted ({error_summary(error)})"
    result = net.result()
    return (result.evaluations_text if result else "unknown") + failure


def evaluate_ensemble(
    runs: Sequence[NetOrPath], split: str = "test", data_root: str | None = None, augment: int = 0, seed: int = 0
) -> EnsembleEvaluation:
    """Evaluate runs on the same images, individually and as an ensemble; arguments as for `evaluate_run`.

    Each member has augmented copies of its own.
    """
    if len(runs) < 2:
        raise UserError(f"an ensemble needs at least 2 runs, got {len(runs)}")
    members = [evaluate_run(run, split, data_root, augment, random_seed(seed, index)) for index, run in enumerate(runs)]
    first = members[0]
    for member in members[1:]:
        if member.source != first.source or not np.array_equal(member.indices, first.indices):
            raise UserError(
                f"{first.name} and {member.name} have different {split} images: use --split test, or runs that agree "
                "in data.source, data.subset, data.val_size and data.split_seed"
            )
    mean = np.mean([member.log_probabilities for member in members], axis=0)
    ensemble = replace(first, name=f"ensemble of {len(runs)}", logits=mean, evaluations="")
    best = max(members, key=lambda member: member.metrics["accuracy"])
    return EnsembleEvaluation(members, ensemble, best, mcnemar(best.correct.tolist(), ensemble.correct.tolist()))


def digits_of(net: TrainedNet, data_root: str | None = None) -> Digits:
    """Load the dataset of a network's run; UserError if it is unavailable."""
    config = net.config()
    if config is not None and config["data"]["source"] == "arrays":
        raise UserError(
            f"{net.name} was trained on arrays that are not stored in its folder: evaluate it in Python, with "
            "Trainer.test and mnist_mlp.DigitData"
        )
    if data_root is None and config is not None:
        if config["data"]["source"] == "sample":
            return load_digits("sample")
        if has_official_files(config["data"]["root"], net.dataset):
            data_root = config["data"]["root"]
    return load_digits("mnist" if net.dataset == "mnist" else "files", data_root, net.dataset)


def _second_test(net: TrainedNet, data_root: str | None) -> Digits:
    """Load QMNIST; UserError if it is unavailable, or if the network was not trained on MNIST."""
    if run := (net.folder.run() if net.folder else None) or read_checkpoint(net.checkpoint).get("run"):
        data, digest = run["config"]["data"], run.get("data", {}).get("digest")
        source = source_name(data["source"], digest, data.get("name", "mnist"))
        if source not in ("mnist", "sample"):
            raise UserError(f"{net.name} was trained on other images than MNIST's ({source}): use --split test")
        if data_root is None and has_official_files(data["root"], "qmnist"):
            data_root = data["root"]
    digits, expected = copy.copy(load_digits("files", data_root, "qmnist")), DATASETS["qmnist"].files[2].items
    if (count := len(digits.test_labels)) != expected:
        raise UserError(f"QMNIST's test set has {expected:,} images, not {count:,}: use the official files")
    digits.source = "QMNIST"  # not the run's dataset
    return digits


def are_seeds(nets: Sequence[TrainedNet]) -> bool:
    """Whether the networks are runs of one setting with different seeds."""
    runs = [identity(run) for net in nets if net.folder and (run := net.folder.run())]
    is_same = len(runs) == len(nets) and all({**run, "seed": 0} == {**runs[0], "seed": 0} for run in runs)
    return is_same and len({run["seed"] for run in runs}) == len(nets)


def disagreements_with(result: RunResult, evaluation: Evaluation) -> list[str]:
    """Describe how an evaluation on test differs from the run's result.json.

    Counts are compared exactly, other metrics with a tolerance: their rounding depends on the number of threads.
    """
    differences = []
    if evaluation.confusion_matrix != result.confusion_matrix:
        total = np.abs(np.subtract(evaluation.confusion_matrix, result.confusion_matrix)).sum()
        differences.append(f"the confusion matrix (entries differ by {total} in total)")
    for name, value in evaluation.metrics.items():
        expected = result.metrics.get(f"test/{name}")
        if expected is not None and not np.isclose(value, expected, rtol=1e-5, atol=1e-6):
            differences.append(f"{name} ({value:.6g} instead of {expected:.6g})")
    return differences


def _indices(net: TrainedNet, digits: Digits, split: str) -> Tensor:
    if split not in ("val", "train"):
        return torch.arange(QMNIST_TESTS.get(split, 0), len(digits.test_labels))
    config, result = net.config(), net.result()
    if config is None:
        raise UserError(f"split={split} needs the run folder: a checkpoint does not record which images are in it")
    saved, run = read_checkpoint(net.checkpoint).get("run"), net.folder.run() if net.folder else None
    if saved and run and (differences := changes(saved, run)) and not is_continuation(saved, run):
        raise UserError(f"{net.checkpoint} is of another run ({'; '.join(differences)}): use --split test")
    data = config["data"]
    val_size = int(result.data["val"]) if result else int(data["val_size"])  # reduced for the sample
    parts = split_digits(digits.train_labels, val_size, subset_fraction(data["subset"]), data["split_seed"])
    if split == "val" and not len(parts.val):
        raise UserError("split=val is empty: this run has no validation images (data.val_size=0)")
    return parts.val if split == "val" else parts.train
