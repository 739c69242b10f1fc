"""The section with the confusion matrix whose cells open their test digits."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Job
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.reporting.digit_data import Labelled, digits_data, labelled, shown_digits
from mnist_mlp.reporting.elements import Section
from mnist_mlp.reporting.images import images_of
from mnist_mlp.reporting.runs_data import as_block
from mnist_mlp.reporting.sections.best_run import best_job
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_predictions

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
