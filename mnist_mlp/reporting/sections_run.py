"""The sections on one finished run: its figures, its mistakes, and how to make it again."""

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from mnist_mlp.compare.collect import Job
from mnist_mlp.compare.diagnosis import diagnose
from mnist_mlp.compare.statistics import wilson
from mnist_mlp.errors import UserError
from mnist_mlp.plots.run import calibration
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.data import changed
from mnist_mlp.reporting.elements import Cell, Picture, Section, Table, command
from mnist_mlp.reporting.sections_digits import GALLERY_STYLES, gallery, images_of
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_predictions
from mnist_mlp.runs.result import RunResult, decimal, percent
from mnist_mlp.runs.settings import value_text

RUN_STYLES = ("run.css",)
MAX_MISTAKES = 24
SIDE_BY_SIDE = Markup('<span class="side-by-side" hidden></span>')
WHOLE_COMMANDS = Markup('<span class="whole-commands" hidden></span>')
"""Marks by which run.css knows how to lay a section out."""


def headline(job: Job, curves: Curves) -> Section:
    """The figures that one asks for first, and whether the training went well."""
    verdict = str(diagnose(job, curves))
    kind = "verdict" if verdict.startswith("Fine") else "warning"
    markup = _cards(job) + Markup('<p class="{}">{}</p>').format(kind, verdict)
    return Section("Result", markup=markup, styles=RUN_STYLES)


def _cards(job: Job) -> Markup:
    card = Markup("<div><dt>{}</dt><dd>{}</dd><dd>{}</dd></div>")
    return Markup('<dl class="cards">{}</dl>').format(Markup().join(card.format(*texts) for texts in _figures(job)))


def _figures(job: Job) -> Iterator[tuple[str, str, str]]:
    """Name, value, and what to know of it."""
    result = _result(job)
    matrix, metrics, timing = np.array(result.confusion_matrix), result.metrics, result.timing
    correct, n = int(np.trace(matrix)), int(matrix.sum())
    low, high = wilson(correct, n)
    yield "Test accuracy", percent(metrics["test/accuracy"]), f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"
    yield "Mistakes", f"{n - correct:,}", f"of {n:,} test images ({result.data['source']})"
    worst = result.worst_digit
    missed = matrix[worst] * (np.arange(10) != worst)
    taken = f"{int(missed.max())} of {int(matrix[worst].sum()):,} taken for {int(missed.argmax())}"
    confused = taken if missed.any() else "always recognised"
    yield f"Worst digit: {worst}", decimal(result.per_class["f1"][worst]), f"F1; {confused}"
    yield "Macro F1", decimal(metrics["test/f1_macro"]), "mean of the ten digits' F1"
    yield "Test loss", decimal(metrics["test/loss"]), "mean cross-entropy"
    if (val := metrics.get("val/accuracy")) is not None:
        yield "Validation accuracy", percent(val), f"best in epoch {result.best_epoch} of {result.epochs}"
    layers = f"{job.text('model.hidden_layers')} hidden layers, units {job.text('model.hidden_units')}"
    network = job.settings.get("model.network") or layers
    yield "Parameters", f"{result.parameters:,}", f"{network}; trained on {result.data['train']:,} images"
    yield "Time to fit", f"{timing['fit_seconds']:.1f} s", f"{timing['epoch_seconds']:.2f} s an epoch"


def best_run(job: Job, name: str, path: str) -> Section:
    """The best run of several: its figures and its settings. path: of its folder, as seen from the page."""
    table = Table(["setting (other than default)", "value"], changed(job.settings))
    folded = {"All settings": _all_settings(job)}
    return Section(
        f"The best run: {name}", [f"In {path}."], table, folded=folded, markup=_cards(job), styles=RUN_STYLES
    )


def mistakes(job: Job, title: str = "Most confident mistakes") -> Section | None:
    """The mistakes of which the network is surest, as a gallery; None without predictions or without mistakes."""
    predictions = read_predictions(RunFolder(job.folder))
    if predictions is None or predictions.correct.all():
        return None
    try:
        images = images_of([job], predictions.truth)
    except UserError:  # the section with the confusion matrix says so
        return None
    confidence = np.take_along_axis(predictions.probabilities, predictions.predicted[:, None], 1)[:, 0]
    wrong = np.flatnonzero(~predictions.correct)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    what = "true digit → answer, probability"
    sentence = f"Of {len(wrong):,} mistakes, the {len(shown)} that the net is surest of: {what}."
    answers = zip(predictions.truth[shown], predictions.predicted[shown], confidence[shown], strict=True)
    captions = [(f"{truth} → {answer}", f"{100 * sure:.0f} %") for truth, answer, sure in answers]
    return Section(title, [sentence], markup=gallery(images[shown], captions), styles=GALLERY_STYLES)


def scores(job: Job) -> Section:
    """The classification report, the worst digit marked, and the calibration."""
    result = _result(job)
    worst, columns = result.worst_digit, [result.per_class[name] for name in ("precision", "recall", "f1")]
    support = [int(count) for count in result.per_class["support"]]
    total = sum(support)
    rows = [[str(digit), *(decimal(column[digit]) for column in columns), f"{support[digit]:,}"] for digit in range(10)]
    for name, weights in (("macro average", [1] * 10), ("weighted average", support)):
        means = [float(np.dot(column, weights)) / max(sum(weights), 1) for column in columns]
        rows.append([name, *map(decimal, means), f"{total:,}"])
    marks = ["bad" if digit == worst else "" for digit in range(10)] + ["", ""]
    table = Table(["digit", "precision", "recall", "F1", "images"], rows, marks, frozenset({1, 2, 3, 4}))
    picture = None
    if (predictions := read_predictions(RunFolder(job.folder))) is not None:
        figure = calibration(predictions.truth, predictions.probabilities, "Calibration on test")
        picture = Picture(svg(figure), "Fraction correct over the probability of the answer")
    notes = [f"Marked is the digit with the lowest F1: {worst}."]
    title = "Classification report and calibration"
    return Section(title, table=table, picture=picture, notes=notes, markup=SIDE_BY_SIDE, styles=RUN_STYLES)


def origin(job: Job) -> Section:
    """The command that makes the run again, its settings, and the machine and the versions it ran with."""
    result = _result(job)
    shown = ", ".join(f"{key}={value}" for key, value in changed(job.settings))
    rows = [[name, value_text(value)] for name, value in result.environment.items()]
    rows.append(["data", f"{result.data['source']}, digest {result.data.get('digest') or 'unknown'}"])
    rows.append(["fingerprint", result.fingerprint])
    return Section(
        "How to make it again",
        [f"Other than the defaults: {shown}." if shown else "All settings are the defaults."],
        Table(["", "command"], [["train", Cell(command(job), code=True)]]),
        folded={"Machine and versions": Table(["what", "value"], rows), "All settings": _all_settings(job)},
        markup=WHOLE_COMMANDS,
        styles=RUN_STYLES,
    )


def _all_settings(job: Job) -> Table:
    """Every setting of a run but data.root: pages are passed on."""
    rows = [[key, value_text(value)] for key, value in job.settings.items() if key != "data.root"]
    return Table(["setting", "value"], rows)


def _result(job: Job) -> RunResult:
    if job.result is None:
        raise ValueError(f"Expected a finished run, but {job.folder} is {job.status}")
    return job.result
