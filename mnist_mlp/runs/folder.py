"""A run that goes on to more epochs than it was first asked for."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import (
    JSON,
    UnreadableFileError,
    is_scratch_file,
    read_object,
    remove_scratch_files,
    sync_file,
    sync_folder,
    write_json,
    write_text,
)
from mnist_mlp.runs.lock import LOCK_FILE, FolderLock
from mnist_mlp.runs.result import RunResult, StoredRun, check_failure, check_result, check_run
from mnist_mlp.runs.settings import complete_settings

FIGURES = (
    "learning_curves", "confusion_matrix", "f1_per_class", "calibration", "first_layer", "mistakes", "right",
)  # fmt: skip
"""Names of the figures of a run."""
EARLIER_FIGURES = ("confusion_matrix_normalized",)
"""Names of figures that earlier versions drew."""
HYDRA_FILES = (".hydra", "train.log")
"""What Hydra itself writes into a run's folder if the user asks for it."""
RECORDS = ("config.yaml", "hydra.yaml", "overrides.yaml")


def previous(path: Path) -> Path:
    """Where the checkpoint is kept that a newer one has replaced."""
    return path.with_name(f"{path.name}.previous")


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

    @property
    def page_file(self) -> Path:
        """The page of this run alone."""
        return self.path / "report.html"

    def run(self) -> JSON | None:
        """The content of run.json; None where no run has started here. UnreadableFileError where it is not a run's."""
        return self._read(self.run_file, check_run)

    def failure(self) -> JSON | None:
        """The content of failure.json; None where nothing failed. UnreadableFileError where it is something else."""
        return self._read(self.failure_file, check_failure)

    def result(self) -> RunResult | None:
        """The content of result.json; None for a run that did not finish. UnreadableFileError where it is no result."""
        content = self._read(self.result_file, check_result)
        return None if content is None else RunResult.from_json(content)

    def _read(self, path: Path, check: Callable[[JSON], None]) -> JSON | None:
        content = read_object(path)
        if content is not None:
            try:
                check(content)
            except ValueError as error:
                raise UnreadableFileError(path, error) from error
        return content

    def lock(self) -> FolderLock:
        """The right to write here; to be acquired."""
        return FolderLock(self.path)

    def stored(self) -> StoredRun:
        """What is here of a run. UnreadableFileError where a file is not a run's."""
        return StoredRun(self.run() or {}, self._read(self.result_file, check_result) or {})

    def changes(self, run: JSON) -> list[str]:
        """What decides the result and differs between the run that is here and `run`; empty where nothing does."""
        try:
            return self.stored().changes(run)
        except UnreadableFileError as error:
            return [error.reason]

    def finished(self, run: JSON) -> RunResult | None:
        """The result that is here, of the same run as `run`, the content of a run.json; None where there is none."""
        try:
            return self.stored().result_of(run)
        except UnreadableFileError:
            return None

    def refuse_other_settings(self, run: JSON) -> None:
        """UserError, naming the keys that differ, where a run of other settings has started here."""
        if different := self.changes(run):
            raise UserError(
                f"{self.path} holds a run with other settings ({'; '.join(different)}): "
                "choose another folder, or start over with resume=never"
            )

    def holds_run(self) -> bool:
        """Whether a file says that a run of this package has started here; a checkpoint may say so too."""
        return any(map(self._is_there, (self.run, self.result, self.failure)))

    def _is_there(self, read: Callable[[], object]) -> bool:
        try:
            return read() is not None
        except UnreadableFileError:
            return False

    def refuse_foreign(self) -> None:
        """UserError where anything lies here; to be called where it `holds_run` not."""
        expected = (LOCK_FILE, *HYDRA_FILES)
        strange = [path.name for path in self._content() if path.name not in expected and not is_scratch_file(path)]
        if strange:
            shown = ", ".join(sorted(strange)[:3]) + (", ..." if len(strange) > 3 else "")
            raise UserError(f"{self.path} is not empty and holds no run ({shown}): choose another folder")

    def start(self, run: JSON, records: Mapping[str, str]) -> JSON:
        """Write run.json where there is none, and the records that are missing; what run.json says then.

        records: further files, text by relative path.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        remove_scratch_files(self.path, self.checkpoints, self.figures, self.path / ".hydra")
        before = self.run()
        if before is None:
            write_json(self.run_file, run, durable=True)
        for name, text in records.items():
            target = self.path / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                write_text(target, text)
        self.forget_failure()
        return {**run, **before} if before else run

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
        """Remove what an earlier run wrote here, and nothing else. UserError where something cannot be removed."""
        try:
            # first: without it the rest is an unfinished run. run.json last: it says that the rest is ours
            for path in (self.result_file, *list(self._written()), self.run_file):
                path.unlink(missing_ok=True)
            for folder in (self.checkpoints, self.tensorboard, self.figures, self.path / ".hydra"):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            if self.path.is_dir():
                sync_folder(self.path)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be removed ({error.strerror}): the run is not started") from error

    def clear_training(self) -> None:
        """Remove the checkpoints, so that training starts over."""
        for path in list(self._checkpoint_files()):
            path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Bring all that the run wrote onto the disk."""
        for path in self._written():
            if path.is_file():
                sync_file(path)
        for folder in (self.tensorboard, self.figures, self.path):
            if folder.is_dir():
                sync_folder(folder)

    def event_files(self) -> list[Path]:
        """TensorBoard's files."""
        return sorted(self.tensorboard.glob("events.out.tfevents.*"))

    def _written(self) -> Iterator[Path]:
        """The files of a run, but for run.json and result.json, whether they exist or not."""
        yield from self._checkpoint_files()
        yield from self.event_files()
        yield from (self.figures / f"{name}.png" for name in (*FIGURES, *EARLIER_FIGURES))
        yield from (self.metrics_file, self.predictions_file, self.report_file, self.page_file)
        yield from (self.failure_file, self.error_log)
        yield from (path for kind in ("fit", "test") for path in self.path.glob(f"{kind}-profile*.txt"))
        yield from (self.path / ".hydra" / name for name in RECORDS)
        for folder in (self.path, self.checkpoints, self.figures):
            yield from filter(is_scratch_file, folder.iterdir() if folder.is_dir() else ())

    def _checkpoint_files(self) -> Iterator[Path]:
        for path in (self.last_checkpoint, self.best_checkpoint):
            yield from (path, previous(path))

    def _content(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []


EPOCHS = "trainer.max_epochs"


def epochs_alone_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two configs (nested) train for different numbers of epochs and are otherwise the same."""
    old, new = complete_settings(before), complete_settings(now)
    return old.get(EPOCHS) != new.get(EPOCHS) and {**old, EPOCHS: 0} == {**new, EPOCHS: 0}


def goes_on(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a run goes on as another that has more epochs. before, now: what run.json says of them."""
    old, new = (int(one["config"]["trainer"]["max_epochs"]) for one in (before, now))
    constant = now["config"]["optim"]["schedule"] == "constant"
    same = _digest(before) == _digest(now) and epochs_alone_differ(before["config"], now["config"])
    return same and constant and old < new


def _digest(run: Mapping[str, Any]) -> object:
    return run.get("data", {}).get("digest")


def reopen_for_more_epochs(folder: RunFolder, run: JSON) -> bool:
    """Make the run that is here unfinished again, if `run` is the same one with more epochs; whether it was.

    UserError where going on would not give what the longer run gives: where the learning rate depends on the number of
    epochs, where fewer are asked for, or where the last checkpoint is gone.
    """
    before = folder.run()
    if before is None or _digest(before) != _digest(run) or not epochs_alone_differ(before["config"], run["config"]):
        return False
    old, new = (int(one["config"]["trainer"]["max_epochs"]) for one in (before, run))
    schedule = run["config"]["optim"]["schedule"]
    asked = f"{folder.path} holds this run with {EPOCHS}={old}, and {new} are asked for"
    remedy = "choose another folder, or start over with resume=never"
    if new < old:
        raise UserError(f"{asked}: a run can be continued, not shortened; {remedy}")
    if schedule != "constant":
        raise UserError(
            f"{asked}: optim.schedule={schedule} spreads the learning rates over all epochs, so that the first {old} "
            f"would have gone differently; {remedy}"
        )
    if not folder.last_checkpoint.is_file():
        raise UserError(f"{asked}: {folder.last_checkpoint} is gone, from which it would go on; {remedy}")
    folder.result_file.unlink(missing_ok=True)
    write_json(folder.run_file, {**before, **{key: run[key] for key in ("overrides", "config", "fingerprint")}})
    return True
