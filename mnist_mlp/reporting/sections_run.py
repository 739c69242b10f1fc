"""The sections on one finished run: its figures, its mistakes, its network, and how to make it again."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from mnist_mlp.compare.collect import Job
from mnist_mlp.compare.diagnosis import diagnose
from mnist_mlp.compare.statistics import wilson
from mnist_mlp.config import PIXELS, layer_sizes
from mnist_mlp.errors import UserError
from mnist_mlp.plots.run import calibration, first_layer
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
FINE = "Fine"
"""How the diagnosis of a run begins that needs no attention."""
ENVIRONMENT = {
    "device": "device", "threads": "CPU threads", "commit": "commit", "python": "Python", "torch": "PyTorch",
    "lightning": "Lightning", "torchmetrics": "torchmetrics", "hydra": "Hydra",
}  # fmt: skip


def headline(job: Job, curves: Curves) -> Section:
    """The figures that one asks for first, and whether the training went well."""
    verdict = str(diagnose(job, curves))
    card = Markup("<div><dt>{}</dt><dd>{}</dd><dd>{}</dd></div>")
    cards = Markup().join(card.format(*texts) for texts in _cards(_result(job)))
    kind = "verdict" if verdict.startswith(FINE) else "warning"
    markup = Markup('<dl class="cards">{}</dl><p class="{}">{}</p>').format(cards, kind, verdict)
    return Section("Result", markup=markup, styles=RUN_STYLES)


def _cards(result: RunResult) -> Iterator[tuple[str, str, str]]:
    """Name, value, and what to know of it."""
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
    yield "Parameters", f"{result.parameters:,}", f"trained on {result.data['train']:,} images"
    yield "Time to fit", f"{timing['fit_seconds']:.1f} s", f"{timing['epoch_seconds']:.2f} s an epoch"


def best_run(job: Job, name: str, path: str) -> Section:
    """The best run of several: its figures and its settings. path: of its folder, as seen from the page."""
    result = _result(job)
    facts = [
        f"test accuracy {percent(result.metrics['test/accuracy'])}",
        f"macro F1 {decimal(result.metrics['test/f1_macro'])}",
        f"loss {decimal(result.metrics['test/loss'])}",
        f"{result.parameters:,} parameters",
        f"checkpoint of epoch {result.best_epoch} of {result.epochs}",
        f"{result.timing['fit_seconds']:.1f} s",
    ]
    table = Table(["setting (other than default)", "value"], changed(job.settings))
    folded = {"All settings": _all_settings(job)}
    return Section(f"The best run: {name}", [", ".join(facts) + f", in {path}."], table, folded=folded)


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


def network(job: Job) -> Section | None:
    """Its layers and the weights of the first, or the name of the user's own network; None if neither is known."""
    if name := job.settings.get("model.network"):
        parameters = f"{job.result.parameters:,} parameters" if job.result else "unknown size"
        return Section("Network", [f"{name}, a network of the user's own: {parameters}."])
    table = layer_table(job.settings)
    if table is None:
        return None
    return Section("Network", table=table, picture=_weights(RunFolder(job.folder)))


def _weights(folder: RunFolder) -> Picture | None:
    """The first layer of the chosen checkpoint; None without a checkpoint that can be read."""
    import torch  # deferred: a page of several runs needs none

    try:
        state = torch.load(folder.best_checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        weights = next(value for value in state.values() if value.ndim == 2 and value.shape[1] == PIXELS)
    except Exception:  # torch raises a dozen kinds for damaged files
        return None
    return Picture(svg(first_layer(np.nan_to_num(weights.float().numpy()))), "Weights of the first layer")


def layer_table(settings: Mapping[str, Any]) -> Table | None:
    """A row for each layer of an MLP with its share of the parameters, and their sum; None without layer sizes.

    A linear layer counts its weights and biases, and the scale and shift of the batch norm behind it.
    """
    try:
        sizes = layer_sizes(settings["model.hidden_layers"], settings["model.hidden_units"])
        norm, dropout, activation = (settings[f"model.{name}"] for name in ("batch_norm", "dropout", "activation"))
    except (KeyError, TypeError, ValueError):  # written by hand, or by another version
        return None
    noise = [f"noise {settings['model.noise']:g}"] if settings.get("model.noise") else []
    after = [*(["batch norm"] if norm else []), *noise, activation, *([f"dropout {dropout:g}"] if dropout else [])]
    inputs = ", ".join(["28 x 28 pixels", settings.get("data.normalization", "-"), *noise])
    layers = list(enumerate(pairwise(sizes), 1))
    counts = [ins * outs + outs * (3 if norm and number < len(layers) else 1) for number, (ins, outs) in layers]
    rows = [["input", "", str(sizes[0]), inputs, "0", ""]]
    for (number, (features, outputs)), count in zip(layers, counts, strict=True):
        is_hidden = number < len(layers)
        rows.append([
            f"hidden {number}" if is_hidden else "output", f"linear {features} → {outputs}", str(outputs),
            ", ".join(after) if is_hidden else "logits of the ten digits", f"{count:,}",
            f"{100 * count / sum(counts):.1f} %",
        ])  # fmt: skip
    rows.append(["all", "", "", "", f"{sum(counts):,}", ""])
    return Table(["layer", "kind", "outputs", "then", "parameters", "share"], rows, numeric=frozenset({2, 4, 5}))


def origin(job: Job) -> Section:
    """The command that makes the run again, its settings, and the machine and the versions it ran with."""
    result = _result(job)
    shown = ", ".join(f"{key}={value}" for key, value in changed(job.settings))
    rows = [[name, value_text(result.environment.get(key))] for key, name in ENVIRONMENT.items()]
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
