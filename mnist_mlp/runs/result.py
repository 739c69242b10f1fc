"""The result of a run: schemas of its JSON files, the typed result, and its text forms. Imports no torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_origin

from mnist_mlp.config import Config
from mnist_mlp.console import shown_path
from mnist_mlp.datasets import DATASETS, DIGITS
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import changes, identity

SCHEMA_VERSION = 1
MAX_NUMBER = 1e100
"""Larger numbers are invalid: they are not measurements, and sums of squares would overflow."""
Leaf = tuple[str, Callable[[Any], bool]]
"""The expected type, for messages, and the predicate that checks a value."""
Schema: TypeAlias = "Leaf | list[Schema] | dict[str, Schema]"
"""The schema of a JSON value.

An object has a schema per key: "key?" is optional, a key with "*" is a pattern, and keys without a schema are ignored.
A list has a schema per item, or a single one for all items."""


def is_at_chance(accuracy: float, classes: int = len(DIGITS)) -> bool:
    """Whether an accuracy in [0, 1] is below twice the chance level, 1 / classes; of two classes, below 0.6."""
    return accuracy < min(2 / classes, 0.6)


def check(value: Any, schema: Schema, key: str = "") -> Any:
    """Return the value, or raise a ValueError that names the first key whose value does not match its schema."""
    if isinstance(schema, dict):
        _require(isinstance(value, dict), key, value, "an object")
        prefix = f"{key}." if key else ""
        for name, inner in schema.items():
            if name in value:
                check(value[name], inner, prefix + name)
            elif "?" not in name and "*" not in name:
                raise ValueError(f"{prefix + name!r} is missing")
        for name in sorted(value.keys() - schema.keys()):
            patterns = (pattern for pattern in schema if "*" in pattern and fnmatchcase(name, pattern))
            if (pattern := f"{name}?" if f"{name}?" in schema else next(patterns, None)) is not None:
                check(value[name], schema[pattern], prefix + name)
    elif isinstance(schema, list):
        has_valid_length = isinstance(value, list) and len(schema) in (1, len(value))
        _require(has_valid_length, key, value, f"a list of {len(schema)}" if len(schema) > 1 else "a list")
        for item in value:
            check(item, schema[0], key)
    else:
        expected, is_valid = schema
        _require(is_valid(value), key, value, expected)
    return value


def _require(is_valid: bool, key: str, value: Any, expected: str) -> None:
    if not is_valid:
        raise ValueError(f"{key!r} must be {expected}, got {_abbreviate(value)}")


def _abbreviate(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = "an object" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _number(low: float = -MAX_NUMBER, high: float = MAX_NUMBER, nullable: bool = False) -> Leaf:
    """A finite number in [low, high], or null if `nullable`."""

    def is_valid(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (nullable and value is None) or (is_number and low <= value <= high and math.isfinite(value))

    span = "a number" if high == MAX_NUMBER and low < 0 else f"a number from {low:g} to {high:g}"
    return f"{span} or null" if nullable else span, is_valid


def _integer(low: int = 0, high: int = 2**63) -> Leaf:
    """An integer in [low, high]."""
    return f"an integer >= {low}", lambda value: type(value) is int and low <= value <= high


def _string(*choices: str, nullable: bool = False) -> Leaf:
    """A string, limited to `choices` if there are any, or null if `nullable`."""

    def is_valid(value: Any) -> bool:
        return (nullable and value is None) or (isinstance(value, str) and (not choices or value in choices))

    return " or ".join(map(repr, choices)) or "a string", is_valid


def _schema_of(annotation: Any) -> Schema:
    """Return the schema of an option or option group; options may be missing, since earlier versions had fewer."""
    if is_dataclass(annotation):
        return {f"{option.name}?": _schema_of(option.type) for option in fields(annotation)}
    arguments = get_args(annotation)
    if annotation == list[float]:
        return [_number()]
    if get_origin(annotation) is list:
        return [_integer(1) if arguments[0] is int else _schema_of(arguments[0])]
    if get_origin(annotation) is dict:
        return {"*": _schema_of(arguments[1])}
    if annotation is bool:
        return "true or false", lambda value: isinstance(value, bool)
    if annotation is int:
        return _integer()
    is_number, nullable = float in (annotation, *arguments), bool(arguments)
    return _number(nullable=nullable) if is_number else _string(nullable=nullable)


ENVIRONMENT: Schema = {"device": _string(), "threads": _integer(), "torch": _string(), "commit": _string(nullable=True)}
_DESCRIPTION: dict[str, Schema] = {
    "overrides": [_string()],
    "config": _schema_of(Config),
    "fingerprint": _string(),
    "callbacks?": [_string()],
    "started?": _string(),
    "evaluations?": {"*": _integer(1)},
}
_DATA: dict[str, Schema] = {"digest?": _string(), "classes?": [_string()], "mean?": _number(), "std?": _number()}
RUN: Schema = {**_DESCRIPTION, "data?": _DATA, "environment?": ENVIRONMENT}
"""Schema of run.json."""
FAILURE: Schema = {"reason": _string(), "overrides": [_string()], "config": {}}
"""Schema of failure.json; its config is not validated, since it may be the cause of the failure."""
_fraction, _loss = _number(0.0, 1.0 + 1e-6, nullable=True), _number(nullable=True)
_fractions: Schema = [_number(0.0, 1.0 + 1e-6)]
RESULT: Schema = {
    "status": _string("finished", "diverged"),
    **_DESCRIPTION,
    "data": {**_DATA, "source": _string(), "train": _integer(), "val": _integer(), "test": _integer()},
    "parameters": _integer(),
    "epochs": _integer(1),
    "best_epoch": _integer(1),
    "stopped_at_epoch?": _number(0.0),
    "metrics": {
        "test/accuracy": _fraction,
        "test/f1_macro": _fraction,
        "test/loss": _loss,
        "*/loss": _loss,
        "*lr": _loss,
        "*": _fraction,
    },
    "per_class": {**dict.fromkeys(("precision", "recall", "f1"), _fractions), "support": [_integer()]},
    "confusion_matrix": [[_integer(0, 10**9)]],
    "timing": dict.fromkeys(("fit_seconds", "epoch_seconds", "*"), _number(0.0)),
    "environment": ENVIRONMENT,
}
"""Schema of result.json."""


@dataclass(frozen=True)
class RunResult:
    """The content of result.json."""

    status: str
    overrides: list[str]
    config: JSON
    fingerprint: str
    data: JSON
    parameters: int
    epochs: int
    best_epoch: int
    metrics: dict[str, float | None]
    """By "split/name"; accuracies are micro-averaged, in [0, 1]; non-finite losses are None."""
    per_class: dict[str, list[float]]
    """Test precision, recall, f1 and support of each class."""
    confusion_matrix: list[list[int]]
    """Test counts (classes, classes); rows are the true classes."""
    timing: dict[str, float]
    environment: JSON
    callbacks: list[str] = field(default_factory=list)
    """State keys of the user's callbacks that can change the result."""
    started: str = ""  # ISO 8601; empty in older runs
    stopped_at_epoch: float | None = None
    """Epochs trained when `trainer.max_seconds` ended training within `epochs`; None if it did not."""
    evaluations: dict[str, int] = field(default_factory=dict)
    """How often each test set was evaluated, by name; empty in older runs."""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, content: JSON) -> "RunResult":
        """Validate and convert the content of result.json, dropping unknown keys.

        Raises:
            ValueError: A key is missing or has an invalid value; the message names it.
        """
        version = content.get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise ValueError(
                f"'schema_version' must be {SCHEMA_VERSION} for this version of mnist_mlp, got {_abbreviate(version)}"
            )
        check(content, RESULT)
        count = len(content["data"].get("classes", DIGITS))
        columns = [*content["per_class"].values(), content["confusion_matrix"], *content["confusion_matrix"]]
        reference = content["config"].get("reference", {})
        columns += [values for key, values in reference.items() if key.endswith("_per_class") and values]
        if any(len(column) != count for column in columns):
            raise ValueError(f"'per_class', 'confusion_matrix' and 'config.reference' must have {count} classes")
        images, expected = sum(map(sum, content["confusion_matrix"])), content["data"]["test"]
        if images != expected:
            raise ValueError(f"'confusion_matrix' has {images} images, but 'data.test' is {expected}")
        return cls(**{item.name: content[item.name] for item in fields(cls) if item.name in content})

    def to_json(self) -> JSON:
        """Return the content of result.json, without optional keys that are empty."""
        content = {"schema_version": self.schema_version, **asdict(self)}
        optional = ("callbacks", "started", "evaluations", "stopped_at_epoch")
        return {key: value for key, value in content.items() if key not in optional or value}

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        names: list[str] = self.data.get("classes", list(DIGITS))
        return names

    @property
    def source(self) -> str:
        """The dataset as `source_name` shows it."""
        name = self.config["data"].get("name", "mnist")
        return source_name(self.data["source"], self.data.get("digest"), name)

    @property
    def evaluations_text(self) -> str:
        """How often each test set was evaluated, at least once for the run's own test."""
        return ", ".join(f"{name} {count}" for name, count in (self.evaluations or {self.source: 1}).items())

    def metric(self, name: str) -> float:
        """Return a metric by name; NaN if it is missing or was not finite."""
        value = self.metrics.get(name)
        return math.nan if value is None else float(value)

    @property
    def accelerator(self) -> str:
        """The hardware on which the run was trained, "cpu" or "gpu"."""
        return str(identity(vars(self))["trainer.accelerator"])

    @property
    def worst_class(self) -> int:
        """The class with the lowest test F1, of those in the test set."""
        f1, support = ([value or 0.0 for value in self.per_class[name]] for name in ("f1", "support"))
        return min(range(len(f1)), key=lambda label: (not support[label], f1[label]))


@dataclass(frozen=True)
class StoredRun:
    """The contents of run.json and result.json in a folder; None for a missing file."""

    run: JSON | None
    result: RunResult | None

    def changes(self, run: JSON) -> list[str]:
        """Return the differences from `run` (a run.json) that affect the result, as "key: old -> new".

        Checks both stored files, since either may have been copied from another folder.
        """
        stored = (self.run, vars(self.result) if self.result else None)
        return next(filter(None, (changes(content, run) for content in stored if content)), [])

    def changed_source(self, run: JSON) -> str | None:
        """Return "data.source: old -> new" if `run`, the content of a run.json, has another source of data.

        Other arrays of the user's own are another source, too: "data.digest: old -> new" or "data.classes: ...".
        """
        keys = ("source", *(("digest", "classes") if run["config"]["data"]["source"] == "arrays" else ()))
        changes = self.changes(run)
        return next((change for key in keys for change in changes if change.startswith(f"data.{key}: ")), None)

    def result_of(self, run: JSON, on_any_device: bool = False) -> RunResult | None:
        """Return the result if it belongs to `run`, the content of a run.json, except perhaps for its accelerator."""
        if self.result is not None and on_any_device:
            trainer = {**run["config"]["trainer"], "accelerator": self.result.accelerator}
            run = {**run, "config": {**run["config"], "trainer": trainer}}
        return None if self.result is None or self.changes(run) else self.result


def percent(value: float | None) -> str:
    """Format a fraction in percent with two decimals; a dash for None and NaN."""
    return "-" if value is None or value != value else f"{100 * value:.2f} %"


def decimal(value: float | None) -> str:
    """Format a number with four decimals; a dash for None and NaN."""
    return "-" if value is None or value != value else f"{value:.4f}"


def closing_table(result: RunResult, folder: Path) -> str:
    """Format the test results of the best checkpoint, its worst digit, the timing and the folder."""
    metrics, timing, data = result.metrics, result.timing, result.data
    is_averaged = bool(result.config["optim"].get("ema"))
    compiling = f"; {timing['compile_seconds']:.1f} s to compile" if timing.get("compile_seconds") else ""
    rows = {
        "test accuracy": f"{percent(metrics['test/accuracy'])}, macro F1 {decimal(metrics['test/f1_macro'])}, "
        f"loss {decimal(metrics['test/loss'])}",
        "worst class": _worst_class_text(result),
        "tested": f"{data['test']:,} images ({result.source}), "
        f"checkpoint of epoch {result.best_epoch} of {result.epochs}{', averaged weights' * is_averaged}",
        "fit time": f"{timing['fit_seconds']:.1f} s, {timing['epoch_seconds']:.2f} s per training epoch{compiling}",
        "run folder": shown_path(folder),
    }
    lines = [f"  {name:<14} {value}" for name, value in rows.items()]
    if result.status == "diverged":
        lines.insert(0, f"DIVERGED in epoch {result.epochs}: the loss is not finite; try a lower optim.lr.")
    if result.stopped_at_epoch:
        limits = result.config["trainer"]
        stopped = f"trainer.max_seconds={limits['max_seconds']:g} at epoch {result.stopped_at_epoch:.2f}"
        lines.insert(0, f"STOPPED by {stopped} of {limits['max_epochs']}; a repetition may stop at another step.")
    return "\n".join(lines)


def _worst_class_text(result: RunResult) -> str:
    """Describe the class with the lowest F1 and its most frequent confusion."""
    matrix, worst, names = result.confusion_matrix, result.worst_class, result.classes
    others = [other for other in range(len(names)) if other != worst]
    predicted = max(others, key=lambda other: matrix[worst][other])
    true = max(others, key=lambda other: matrix[other][worst])
    text = f"{names[worst]}, F1 {result.per_class['f1'][worst] or 0.0:.3f}"
    if matrix[worst][predicted]:
        return f"{text}, most often predicted as {names[predicted]}"
    return f"{text}, most often predicted instead of {names[true]}" if matrix[true][worst] else "none, all correct"


def source_name(source: str, digest: str | None, name: str = "mnist") -> str:
    """Return `data.source`, or the title of a dataset other than MNIST; "not ..." if its files are others."""
    dataset = DATASETS[name]
    is_other = source in ("mnist", "files") and dataset.digest and digest not in (None, dataset.digest)
    return f"not {dataset.title}" if is_other else dataset.title if source == "files" else source


def occurring_classes(confusion_matrix: Sequence[Sequence[int]]) -> list[int]:
    """Return the classes that are a label or a prediction: macro averages are means over them, as in scikit-learn."""
    return [c for c, row in enumerate(confusion_matrix) if any(row) or any(row[c] for row in confusion_matrix)]


MAX_REPORTED = 10


def closing_report(result: RunResult) -> str:
    """Format the classification report in at most 15 lines: of many classes, only those with the lowest F1."""
    text = classification_report(result.confusion_matrix, result.classes)
    head, *rows, accuracy, macro, weighted = filter(None, text.splitlines())
    if (count := len(rows)) > MAX_REPORTED + 1:
        head = f"The {MAX_REPORTED} worst of {count} classes by F1; classification_report.txt has all:\n{head}"
        f1 = [result.per_class["f1"][label] or 0.0 for label in occurring_classes(result.confusion_matrix)]
        rows = [rows[index] for index in sorted(range(count), key=f1.__getitem__)[:MAX_REPORTED]]
    return "\n".join([head, *rows, accuracy, macro, weighted])


def classification_report(confusion_matrix: Sequence[Sequence[int]], classes: Sequence[str] = DIGITS) -> str:
    """Format precision, recall, F1 and support as scikit-learn's `classification_report` does.

    Args:
        confusion_matrix: (classes, classes) counts; rows are the true classes. A ratio with denominator 0 is 0. Classes
            that are neither label nor prediction have no row and are not in the macro average.
        classes: Names of the classes.
    """
    import numpy as np  # slow to import, and `--help` does not need it

    matrix = np.asarray(confusion_matrix)
    tp, predicted, support = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    numerators, denominators = np.stack([tp, tp, 2 * tp]), np.stack([predicted, support, predicted + support])
    scores = np.divide(numerators, denominators, out=np.zeros(numerators.shape), where=denominators > 0)
    total, width = int(support.sum()), max(len("weighted avg"), *map(len, classes))

    def row(name: str, values: Any, images: int) -> str:
        return f"{name:>{width}}  {' '.join(f'{value:>9.4f}' for value in values)} {images:>9}"

    accuracy = f"{'accuracy':>{width}}  {'':>9} {'':>9} {tp.sum() / max(total, 1):>9.4f} {total:>9}"
    lines = [f"{'':>{width}}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}", ""]
    labels = occurring_classes(confusion_matrix)
    lines += [row(classes[label], scores[:, label], support[label]) for label in labels]
    lines += ["", accuracy, row("macro avg", scores[:, labels].mean(1), total)]
    return "\n".join([*lines, row("weighted avg", scores @ support / max(total, 1), total)]) + "\n"


TAGS = {
    "lr": "train/lr",
    "epoch_seconds": "wall_time/epoch_seconds",
    "images_per_second": "wall_time/images_per_second",
}
"""TensorBoard tags of columns of metrics.csv that differ from the column's name. TensorBoard sorts groups by name: only
the optional test curve comes before "train"."""
FIGURES = "visual_test"
"""Tag group of the test figures."""
FINAL = "whole_run"
"""Tag group of the final metrics, which the HPARAMS tab shows."""


def tag_of(column: str) -> str:
    """Return the TensorBoard tag of a column of metrics.csv."""
    return TAGS.get(column, column)
