"""The typed content of result.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.schema import check_result
from mnist_mlp.runs.settings import changes

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
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunResult":
        """Unknown keys are ignored. ValueError names a missing key, or one that does not hold what it should."""
        check_result(content)
        known = {}
        for item in fields(cls):
            if item.name == "schema_version":
                known[item.name] = content.get(item.name, SCHEMA_VERSION)
            else:
                known[item.name] = content[item.name]
        return cls(**known)

    def to_json(self) -> JSON:
        """The content of result.json."""
        return {"schema_version": self.schema_version, **asdict(self)}

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
