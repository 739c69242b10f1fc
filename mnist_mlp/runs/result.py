"""The result of a run: what its JSON files must hold, the typed result, and the result as text. Imports no torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from mnist_mlp.config import Config, options
from mnist_mlp.console import shown_path
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import changes

Check = Callable[[str, Any], None]
"""A check of the value under a key."""
CLASSES = 10
SCHEMA_VERSION = 1
CHANCE_LEVEL = 0.2
"""A run whose accuracy is below it is at chance level; guessing has 0.1."""
MAX_NUMBER = 1e100
"""A larger number is not a measurement, and sums of squares would overflow."""


def is_at_chance(accuracy: float) -> bool:
    """Whether a run of this accuracy, in [0, 1], does next to no better than guessing."""
    return accuracy < CHANCE_LEVEL


def check_run(content: Mapping[str, Any]) -> None:
    """run.json: overrides, config, fingerprint; optionally the digest of the data, the callbacks, the environment."""
    _require(content, RUN)
    _require(content, {key: check for key, check in OPTIONAL.items() if key in content})


def check_failure(content: Mapping[str, Any]) -> None:
    """failure.json: reason, overrides, and the config as the user typed it, which may be what failed."""
    _require(content, FAILURE)


def check_result(content: Mapping[str, Any]) -> None:
    """result.json of schema version 1: its keys and their types are those of `RunResult`."""
    version = content.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(f"'schema_version' is {_shown(version)}, but this version of mnist_mlp reads {SCHEMA_VERSION}")
    _require(content, RESULT)
    OPTIONAL["callbacks"]("callbacks", content.get("callbacks", []))
    tested = sum(map(sum, content["confusion_matrix"]))
    if tested != content["data"]["test"]:
        raise ValueError(f"'confusion_matrix' has {tested} images, but 'data' says {content['data']['test']}")


def number(low: float = -MAX_NUMBER, high: float = MAX_NUMBER, nullable: bool = False) -> Check:
    """A finite number in [low, high]; null too, if `nullable`."""
    span = "a number" if high == MAX_NUMBER and low < 0 else f"a number from {low:g} to {high:g}"

    def is_valid(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (nullable and value is None) or (is_number and low <= value <= high and math.isfinite(value))

    return _check(f"{span} or null" if nullable else span, is_valid)


def whole(low: int = 0, high: int = 2**63) -> Check:
    """An integer in [low, high]."""
    return _check(
        f"a whole number from {low}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def text(*choices: str, nullable: bool = False) -> Check:
    """A string, one of these choices if there are any; null too, if `nullable`."""

    def is_valid(value: Any) -> bool:
        return (nullable and value is None) or (isinstance(value, str) and (not choices or value in choices))

    return _check(" or ".join(map(repr, choices)) or "a text", is_valid)


def items(check: Check, *lengths: int) -> Check:
    """A list of such items, of one of these lengths if there are any."""
    check_list = _check(
        f"a list of {lengths[-1]}" if lengths else "a list",
        lambda value: isinstance(value, list) and (not lengths or len(value) in lengths),
    )

    def check_all(key: str, value: Any) -> None:
        check_list(key, value)
        for item in value:
            check(key, item)

    return check_all


def mapping(required: Mapping[str, Check], others: Check | None = None) -> Check:
    """An object with the required keys; every other value must pass `others`."""

    def check(key: str, value: Any) -> None:
        _object(key, value)
        _require(value, required, f"{key}.")
        if others is not None:
            for name in sorted(value.keys() - required.keys()):
                others(f"{key}.{name}", value[name])

    return check


def _check(expected: str, is_valid: Callable[[Any], bool]) -> Check:
    def check(key: str, value: Any) -> None:
        if not is_valid(value):
            raise ValueError(f"{key!r} is {_shown(value)}, but should be {expected}")

    return check


_boolean = _check("true or false", lambda value: isinstance(value, bool))
_object = _check("an object", lambda value: isinstance(value, dict))


def typed_config(key: str, value: Any) -> None:
    """A config whose options have their types. It may lack options, which then have their defaults."""
    _object(key, value)
    for name, check in _option_checks().items():
        *groups, option = name.split(".")
        section = value
        for group in groups:
            section = section.get(group, {})
            _object(f"{key}.{group}", section)
        if option in section:
            check(f"{key}.{name}", section[option])


@cache
def _option_checks() -> dict[str, Check]:
    return {name: OPTIONS.get(name) or _of_type(default) for name, default, _ in options(Config())}


def _of_type(default: Any) -> Check:
    if isinstance(default, bool):
        return _boolean
    if isinstance(default, int):
        return whole()
    if isinstance(default, float):
        return number()
    return text(nullable=default is None) if isinstance(default, (str, Enum, type(None))) else items(number())


def _metric(key: str, value: Any) -> None:
    is_fraction = not key.endswith(("/loss", "lr"))
    number(0.0 if is_fraction else -MAX_NUMBER, 1.0 + 1e-6 if is_fraction else MAX_NUMBER, nullable=True)(key, value)


def _require(content: Mapping[str, Any], checks: Mapping[str, Check], prefix: str = "") -> None:
    for key, check in checks.items():
        if key not in content:
            raise ValueError(f"{prefix + key!r} is missing")
        check(prefix + key, content[key])


def _shown(value: Any) -> str:
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


OPTIONS: dict[str, Check] = {
    "model.hidden_units": items(whole(1)),
    "reference.test_accuracy": number(nullable=True),
    "reference.inferred": items(text()),
    "reference.claims": items(mapping({}, text())),
    **{f"reference.{score}_per_class": items(number(), 0, CLASSES) for score in ("f1", "precision", "recall")},
}
"""Options whose default does not tell their type."""
RUN: dict[str, Check] = {"overrides": items(text()), "config": typed_config, "fingerprint": text()}
ENVIRONMENT = mapping({"device": text(), "threads": whole(), "torch": text(), "commit": text(nullable=True)})
OPTIONAL = {"data": mapping({"digest": text()}), "callbacks": items(text()), "environment": ENVIRONMENT}
"""Of run.json."""
FAILURE: dict[str, Check] = {"reason": text(), "overrides": items(text()), "config": mapping({})}
_fractions = items(number(0.0, 1.0 + 1e-6), CLASSES)
RESULT: dict[str, Check] = {
    "status": text("finished", "diverged"),
    **RUN,
    "data": mapping({"source": text(), **{split: whole() for split in ("train", "val", "test")}}),
    "parameters": whole(),
    "epochs": whole(1),
    "best_epoch": whole(1),
    "metrics": mapping(dict.fromkeys(("test/accuracy", "test/f1_macro", "test/loss"), _metric), _metric),
    "per_class": mapping(
        {**dict.fromkeys(("precision", "recall", "f1"), _fractions), "support": items(whole(), CLASSES)}
    ),
    "confusion_matrix": items(items(whole(0, 10**9), CLASSES), CLASSES),
    "timing": mapping({"fit_seconds": number(0.0), "epoch_seconds": number(0.0)}, number(0.0)),
    "environment": ENVIRONMENT,
}


@dataclass(frozen=True)
class RunResult:
    """The content of result.json.

    Attributes:
        metrics: by "split/name"; accuracies are micro and in [0, 1], a loss that was not finite is None.
        per_class: precision, recall, f1 and support on test, ten numbers each.
        confusion_matrix: 10 x 10 counts on test; rows are the truth.
        callbacks: state keys of the user's own callbacks that can change the result.
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
    def from_json(cls, content: Mapping[str, Any]) -> "RunResult":
        """Read the content of result.json, without unknown keys.

        Raises:
            ValueError: a key is missing or holds a value of the wrong type; the message names it.
        """
        check_result(content)
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
    """The contents of run.json and result.json in a folder, read once; empty if a file does not exist."""

    run: JSON
    result: JSON

    def changes(self, run: JSON) -> list[str]:
        """Return what decides the result and differs from `run`, the content of a run.json.

        Both stored files count, since either may have been copied from elsewhere.
        """
        return next(filter(None, (changes(stored, run) for stored in (self.run, self.result) if stored)), [])

    def result_of(self, run: JSON) -> RunResult | None:
        """Return the result if it is of the same run as `run`, and was neither cut off nor changed by hand."""
        try:
            return RunResult.from_json(self.result) if self.result and not self.changes(run) else None
        except ValueError:
            return None


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
    others = [other for other in range(len(matrix)) if other != digit]
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
    size = len(confusion_matrix)
    hits = [confusion_matrix[digit][digit] for digit in range(size)]
    support = [sum(row) for row in confusion_matrix]
    predicted = [sum(row[digit] for row in confusion_matrix) for digit in range(size)]
    rows = []
    for digit in range(size):
        precision, recall = _ratio(hits[digit], predicted[digit]), _ratio(hits[digit], support[digit])
        rows.append((precision, recall, _ratio(2 * hits[digit], predicted[digit] + support[digit])))
    total = sum(support)
    macro = [sum(row[column] for row in rows) / size for column in range(3)]
    weighted = [
        _ratio(sum(row[column] * n for row, n in zip(rows, support, strict=True)), total) for column in range(3)
    ]
    lines = [f"{'':>12}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}", ""]
    lines += [_report_row(str(digit), rows[digit], support[digit]) for digit in range(size)]
    lines += ["", f"{'accuracy':>12}  {'':>9} {'':>9} {_ratio(sum(hits), total):>9.4f} {total:>9}"]
    lines += [_report_row("macro avg", macro, total), _report_row("weighted avg", weighted, total)]
    return "\n".join(lines) + "\n"


def _report_row(name: str, values: Sequence[float], support: int) -> str:
    return f"{name:>12}  {' '.join(f'{value:>9.4f}' for value in values)} {support:>9}"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


TAGS = {
    "lr": "train/lr",
    "epoch_seconds": "wall_time/epoch_seconds",
    "images_per_second": "wall_time/images_per_second",
}
"""TensorBoard tags of columns of metrics.csv; other columns are tagged by their own names.

TensorBoard's tabs sort groups, the part before the slash, by the alphabet. Accuracies and losses come first, since no
group sorts before "train" but that of the test curve, which is optional."""
FIGURES = "visual_test"
"""Group of the figures of the test."""
FINAL = "whole_run"
"""Group of the figures that the HPARAMS tab shows."""


def tag_of(column: str) -> str:
    """The TensorBoard tag of a column of metrics.csv."""
    return TAGS.get(column, column)
