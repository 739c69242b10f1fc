"""The run folder: the names in it, and whether a run may start, resume or be returned there."""

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, read_json, write_json, write_text
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import complete_settings, differences


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run is."""

    MARKER_FILES: ClassVar = ("result.json", "run.json", "failure.json")
    """A folder with one of these holds a run."""

    path: Path

    @property
    def run_file(self) -> Path:
        """What runs here: overrides, config and fingerprint; written first."""
        return self.path / "run.json"

    @property
    def result_file(self) -> Path:
        """The result; written last and atomically."""
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
        """The content of run.json; None where no run has started here that this package could resume."""
        run = read_json(self.run_file)
        return run if run and {"config", "fingerprint"} <= run.keys() else None

    def failure(self) -> JSON | None:
        """The content of failure.json; None where nothing failed."""
        return read_json(self.failure_file)

    def result(self) -> RunResult | None:
        """The content of result.json; None for a run that did not finish. ValueError where it cannot be read."""
        content = read_json(self.result_file)
        return None if content is None else RunResult.from_json(content)

    def matches(self, run: JSON) -> bool:
        """Whether the run that started here has the same settings; one that it does not know has its default there."""
        before = self.run()
        return before is not None and (
            before["fingerprint"] == run["fingerprint"]
            or complete_settings(before["config"]) == complete_settings(run["config"])
        )

    def refuse_other_settings(self, run: JSON) -> None:
        """UserError, naming the keys that differ, where a run of other settings has started here."""
        before = self.run()
        if before is not None and not self.matches(run):
            changes = differences(complete_settings(before["config"]), complete_settings(run["config"]))
            raise UserError(
                f"{self.path} holds a run with other settings ({'; '.join(changes)}): "
                "choose another folder, or start over with resume=never"
            )

    def start(self, run: JSON, records: Mapping[str, str]) -> None:
        """Write run.json. records: further files, text by relative path."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name, text in records.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, text)
        self.forget_failure()
        write_json(self.run_file, run)

    def forget_failure(self) -> None:
        """Remove the record of a failed attempt."""
        for path in (self.failure_file, self.error_log):
            path.unlink(missing_ok=True)

    def archive(self) -> Path:
        """Move the whole folder to .set_aside/<name>-<n> beside it, which no comparison reads; the new path."""
        attic = self.path.parent / ".set_aside"
        attic.mkdir(exist_ok=True)
        number = next(n for n in itertools.count(1) if not (attic / f"{self.path.name}-{n}").exists())
        return self.path.rename(attic / f"{self.path.name}-{number}")

    def clear(self) -> None:
        """Remove what an earlier run wrote here, and nothing else."""
        self.result_file.unlink(missing_ok=True)  # first: without it the rest is an unfinished run
        for path in (self.checkpoints, self.tensorboard, self.figures):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.metrics_file, self.predictions_file, self.report_file, self.run_file):
            path.unlink(missing_ok=True)
