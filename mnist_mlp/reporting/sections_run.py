"""The sections of a page on one finished run: its figures, its mistakes, its network, and how to make it again."""

from collections.abc import Iterator, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Job
from mnist_mlp.compare.diagnosis import diagnosis
from mnist_mlp.compare.statistics import wilson
from mnist_mlp.errors import UserError
from mnist_mlp.plots.run import calibration
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.data import all_settings, changed
from mnist_mlp.reporting.elements import Cell, Picture, Section, Table, command
from mnist_mlp.reporting.images import GALLERY_STYLES, gallery, images_of
from mnist_mlp.reporting.sections_digits import layer_table
from mnist_mlp.runs.files import UnreadableFileError, read_content
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_predictions
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import value_text
from mnist_mlp.runs.tables import decimal, percent

RUN_STYLES = ("run.css",)
MOST_MISTAKES = 24
SIDE_BY_SIDE = Markup('<span class="side-by-side" hidden></span>')
WHOLE_COMMANDS = Markup('<span class="whole-commands" hidden></span>')
"""Marks by which run.css knows how to lay a section out."""
FINE = "Fine"
"""How the diagnosis of a run begins that needs no attention."""
ENVIRONMENT = {
    "device": "device", "threads": "CPU threads", "commit": "commit", "python": "Python", "torch": "PyTorch",
    "lightning": "Lightning", "torchmetrics": "torchmetrics", "hydra": "Hydra",
}  # fmt: skip


def headline(job: Job, curves: Curves) -> Section:
    """The figures that one asks for first, and whether the training went well."""
    result = _result(job)
    verdict = diagnosis(job.status, job.reason, job.settings.get("trainer.max_epochs"), curves)
    cards = Markup().join(
        Markup("<div><dt>{}</dt><dd>{}</dd><dd>{}</dd></div>").format(*card) for card in _cards(result)
    )
    kind = "verdict" if verdict.startswith(FINE) else "warning"
    return Section(
        "Result",
        markup=Markup('<dl class="cards">{}</dl><p class="{}">{}</p>').format(cards, kind, verdict),
        styles=RUN_STYLES,
    )


def _cards(result: RunResult) -> Iterator[tuple[str, str, str]]:
    """Name, value, and what to know of it."""
    matrix, metrics, timing = np.array(result.confusion_matrix), result.metrics, result.timing
    right, n = int(np.trace(matrix)), int(matrix.sum())
    low, high = wilson(right, n)
    yield "Test accuracy", percent(metrics["test/accuracy"]), f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"
    yield "Mistakes", f"{n - right:,}", f"of {n:,} test images ({result.data['source']})"
    worst = worst_digit(result)
    yield f"Worst digit: {worst}", decimal(result.per_class["f1"][worst]), f"F1; {_confused(matrix, worst)}"
    yield "Macro F1", decimal(metrics["test/f1_macro"]), "mean of the ten digits' F1"
    yield "Test loss", decimal(metrics["test/loss"]), "mean cross-entropy"
    if (val := metrics.get("val/accuracy")) is not None:
        yield "Validation accuracy", percent(val), f"best in epoch {result.best_epoch} of {result.epochs}"
    yield "Parameters", f"{result.parameters:,}", f"trained on {result.data['train']:,} images"
    yield "Time to fit", f"{timing['fit_seconds']:.1f} s", f"{timing['epoch_seconds']:.2f} s an epoch"


def worst_digit(result: RunResult) -> int:
    """The digit with the lowest F1 on test."""
    scores = result.per_class["f1"]
    return min(range(len(scores)), key=scores.__getitem__)


def _confused(matrix: NDArray[np.int64], digit: int) -> str:
    """What a digit is taken for most often."""
    taken = matrix[digit] * (np.arange(10) != digit)
    if not taken.any():
        return "always recognised"
    return f"{int(taken.max())} of {int(matrix[digit].sum()):,} taken for {int(taken.argmax())}"


def mistakes(job: Job, title: str = "Most confident mistakes") -> Section | None:
    """The mistakes that the net is surest of, as a gallery; None without predictions or without mistakes."""
    predictions = read_predictions(RunFolder(job.folder))
    if predictions is None or predictions.correct.all():
        return None
    try:
        images = images_of([job], predictions.truth)
    except UserError:  # the section with the confusion matrix says so
        return None
    confidence = predictions.probabilities[np.arange(len(predictions.truth)), predictions.predicted]
    wrong = np.flatnonzero(~predictions.correct)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES]
    sentence = (
        f"Of {len(wrong):,} mistakes, the {len(shown)} that the net is surest of: true digit → answer, probability."
    )
    said = zip(predictions.truth[shown], predictions.predicted[shown], confidence[shown], strict=True)
    captions = [(f"{truth} → {answer}", f"{100 * sure:.0f} %") for truth, answer, sure in said]
    return Section(title, [sentence], markup=gallery(images[shown], captions), styles=GALLERY_STYLES)


def scores(job: Job) -> Section:
    """The classification report, the worst digit marked, and the calibration."""
    result = _result(job)
    worst = worst_digit(result)
    names = ("precision", "recall", "f1")
    columns = [result.per_class[name] for name in names]
    support = [int(count) for count in result.per_class["support"]]
    rows = [[str(digit), *(decimal(column[digit]) for column in columns), f"{support[digit]:,}"] for digit in range(10)]
    total = sum(support)
    for name, weights in (("macro average", [1] * 10), ("weighted average", support)):
        rows.append([name, *(decimal(_mean(column, weights)) for column in columns), f"{total:,}"])
    marks = ["bad" if digit == worst else "" for digit in range(10)] + ["", ""]
    table = Table(["digit", "precision", "recall", "F1", "images"], rows, marks, frozenset({1, 2, 3, 4}))
    predictions = read_predictions(RunFolder(job.folder))
    pictures = []
    if predictions is not None:
        figure = calibration(predictions.truth, predictions.probabilities, "Calibration on test")
        pictures.append(Picture(svg(figure), "Part that is right over the probability of the answer", half=True))
    notes = [f"Marked is the digit with the lowest F1: {worst}."]
    title = "Classification report and calibration"
    return Section(title, table=table, pictures=pictures, notes=notes, markup=SIDE_BY_SIDE, styles=RUN_STYLES)


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / max(sum(weights), 1)


def network(job: Job) -> Section | None:
    """Its layers, and what the first of them looks for; None where the settings name no network."""
    table = layer_table(job.settings)
    if table is None:
        return None
    try:
        content = read_content(RunFolder(job.folder).figures / "first_layer.png")
    except UnreadableFileError:
        content = None
    pictures = [Picture(content, "Weights of the first layer", kind="png")] if content else []
    return Section("Network", table=table, pictures=pictures)


def origin(job: Job) -> Section:
    """The command that makes the run again, its settings, and the machine and the versions it ran with."""
    result = _result(job)
    told = ", ".join(f"{key}={value}" for key, value in changed(job.settings))
    rows = [[name, value_text(result.environment.get(key))] for key, name in ENVIRONMENT.items()]
    rows.append(["data", f"{result.data['source']}, digest {result.data.get('digest') or 'unknown'}"])
    rows.append(["fingerprint", result.fingerprint])
    return Section(
        "How to make it again",
        [f"Other than the defaults: {told}." if told else "All settings are the defaults."],
        Table(["", "command"], [["train", Cell(command(job), code=True)]]),
        folded={"Machine and versions": Table(["what", "value"], rows), "All settings": all_settings(job)},
        markup=WHOLE_COMMANDS,
        styles=RUN_STYLES,
    )


def _result(job: Job) -> RunResult:
    if job.result is None:
        raise ValueError(f"Expected a finished run, but {job.folder} is {job.status}")
    return job.result
