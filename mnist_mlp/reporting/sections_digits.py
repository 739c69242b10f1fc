"""The layers of a run's network, from its settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Job, Summary
from mnist_mlp.compare.digits import NEARLY_ALL, Votes, votes
from mnist_mlp.config import layer_sizes
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.data import Compared, as_block, best_job
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.reporting.images import GALLERY_STYLES, Labelled, digits_data, gallery, images_of, labelled, shown_digits
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_predictions

SHOWN = 24


def digits_section(summary: Summary) -> Section | None:
    """None where fewer than three runs predicted the same test images."""
    found = votes(summary)
    if found is None:
        return None
    doubtful, n = found.doubtful, len(found.truth)
    sentences = [
        f"Of {n:,} test digits, {int((found.missed > 0).sum()):,} are missed by a run, {len(found.missed_by_all):,} by "
        f"all {found.runs} runs. For {int(doubtful.sum())}, at least {100 * NEARLY_ALL:.0f} % of the runs agree on "
        "another label than the given one: some of these labels are known to be wrong, others are just hard digits."
    ]
    if found.left_out:
        sentences.append(f"Left out are {found.left_out} runs without predictions of these images.")
    shown, notes = _galleries(summary, found)
    if doubtful.any():
        notes.append(
            "The accuracy without doubtful digits is a second figure, for reading only: the nets themselves chose what "
            "to leave out, which flatters them, and nothing is ever ranked or selected by it."
        )
    notes.append("Every digit that a run misses is in digits.csv, which the report of a sweep's folder writes.")
    table = _accuracies(found) if doubtful.any() else None
    return Section("Test digits over all runs", sentences, table, notes=notes, markup=shown, styles=GALLERY_STYLES)


def _accuracies(found: Votes) -> Table:
    header = ["setting", "test acc %", f"second figure: without the {int(found.doubtful.sum())} doubtful digits"]
    rows = [
        [name or "all", f"{100 * official:.2f}", f"{100 * without:.2f}"]
        for name, (official, without) in zip(found.names, found.accuracies(), strict=True)
    ]
    return Table(header, rows, numeric=frozenset({1, 2}))


def _galleries(summary: Summary, found: Votes) -> tuple[Markup, list[str]]:
    try:
        images = images_of(summary.jobs, found.truth)
    except UserError as error:
        return Markup(), [f"The digits are not shown: {error}."]
    return Markup().join(gallery(images[places], captions, title) for places, captions, title in _kinds(found)), []


def _kinds(found: Votes) -> Iterator[tuple[NDArray[np.int64], list[tuple[str, str]], str]]:
    """Places of digits worth a look, with their captions and what they have in common."""
    taken = [f"{given} → {said}" for given, said in zip(found.truth, found.favourite, strict=True)]
    agreed = np.flatnonzero(found.doubtful)
    agreed = agreed[np.argsort(-found.favoured[agreed], kind="stable")]
    if len(shown := agreed[:SHOWN]):
        captions = [(taken[place], f"{found.favoured[place]} of {found.runs}") for place in shown]
        yield shown, captions, f"Doubtful labels: {_some(shown, agreed)}. Given → predicted, by so many runs"
    scattered = found.missed_by_all[~found.doubtful[found.missed_by_all]]
    if len(shown := scattered[:SHOWN]):
        captions = [(taken[place], f"{found.favoured[place]} of {found.runs}") for place in shown]
        title = f"Missed by every run, without agreement: {_some(shown, scattered)}. Given → most frequent, runs"
        yield shown, captions, title
    telling = found.most_telling
    if len(found.names) > 1 and len(shown := telling[:SHOWN]):
        parts = 100 * found.missed_fraction
        captions = [
            (f"a {found.truth[place]}", f"{parts[:, place].min():.0f} to {parts[:, place].max():.0f} %")
            for place in shown
        ]
        title = f"Where settings differ most: {_some(shown, telling)}. Label, and how many of a setting's runs miss it"
        yield shown, captions, title


def _some(shown: NDArray[np.int64], of: NDArray[np.int64]) -> str:
    return f"{len(shown)} of {len(of)}" if len(shown) < len(of) else str(len(of))


STYLES, SCRIPTS = ("gallery.css", "digits.css"), ("digit_model.js", "digits.js")
CONTRAST = 0.5
"""The colour of a cell grows with this power of its count, or single mistakes would look like none."""


def digit_browser(compared: Compared, first: Job | None = None) -> Section | None:
    """The confusion matrix of one run, and where scripts run, of any run or group, with its digits.

    None where no run has finished. first: a finished run of these to begin with; the best by default. Of two runs it is
    A.
    """
    ids = {job.folder: place for place, job in enumerate(compared.jobs)}
    first = first or best_job(compared.summary)
    if first is None:
        return None
    jobs = [first, *(job for job in compared.jobs if job.result is not None and job is not first)]
    runs = labelled(jobs)
    best = runs.jobs[0] if runs else first
    assert best.result is not None
    name = compared.run_names[ids[best.folder]]
    table = confusion_table(np.array(best.result.confusion_matrix), ids[best.folder], name)
    if runs is None:
        return _section(table, Markup(), ["No digits are shown: there is no predictions.npz that can be read."])
    try:
        images = images_of(runs.jobs, runs.truth)
    except UserError as error:
        return _section(table, Markup(), [f"No digits are shown: {error}."])
    best_predictions = read_predictions(RunFolder(best.folder))
    confidence = np.zeros(len(runs.truth)) if best_predictions is None else best_predictions.probabilities.max(1)
    shown = shown_digits(runs, confidence.astype(np.float32))
    data = digits_data(runs, shown, images, ids)
    return _section(table, as_block("digits-data", data), list(_limits(runs, shown, len(data["certain"]), len(jobs))))


def confusion_table(matrix: NDArray[np.int64], run: int, name: str) -> Markup:
    """A (10, 10) confusion matrix as a table, rows are truth; scripts make it open digits. run: its id in runs-data."""
    wrong = matrix * (1 - np.eye(10, dtype=np.int64))
    rows = [
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            truth, Markup().join(_cell(matrix, wrong, truth, predicted) for predicted in range(10))
        )
        for truth in range(10)
    ]
    head = Markup().join(Markup('<th scope="col">{}</th>').format(digit) for digit in range(10))
    return Markup(
        '<table class="confusion" data-run="{}"><caption>Confusion matrix of {}</caption><thead>'
        '<tr><td></td><th scope="colgroup" colspan="10">predicted digit</th></tr>'
        '<tr><th scope="col">true</th>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(run, name, head, Markup().join(rows))


def _cell(matrix: NDArray[np.int64], wrong: NDArray[np.int64], truth: int, predicted: int) -> Markup:
    count = int(matrix[truth, predicted])
    if truth == predicted:
        kind, heat = "hit", count / max(int(matrix[truth].sum()), 1)
    else:
        kind, heat = "miss", (count / max(int(wrong.max()), 1)) ** CONTRAST
    return Markup('<td class="{}" style="--heat: {:.3f}">{}</td>').format(kind, heat, count or "")


def _section(table: Markup, data: Markup, notes: list[str]) -> Section:
    sentence = (
        "Each row is a true digit, each column an answer: blue is right, orange a mistake. A cell opens its digits."
    )
    markup = Markup('<div class="digits">{}</div>').format(table) + data
    return Section(
        "Confusion matrix and test digits", [sentence], markup=markup, notes=notes, styles=STYLES, scripts=SCRIPTS
    )


def _limits(runs: Labelled, shown: NDArray[np.int64], certain: int, finished: int) -> list[str]:
    """What the page leaves out."""
    missed = int(runs.missed.sum())
    held = int(runs.missed[shown].sum())
    notes = []
    if held < missed:
        notes.append(
            f"Of {missed:,} test digits that a run misses, the page holds {held:,}: the best runs' first, "
            "of the others some in each cell."
        )
    if certain < len(runs.jobs):
        notes.append(f"Probabilities are held for the best {certain} of {len(runs.jobs)} runs; for the others, votes.")
    if len(runs.jobs) < finished:
        notes.append(f"Left out are {finished - len(runs.jobs)} runs without predictions of these images.")
    return notes


@dataclass(frozen=True)
class Layer:
    """A linear layer and what follows it. inputs, outputs: features of an image; then: batch norm, activation, dropout.

    parameters: weights and biases, and the scale and shift of batch norm.
    """

    name: str
    inputs: int
    outputs: int
    then: Sequence[str]
    parameters: int


def layers(settings: Mapping[str, Any]) -> list[Layer]:
    """The layers in their order. settings: of a run, with dotted keys; ValueError where they fit no network."""
    sizes = layer_sizes(settings["model.hidden_layers"], settings["model.hidden_units"])
    norm, dropout = settings["model.batch_norm"], settings["model.dropout"]
    noise = settings.get("model.noise")
    after = [
        *(["batch norm"] if norm else []),
        *([f"noise {noise:g}"] if noise else []),
        settings["model.activation"],
    ]
    after += [f"dropout {dropout:g}"] if dropout else []
    found = [
        Layer(f"hidden {number}", inputs, outputs, after, inputs * outputs + outputs + (2 * outputs if norm else 0))
        for number, (inputs, outputs) in enumerate(pairwise(sizes[:-1]), 1)
    ]
    inputs, outputs = sizes[-2:]
    return [*found, Layer("output", inputs, outputs, [], inputs * outputs + outputs)]


def layer_table(settings: Mapping[str, Any]) -> Table | None:
    """A row for each layer with its share of the parameters, and their sum; None where the settings name no network."""
    try:
        found = layers(settings)
    except (KeyError, TypeError, ValueError):  # written by hand, or by another version
        return None
    total = sum(layer.parameters for layer in found)
    scaled = f"28 x 28 pixels, {settings.get('data.normalization', '-')}"
    noise = settings.get("model.noise")
    scaled += f", noise {noise:g}" if noise else ""
    rows = [["input", "", str(found[0].inputs), scaled, "0", ""]]
    for layer in found:
        share = f"{100 * layer.parameters / total:.1f} %"
        then = ", ".join(layer.then) or "logits of the ten digits"
        rows.append(
            [layer.name, f"linear {layer.inputs} → {layer.outputs}", str(layer.outputs), then, f"{layer.parameters:,}",
             share]
        )  # fmt: skip
    rows.append(["all", "", "", "", f"{total:,}", ""])
    return Table(
        ["layer", "kind", "outputs", "then", "parameters", "share"], rows, numeric=frozenset({2, 4, 5})
    )  # fmt: skip
