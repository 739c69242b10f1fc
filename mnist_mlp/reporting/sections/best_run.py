"""The section on one run: settings, confusion matrix, classification report, digits."""

from collections.abc import Iterator

import numpy as np

from mnist_mlp.analysis.collect import EXCLUDED_KEYS, Job, Summary
from mnist_mlp.config import Config, non_result_keys, to_dict
from mnist_mlp.errors import UserError
from mnist_mlp.plots import run as plots
from mnist_mlp.plots.sample_grids import sample_grids
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.elements import Picture, Section, Table
from mnist_mlp.reporting.test_images import images_of
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Predictions, read_predictions
from mnist_mlp.runs.reading import UnreadableFileError, read_content
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten, value_text
from mnist_mlp.runs.tables import classification_report, decimal, percent

SHOWN = {
    "confusion_matrix": "Confusion matrix of the test images",
    "calibration": "Calibration on test",
    "mistakes": "Test digits that were taken for others",
    "right": "Test digits that were recognised",
    "first_layer": "Weights of the first layer",
}
"""Figures of the run folder in the order of the page, with what they show."""
HALF = ("confusion_matrix", "calibration")


def best_job(summary: Summary) -> Job | None:
    """The best run of the best row, by the measure that ranks the rows; None where nothing finished."""
    column = summary.ranked_by.replace("_", "/", 1)
    rows = [row for row in summary.rows if row.best]
    done = [job for row in rows for job in row.jobs if job.result is not None]
    return max(done, key=lambda job: job.result.metrics.get(column) or 0.0 if job.result else 0.0) if done else None


def best_run(job: Job, alone: bool, name: str, path: str) -> Section:
    """A finished run in detail. alone: it is the only one; path: of its folder, as seen from the page."""
    assert job.result is not None
    result, metrics = job.result, job.result.metrics
    facts = [
        f"test accuracy {percent(metrics['test/accuracy'])}",
        f"macro F1 {decimal(metrics['test/f1_macro'])}",
        f"loss {decimal(metrics['test/loss'])}",
        f"{result.parameters:,} parameters",
        f"checkpoint of epoch {result.best_epoch} of {result.epochs}",
        f"{result.timing['fit_seconds']:.1f} s",
    ]
    pictures, notes = _pictures(job, result)
    return Section(
        "The run" if alone else f"The best run: {name}",
        [", ".join(facts) + f", in {path}."],
        Table(["setting (other than default)", "value"], changed(job.settings)),
        classification_report(result.confusion_matrix),
        pictures,
        notes,
        {"All settings": Table(["setting", "value"], [[key, value_text(job.settings[key])] for key in job.settings])},
    )


def changed(settings: JSON) -> list[list[str]]:
    """The settings that affect the result and differ from the default, as [key, value]."""
    left_out = non_result_keys() | {"trainer.accelerator", "data.digest"}
    default = flatten(to_dict(Config()))
    told = {key: value for key, value in settings.items() if key not in left_out and not EXCLUDED_KEYS.fullmatch(key)}
    return [[key, value_text(value)] for key, value in told.items() if key not in default or default[key] != value]


def _pictures(job: Job, result: RunResult) -> tuple[list[Picture], list[str]]:
    """The pictures in the run folder; missing ones are drawn now where the data for them is there."""
    folder = RunFolder(job.folder)
    found = {name: read_picture(folder, name) for name in SHOWN}
    notes: list[str] = []
    if None in (found[name] for name in SHOWN if name != "first_layer"):
        for name, figure in _drawn(job, result, read_predictions(folder), notes):
            if found.get(name, b"") is None:
                found[name] = Picture(svg(figure), SHOWN[name], half=name in HALF)
    return [picture for picture in found.values() if picture is not None], notes


def read_picture(folder: RunFolder, name: str) -> Picture | None:
    """A figure of the run folder, one of SHOWN; None where it is not there."""
    try:
        content = read_content(folder.figures / f"{name}.png") or b""
    except UnreadableFileError:
        return None
    return Picture(content, SHOWN[name], half=name in HALF, kind="png") if content else None


def _drawn(
    job: Job, result: RunResult, predictions: Predictions | None, notes: list[str]
) -> Iterator[tuple[str, plots.Figure]]:
    title = f"Confusion matrix, test accuracy {percent(result.metrics['test/accuracy'])}"
    yield "confusion_matrix", plots.confusion(np.array(result.confusion_matrix), title)
    if predictions is None:
        notes.append("No digits are shown: the run folder has no predictions.npz that can be read.")
        return
    truth, probabilities = predictions.truth, predictions.probabilities
    yield "calibration", plots.calibration(truth, probabilities, "Calibration on test")
    try:
        images = images_of([job], truth)
    except UserError as error:
        notes.append(f"No digits are shown: {error}.")
        return
    yield from sample_grids(images, truth, predictions.predicted, probabilities)
