"""Page sections for one finished run: metrics, mistakes, calibration, and how to reproduce it."""

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from mnist_mlp.compare.diagnosis import diagnose
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.statistics import accuracy_interval
from mnist_mlp.console import shell_quoted
from mnist_mlp.datasets import class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.plots.run import calibration
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.data import PageContext, best_run_note, non_default_settings
from mnist_mlp.reporting.elements import Cell, Picture, Section, Table, command, render
from mnist_mlp.reporting.sections_digits import GALLERY_STYLES, gallery, load_test_images
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Curves, read_predictions
from mnist_mlp.runs.result import RunResult, decimal, occurring_classes, percent
from mnist_mlp.runs.settings import value_text

RUN_STYLES = ("run.css",)
MAX_MISTAKES = 24
HALF_WIDTH = 5.2
"""Width of a figure in inches that fits half a page, or a phone."""
SIDE_BY_SIDE = Markup('<span class="side-by-side" hidden></span>')
WHOLE_COMMANDS = Markup('<span class="whole-commands" hidden></span>')
"""Markers by which run.css selects the layout of a section."""


def key_metrics(job: Job, curves: Curves) -> Section:
    """Key metrics as cards, and the diagnosis of the training."""
    markup = render("cards.html", cards=_metrics(job), verdict=str(diagnose(job, curves)))
    return Section("Result", markup=markup, styles=RUN_STYLES)


def _metrics(job: Job) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and explanation of each card."""
    result = _result(job)
    matrix, metrics, timing = np.array(result.confusion_matrix), result.metrics, result.timing
    correct, n = int(np.trace(matrix)), int(matrix.sum())
    predictions = read_predictions(RunFolder(job.folder), len(job.classes))
    notes = ["averaged weights"] * bool(job.settings["optim.ema"])
    if predictions is not None:
        low, high = accuracy_interval(predictions.correct)
        notes.append(f"95 % interval {100 * low:.2f} to {100 * high:.2f} %, over images, not seeds")
    yield "Test accuracy", percent(metrics["test/accuracy"]), "; ".join(notes)
    yield (
        "Mistakes",
        f"{n - correct:,}",
        f"of {n:,} test images ({result.source}); test evaluations: {result.evaluations_text}",
    )
    worst = result.worst_class
    missed = matrix[worst] * (np.arange(len(matrix)) != worst)
    mistaken = f"{int(missed.max())} of {int(matrix[worst].sum()):,} predicted as {job.classes[missed.argmax()]}"
    confusion = mistaken if missed.any() else "always correct"
    name, nouns = f"Worst {class_noun(job.classes)}: {job.classes[worst]}", class_noun(job.classes, is_plural=True)
    yield name, decimal(result.per_class["f1"][worst]), f"F1; {confusion}"
    yield "Macro F1", decimal(metrics["test/f1_macro"]), f"mean F1 of the {nouns} that occur"
    yield "Test loss", decimal(metrics["test/loss"]), "mean cross-entropy"
    if (val := metrics.get("val/accuracy")) is not None:
        yield "Validation accuracy", percent(val), f"best epoch {result.best_epoch} of {result.epochs}"
    layers = f"{job.text('model.hidden_layers')} hidden layers, units {job.text('model.hidden_units')}"
    network = job.settings.get("model.network") or layers
    yield "Parameters", f"{result.parameters:,}", f"{network}; trained on {result.data['train']:,} images"
    yield "Training time", f"{timing['fit_seconds']:.1f} s", f"{timing['epoch_seconds']:.2f} s per epoch"


def best_run(job: Job, context: PageContext) -> Section:
    """Metrics and settings of the best run, and the mean of its setting."""
    table = Table(["non-default setting", "value"], non_default_settings(job.settings))
    folded, markup = {"All settings": _all_settings(job)}, render("cards.html", cards=_metrics(job), verdict="")
    sentences = [*filter(None, [best_run_note(context.summary)]), f"Folder: {context.path(job.folder)}"]
    title = f"Best run: {context.names_of([job])[0]}"
    return Section(title, sentences, table, folded=folded, markup=markup, styles=RUN_STYLES)


def mistakes(job: Job, title: str = "Mistakes") -> Section | None:
    """Gallery of the mistakes with the highest confidence; None without predictions or mistakes."""
    predictions = read_predictions(RunFolder(job.folder), len(job.classes))
    if predictions is None or predictions.correct.all():
        return None
    try:
        images = load_test_images([job], predictions.truth)
    except UserError:  # the section with the confusion matrix reports it
        return None
    confidence = np.take_along_axis(predictions.probabilities, predictions.predicted[:, None], 1)[:, 0]
    incorrect = np.flatnonzero(~predictions.correct)
    shown = incorrect[np.argsort(-confidence[incorrect], kind="stable")][:MAX_MISTAKES]
    caption = "true → predicted, probability of the prediction"
    sentence = f"Showing {len(shown)} of {len(incorrect):,} mistakes, most confident first: {caption}."
    predicted = zip(predictions.truth[shown], predictions.predicted[shown], confidence[shown], strict=True)
    names = job.classes
    captions = [(f"{names[true]} → {names[label]}", f"{100 * value:.0f} %") for true, label, value in predicted]
    return Section(title, [sentence], markup=gallery(images[shown], captions), styles=GALLERY_STYLES)


def classification_report(job: Job) -> Section:
    """Classification report with the worst class highlighted, and the reliability diagram."""
    result = _result(job)
    worst, columns = result.worst_class, [result.per_class[name] for name in ("precision", "recall", "f1")]
    support = [int(count) for count in result.per_class["support"]]
    total = sum(support)
    labels, names, noun = occurring_classes(result.confusion_matrix), result.classes, class_noun(result.classes)
    rows = [[names[label], *(decimal(column[label]) for column in columns), f"{support[label]:,}"] for label in labels]
    occurs = np.isin(np.arange(len(names)), labels).astype(int).tolist()
    for name, weights in (("macro average", occurs), ("weighted average", support)):
        means = [float(np.dot(column, weights)) / max(sum(weights), 1) for column in columns]
        rows.append([name, *map(decimal, means), f"{total:,}"])
    marks = ["bad" if label == worst else "" for label in labels] + ["", ""]
    table = Table([noun, "precision", "recall", "F1", "images"], rows, marks, frozenset({1, 2, 3, 4}))
    picture = None
    if (predictions := read_predictions(RunFolder(job.folder), len(job.classes))) is not None:
        error = result.metrics.get("test/calibration_error")
        figure = calibration(
            predictions.truth, predictions.probabilities, "Calibration on test", names, error, HALF_WIDTH
        )
        picture = Picture(svg(figure), "Reliability diagram: fraction correct against predicted probability")
    nouns = class_noun(names, is_plural=True)
    notes = [f"Highlighted: {noun} {names[worst]}, with the lowest F1 of the {nouns} that occur."]
    title = "Classification report and calibration"
    return Section(title, table=table, picture=picture, notes=notes, markup=SIDE_BY_SIDE, styles=RUN_STYLES)


def provenance(job: Job, context: PageContext) -> Section:
    """The command that reproduces the run, its draw page, settings, machine and software versions."""
    result = _result(job)
    shown = ", ".join(f"{key}={value}" for key, value in non_default_settings(job.settings))
    rows = [[name, value_text(value)] for name, value in result.environment.items()]
    rows.append(["data", f"{result.source}, digest {result.data.get('digest') or 'unknown'}"])
    rows.append(["fingerprint", result.fingerprint])
    sentences = [f"Non-default settings: {shown}." if shown else "All settings are defaults."]
    draw = Cell(f"python -m mnist_mlp.export {shell_quoted(job.folder.name)} --format html", code=True)
    page = RunFolder(job.folder).draw_file
    if page.is_file() and (link := context.link(job.folder)):
        draw = Cell(page.name, link=link + page.name)
    table = Table(["", "command"], [["train", Cell(command(job), code=True)], ["draw in the browser", draw]])
    folded = {"Machine and versions": Table(["item", "value"], rows), "All settings": _all_settings(job)}
    return Section("Reproduce this run", sentences, table, folded=folded, markup=WHOLE_COMMANDS, styles=RUN_STYLES)


def _all_settings(job: Job) -> Table:
    """Every setting except data.root: pages are shared, and paths are private."""
    rows = [[key, value_text(value)] for key, value in job.settings.items() if key != "data.root"]
    return Table(["setting", "value"], rows)


def _result(job: Job) -> RunResult:
    if job.result is None:
        raise ValueError(f"Expected a finished run, but {job.folder} is {job.status}")
    return job.result
