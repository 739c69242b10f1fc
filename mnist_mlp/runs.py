"""The run folder: the names in it, its state, the fingerprint of its settings. Imports no torch."""

import hashlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mnist_mlp.errors import UserError

JSON = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run is."""

    MARKS: ClassVar = ("result.json", "run.json", "failure.json")
    """A folder with one of these holds, or held, a run."""

    path: Path

    @property
    def run_file(self) -> Path:
        """What runs here: overrides, config and fingerprint; written first."""
        return self.path / "run.json"

    @property
    def result_file(self) -> Path:
        """What came out; written last and atomically."""
        return self.path / "result.json"

    @property
    def failure_file(self) -> Path:
        """Why a job of a sweep failed: one-line reason, overrides, config."""
        return self.path / "failure.json"

    @property
    def error_log(self) -> Path:
        """The traceback behind failure.json."""
        return self.path / "error.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def metrics_file(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def predictions_file(self) -> Path:
        """Every test image: index, truth, prediction, probabilities."""
        return self.path / "predictions.npz"

    @property
    def report_file(self) -> Path:
        return self.path / "classification_report.txt"

    def run(self) -> JSON | None:
        """What run.json says; None where nothing has started here, or nothing that this package could go on with."""
        run = read_json(self.run_file)
        return run if run and {"config", "fingerprint"} <= run.keys() else None

    def failure(self) -> JSON | None:
        """What failure.json says; None where nothing failed."""
        return read_json(self.failure_file)

    def result(self) -> JSON | None:
        """What result.json says; None for a run that did not finish."""
        return read_json(self.result_file)

    def earlier_result(self, run: JSON, run_only: Iterable[str]) -> JSON | None:
        """The result of a finished run of the same settings, if it is here; UserError if other settings are."""
        before = self.run()
        if before is None:
            return None
        if not self.holds(run):
            changes = differences(settings(before["config"], run_only), settings(run["config"], run_only))
            raise UserError(
                f"{self.path} holds a run with other settings ({'; '.join(changes)}): "
                "choose another folder, or start over with resume=never"
            )
        self.forget_failure()
        return self.result()

    def forget_failure(self) -> None:
        """Remove what a failed attempt left: the job is taken up again."""
        for path in (self.failure_file, self.error_log):
            path.unlink(missing_ok=True)

    def holds(self, run: JSON) -> bool:
        """Whether what has started here has the same settings."""
        before = self.run()
        return before is not None and bool(before["fingerprint"] == run["fingerprint"])

    def start(self, run: JSON, records: Mapping[str, str]) -> None:
        """Say what runs here. records: further files, text by relative path."""
        for name, text in records.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self.path.mkdir(parents=True, exist_ok=True)
        self.forget_failure()
        write_json(self.run_file, run)

    def set_aside(self) -> Path:
        """Move all of it to .set_aside/<name>-<n> beside it, where no comparison looks; the new place."""
        attic = self.path.parent / ".set_aside"
        attic.mkdir(exist_ok=True)
        number = next(n for n in itertools.count(1) if not (attic / f"{self.path.name}-{n}").exists())
        return self.path.rename(attic / f"{self.path.name}-{number}")

    def clear(self) -> None:
        """Remove what an earlier run left here, and nothing else."""
        self.result_file.unlink(missing_ok=True)  # first: without it the rest is an unfinished run
        for path in (self.checkpoints, self.tensorboard, self.figures):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.metrics_file, self.predictions_file, self.report_file, self.run_file):
            path.unlink(missing_ok=True)


def describe(config: JSON, overrides: Iterable[str], run_only: Iterable[str]) -> JSON:
    """What runs, as run.json and result.json say it; config is nested, with every `auto` resolved."""
    return {
        "overrides": list(overrides),
        "config": config,
        "fingerprint": fingerprint(settings(config, run_only)),
    }


def read_json(path: Path) -> JSON | None:
    """The object in a JSON file; None where there is no such file or it is not one."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Atomic; numbers that are not finite become null, since JSON has none."""
    write_text(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomic: the file has its old content or the new, never half of it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Atomic."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    os.replace(scratch, path)


def flat(config: Mapping[Any, Any], prefix: str = "") -> JSON:
    """A nested config with dotted keys."""
    rows: JSON = {}
    for key, value in config.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return rows


def settings(config: Mapping[str, Any], run_only: Iterable[str]) -> JSON:
    """The part of a config that decides the result, with dotted keys."""
    left_out = set(run_only)
    return {key: value for key, value in sorted(flat(config).items()) if key not in left_out}


def fingerprint(flat_settings: Mapping[str, Any]) -> str:
    """A hash of the settings that decide the result: equal settings, equal result."""
    return hashlib.sha256(json.dumps(flat_settings, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys that differ, as "key: old -> new"; "-" where a key is not there at all."""
    texts = [{key: json.dumps(value) for key, value in one.items()} for one in (old, new)]
    keys = [key for key in sorted(old.keys() | new.keys()) if texts[0].get(key) != texts[1].get(key)]
    return [f"{key}: {old.get(key, '-')} -> {new.get(key, '-')}" for key in keys]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
