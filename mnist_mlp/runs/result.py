"""The result of a run: what its JSON files must hold, the typed result, and the result as text. Imports no torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_origin

from mnist_mlp.config import Config
from mnist_mlp.console import shown_path
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import changes

CLASSES = 10
SCHEMA_VERSION = 1
MAX_NUMBER = 1e100
"""A larger number is not a measurement, and sums of squares would overflow."""
Leaf = tuple[str, Callable[[Any], bool]]
"""What a value should be, in words, and whether it is that."""
Schema: TypeAlias = "Leaf | list[Schema] | dict[str, Schema]"
"""The shape of a JSON value.

An object has a schema per key: "key?" may be missing, and a key with "*" is a pattern for others; keys without a schema
are ignored. A list has a schema per item; a single one is that of any number of items."""


def is_at_chance(accuracy: float) -> bool:
    """Whether a run of this accuracy, in [0, 1], does next to no better than guessing."""
    return accuracy < 0.2  # guessing has 0.1


def check(value: Any, schema: Schema, key: str = "") -> Any:
    """Return the value; raise a ValueError that names the first key whose value does not fit its schema."""
    if isinstance(schema, dict):
        _refuse_unless(isinstance(value, dict), key, value, "an object")
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
        is_long_enough = isinstance(value, list) and len(schema) in (1, len(value))
        _refuse_unless(is_long_enough, key, value, f"a list of {len(schema)}" if len(schema) > 1 else "a list")
        for item in value:
            check(item, schema[0], key)
    else:
        expected, is_valid = schema
        _refuse_unless(is_valid(value), key, value, expected)
    return value


def _refuse_unless(is_valid: bool, key: str, value: Any, expected: str) -> None:
    if not is_valid:
        raise ValueError(f"{key!r} is {_shown(value)}, but should be {expected}")


def _shown(value: Any) -> str:
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def _number(low: float = -MAX_NUMBER, high: float = MAX_NUMBER, nullable: bool = False) -> Leaf:
    """A finite number in [low, high]; null too, if `nullable`."""

    def is_valid(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (nullable and value is None) or (is_number and low <= value <= high and math.isfinite(value))

    span = "a number" if high == MAX_NUMBER and low < 0 else f"a number from {low:g} to {high:g}"
    return f"{span} or null" if nullable else span, is_valid


def _whole(low: int = 0, high: int = 2**63) -> Leaf:
    """An integer in [low, high]."""
    return f"a whole number from {low}", lambda value: type(value) is int and low <= value <= high


def _text(*choices: str, nullable: bool = False) -> Leaf:
    """A string, one of these choices if there are any; null too, if `nullable`."""

    def is_valid(value: Any) -> bool:
        return (nullable and value is None) or (isinstance(value, str) and (not choices or value in choices))

    return " or ".join(map(repr, choices)) or "a text", is_valid


def _is_per_digit(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (0, CLASSES) and all(map(_number()[1], value))


def _of_type(kind: Any) -> Schema:
    """The schema of an option of this type, or of a group, which may lack options, as earlier versions had fewer."""
    if is_dataclass(kind):
        return {f"{item.name}?": _of_type(item.type) for item in fields(kind)}
    inner = get_args(kind)
    if kind == list[float]:
        return f"a list of {CLASSES} numbers", _is_per_digit
    if get_origin(kind) is list:
        return [_whole(1) if inner[0] is int else _of_type(inner[0])]
    if get_origin(kind) is dict:
        return {"*": _of_type(inner[1])}
    if kind is bool:
        return "true or false", lambda value: isinstance(value, bool)
    if kind is int:
        return _whole()
    return _number(nullable=bool(inner)) if float in (kind, *inner) else _text(nullable=bool(inner))


ENVIRONMENT: Schema = {"device": _text(), "threads": _whole(), "torch": _text(), "commit": _text(nullable=True)}
_DESCRIPTION: dict[str, Schema] = {
    "overrides": [_text()],
    "config": _of_type(Config),
    "fingerprint": _text(),
    "callbacks?": [_text()],
}
RUN: Schema = {**_DESCRIPTION, "data?": {"digest": _text()}, "environment?": ENVIRONMENT}
"""run.json."""
FAILURE: Schema = {"reason": _text(), "overrides": [_text()], "config": {}}
"""failure.json; its config is as the user typed it, which may be what failed."""
_fraction, _loss = _number(0.0, 1.0 + 1e-6, nullable=True), _number(nullable=True)
_fractions: Schema = [_number(0.0, 1.0 + 1e-6)] * CLASSES
RESULT: Schema = {
    "status": _text("finished", "diverged"),
    **_DESCRIPTION,
    "data": {"source": _text(), "train": _whole(), "val": _whole(), "test": _whole()},
    "parameters": _whole(),
    "epochs": _whole(1),
    "best_epoch": _whole(1),
    "metrics": {
        "test/accuracy": _fraction,
        "test/f1_macro": _fraction,
        "test/loss": _loss,
        "*/loss": _loss,
        "*lr": _loss,
        "*": _fraction,
    },
    "per_class": {**dict.fromkeys(("precision", "recall", "f1"), _fractions), "support": [_whole()] * CLASSES},
    "confusion_matrix": [[_whole(0, 10**9)] * CLASSES] * CLASSES,
    "timing": dict.fromkeys(("fit_seconds", "epoch_seconds", "*"), _number(0.0)),
    "environment": ENVIRONMENT,
}
"""result.json."""


@dataclass(frozen=True)
class RunResult:
    """The content of result.json. callbacks: state keys of the user's own callbacks that can change the result.

    metrics: by "split/name"; accuracies are micro and in [0, 1], a loss that was not finite is None.
    per_class: precision, recall, f1 and support on test, ten numbers each.
    confusion_matrix: 10 x 10 counts on test; rows are the truth.
    """

    status: str
    overrides: list[str]
    config: JSON
    fingerprint: str
    data: JSON
    parameters: int
    epochs: int
    best_epoch: int
    metrics: dict[str, float | None]
    per_class: dict[str, list[float]]
    confusion_matrix: list[list[int]]
    timing: dict[str, float]
    environment: JSON
    callbacks: list[str] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, content: JSON) -> "RunResult":
        """Read the content of result.json, without unknown keys.

        Raises:
            ValueError: a key is missing or holds a value of the wrong type; the message names it.
        """
        version = content.get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise ValueError(
                f"'schema_version' is {_shown(version)}, but this version of mnist_mlp reads {SCHEMA_VERSION}"
            )
        check(content, RESULT)
        tested = sum(map(sum, content["confusion_matrix"]))
        if tested != content["data"]["test"]:
            raise ValueError(f"'confusion_matrix' has {tested} images, but 'data' says {content['data']['test']}")
        return cls(**{item.name: content[item.name] for item in fields(cls) if item.name in content})

    def to_json(self) -> JSON:
        """The content of result.json; without `callbacks` if there are none."""
        content = {"schema_version": self.schema_version, **asdict(self)}
        return {key: value for key, value in content.items() if key != "callbacks" or value}

    def metric(self, name: str) -> float:
        """A metric by its name; NaN if it is missing or was not finite."""
        value = self.metrics.get(name)
        return math.nan if value is None else float(value)

    @property
    def worst_digit(self) -> int:
        """The digit with the lowest F1 on test."""
        f1 = [value or 0.0 for value in self.per_class["f1"]]
        return min(range(len(f1)), key=f1.__getitem__)


@dataclass(frozen=True)
class StoredRun:
    """The contents of run.json and result.json in a folder, read once; None if a file does not exist."""

    run: JSON | None
    result: RunResult | None

    def changes(self, run: JSON) -> list[str]:
        """Return what decides the result and differs from `run`, the content of a run.json, as "key: old -> new".

        Both stored files count, since either may have been copied from elsewhere.
        """
        stored = (self.run, vars(self.result) if self.result else None)
        return next(filter(None, (changes(one, run) for one in stored if one)), [])

    def result_of(self, run: JSON) -> RunResult | None:
        """Return the result if it is of the same run as `run`."""
        return None if self.result is None or self.changes(run) else self.result


def percent(value: float | None) -> str:
    """A fraction in percent with two decimals; a dash if it is not finite."""
    return "-" if value is None or value != value else f"{100 * value:.2f} %"


def decimal(value: float | None) -> str:
    """Four decimals; a dash if the value is not finite."""
    return "-" if value is None or value != value else f"{value:.4f}"


def closing_table(result: RunResult, folder: Path) -> str:
    """The test results of the chosen checkpoint, its most confused digit, the times, and the folder."""
    metrics, timing, data = result.metrics, result.timing, result.data
    compiling = f"; {timing['compile_seconds']:.1f} s to compile" if timing.get("compile_seconds") else ""
    rows = {
        "test accuracy": f"{percent(metrics['test/accuracy'])}, macro F1 {decimal(metrics['test/f1_macro'])}, "
        f"loss {decimal(metrics['test/loss'])}",
        "worst digit": _worst_digit_text(result),
        "tested": f"{data['test']:,} images ({data['source']}), "
        f"checkpoint of epoch {result.best_epoch} of {result.epochs}",
        "fit time": f"{timing['fit_seconds']:.1f} s, {timing['epoch_seconds']:.2f} s to train an epoch{compiling}",
        "run folder": shown_path(folder),
    }
    lines = [f"  {name:<14} {value}" for name, value in rows.items()]
    if result.status == "diverged":
        lines.insert(0, f"DIVERGED in epoch {result.epochs}: the loss is not finite; try a lower optim.lr.")
    return "\n".join(lines)


def _worst_digit_text(result: RunResult) -> str:
    """The worst digit, and the other one with which it is confused most often, in whichever direction."""
    matrix, digit = result.confusion_matrix, result.worst_digit
    others = [other for other in range(CLASSES) if other != digit]
    missed = max(others, key=lambda other: matrix[digit][other])
    mistaken = max(others, key=lambda other: matrix[other][digit])
    text = f"{digit}, F1 {result.per_class['f1'][digit] or 0.0:.3f}"
    if matrix[digit][missed]:
        return f"{text}, most often taken for {missed}"
    return f"{text}, for which {mistaken} is taken most often" if matrix[mistaken][digit] else "none, all are right"


def classification_report(confusion_matrix: Sequence[Sequence[int]]) -> str:
    """Precision, recall, F1 and support of each digit and on average, laid out as scikit-learn does.

    confusion_matrix: 10 x 10, rows truth. A ratio without a denominator counts as 0.
    """
    import numpy as np  # deferred: the help of a command needs no arrays

    matrix = np.asarray(confusion_matrix)
    hits, predicted, support = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    parts, wholes = np.stack([hits, hits, 2 * hits]), np.stack([predicted, support, predicted + support])
    scores = np.divide(parts, wholes, out=np.zeros(parts.shape), where=wholes > 0)
    total = int(support.sum())

    def row(name: str, values: Any, images: int) -> str:
        return f"{name:>12}  {' '.join(f'{value:>9.4f}' for value in values)} {images:>9}"

    accuracy = f"{'accuracy':>12}  {'':>9} {'':>9} {hits.sum() / max(total, 1):>9.4f} {total:>9}"
    lines = [f"{'':>12}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}", ""]
    lines += [row(str(digit), scores[:, digit], images) for digit, images in enumerate(support)]
    lines += ["", accuracy, row("macro avg", scores.mean(1), total)]
    return "\n".join([*lines, row("weighted avg", scores @ support / max(total, 1), total)]) + "\n"


TAGS = {
    "lr": "train/lr",
    "epoch_seconds": "wall_time/epoch_seconds",
    "images_per_second": "wall_time/images_per_second",
}
"""TensorBoard tags of columns of metrics.csv; other columns are tagged by their own names. TensorBoard sorts groups by
the alphabet, and no group but that of the optional test curve comes before "train"."""
FIGURES = "visual_test"
"""Group of the figures of the test."""
FINAL = "whole_run"
"""Group of the figures that the HPARAMS tab shows."""


def tag_of(column: str) -> str:
    """The TensorBoard tag of a column of metrics.csv."""
    return TAGS.get(column, column)
