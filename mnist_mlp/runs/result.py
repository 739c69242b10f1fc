"""Names of a run's scalars in TensorBoard, whose tabs show groups (the part before the slash) by the alphabet.

So that accuracies and losses come first, nothing has a group before "train" but a curve over test images that was asked
for. Imports no torch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from functools import cache
from typing import Any

from mnist_mlp.config import Config, options
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import changes

Check = Callable[[str, Any], None]
"""A check of the value under a key."""
CLASSES = 10
MAX_NUMBER = 1e100
"""Beyond it a number is no measurement, and sums of squares overflow."""


def check_run(content: Mapping[str, Any]) -> None:
    """run.json: overrides, config, fingerprint; optionally the digits' digest, the callbacks and the environment."""
    _require(content, RUN)
    _require(content, {key: check for key, check in OPTIONAL.items() if key in content})


def check_failure(content: Mapping[str, Any]) -> None:
    """failure.json: reason, overrides, config as it was given, which may be what failed."""
    _require(content, FAILURE)


def check_result(content: Mapping[str, Any]) -> None:
    """result.json of schema version 1, apart from its config and fingerprint the same as `RunResult`."""
    version = content.get("schema_version", 1)
    if version != 1 or isinstance(version, bool):
        raise ValueError(f"'schema_version' is {_shown(version)}, but this version of mnist_mlp reads 1")
    _require(content, RESULT)
    OPTIONAL["callbacks"]("callbacks", content.get("callbacks", []))
    tested = sum(map(sum, content["confusion_matrix"]))
    if tested != content["data"]["test"]:
        raise ValueError(f"'confusion_matrix' has {tested} images, but 'data' says {content['data']['test']}")


def number(low: float = -MAX_NUMBER, high: float = MAX_NUMBER, nullable: bool = False) -> Check:
    """A finite number in [low, high]; null too, where that is asked for."""

    def check(key: str, value: Any) -> None:
        if nullable and value is None:
            return
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not right or not low <= value <= high or not math.isfinite(value):
            span = "a number" if high == MAX_NUMBER and low < 0 else f"a number from {low:g} to {high:g}"
            raise ValueError(f"{key!r} is {_shown(value)}, but should be {span}{' or null' if nullable else ''}")

    return check


def whole(low: int = 0, high: int = 2**63) -> Check:
    """An integer in [low, high]."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{key!r} is {_shown(value)}, but should be a whole number from {low}")

    return check


def text(*choices: str, nullable: bool = False) -> Check:
    """A string, of these choices if there are any."""

    def check(key: str, value: Any) -> None:
        if nullable and value is None:
            return
        if not isinstance(value, str) or (choices and value not in choices):
            expected = " or ".join(map(repr, choices)) or "a text"
            raise ValueError(f"{key!r} is {_shown(value)}, but should be {expected}")

    return check


def items(check: Check, *lengths: int) -> Check:
    """A list of such items, of one of these lengths if any are given."""

    def check_all(key: str, value: Any) -> None:
        if not isinstance(value, list) or (lengths and len(value) not in lengths):
            of = f" of {lengths[-1]}" if lengths else ""
            raise ValueError(f"{key!r} is {_shown(value)}, but should be a list{of}")
        for item in value:
            check(key, item)

    return check_all


def mapping(required: Mapping[str, Check], rest: Check | None = None) -> Check:
    """An object with these keys; every other value must pass `rest`."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{key!r} is {_shown(value)}, but should be an object")
        _require(value, required, f"{key}.")
        if rest is not None:
            for name in sorted(value.keys() - required.keys()):
                rest(f"{key}.{name}", value[name])

    return check


def typed_config(key: str, value: Any) -> None:
    """A config whose options have their types. Options that it lacks are those of a newer version."""
    if not isinstance(value, dict):
        raise ValueError(f"{key!r} is {_shown(value)}, but should be an object")
    for name, check in _option_checks().items():
        *groups, last = name.split(".")
        place: Any = value
        for group in groups:
            place = place.get(group, {})
            if not isinstance(place, dict):
                raise ValueError(f"{f'{key}.{group}'!r} is {_shown(place)}, but should be an object")
        if last in place:
            check(f"{key}.{name}", place[last])


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


def _boolean(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{key!r} is {_shown(value)}, but should be true or false")


def _require(content: Mapping[str, Any], checks: Mapping[str, Check], prefix: str = "") -> None:
    for key, check in checks.items():
        if key not in content:
            raise ValueError(f"{prefix + key!r} is missing")
        check(prefix + key, content[key])


def _metric(key: str, value: Any) -> None:
    part = not key.endswith(("/loss", "lr"))
    number(0.0 if part else -MAX_NUMBER, 1.0 + 1e-6 if part else MAX_NUMBER, nullable=True)(key, value)


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
_parts = items(number(0.0, 1.0 + 1e-6), CLASSES)
RESULT: dict[str, Check] = {
    "status": text("finished", "diverged"),
    **RUN,
    "data": mapping({"source": text(), **{split: whole() for split in ("train", "val", "test")}}),
    "parameters": whole(),
    "epochs": whole(1),
    "best_epoch": whole(1),
    "metrics": mapping(dict.fromkeys(("test/accuracy", "test/f1_macro", "test/loss"), _metric), _metric),
    "per_class": mapping({**dict.fromkeys(("precision", "recall", "f1"), _parts), "support": items(whole(), CLASSES)}),
    "confusion_matrix": items(items(whole(0, 10**9), CLASSES), CLASSES),
    "timing": mapping({"fit_seconds": number(0.0), "epoch_seconds": number(0.0)}, number(0.0)),
    "environment": ENVIRONMENT,
}


SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunResult:
    """What came out of a run, as it stands in result.json.

    metrics: by "split/name", accuracies micro and in [0, 1], None where a loss was not finite; per_class: ten numbers
    each of precision, recall, f1 and support on test; confusion_matrix: 10 x 10 counts on test, rows are truth.
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
    """State keys of the user's own callbacks that can change the result."""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunResult":
        """Unknown keys are ignored. ValueError names a missing key, or one that does not hold what it should."""
        check_result(content)
        return cls(**{item.name: content[item.name] for item in fields(cls) if item.name in content})

    def to_json(self) -> JSON:
        """The content of result.json; without `callbacks` if there are none."""
        content = {"schema_version": self.schema_version, **asdict(self)}
        return {key: value for key, value in content.items() if key != "callbacks" or value}

    def metric(self, name: str) -> float:
        """A metric by its name, NaN where there is none or it was not finite."""
        value = self.metrics.get(name)
        return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class StoredRun:
    """What a run folder holds, read once: the contents of run.json and result.json, empty where a file is not there."""

    run: JSON
    result: JSON

    def changes(self, run: JSON) -> list[str]:
        """What decides the result and differs from `run`, the content of a run.json; empty where nothing does.

        Both files are asked, since either may have been copied from elsewhere.
        """
        found = (changes(one, run) for one in (self.run, self.result) if one)
        return next(filter(None, found), [])

    def result_of(self, run: JSON) -> RunResult | None:
        """The result, if it is of the same run as `run`; None where it is not, or was cut off or changed by hand."""
        try:
            return RunResult.from_json(self.result) if self.result and not self.changes(run) else None
        except ValueError:
            return None


TAGS = {
    "lr": "train/lr",
    "epoch_seconds": "wall_time/epoch_seconds",
    "images_per_second": "wall_time/images_per_second",
}
"""Of columns of metrics.csv; others are named as their columns."""
FIGURES = "visual_test"
"""Group of the figures of the test."""
FINAL = "whole_run"
"""Group of the figures that the HPARAMS tab shows."""


def tag_of(column: str) -> str:
    """A column of metrics.csv in TensorBoard."""
    return TAGS.get(column, column)
