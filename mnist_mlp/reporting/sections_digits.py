"""The sections on test digits: the confusion matrix with the digits behind it, and what all runs say of them."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Job, Summary
from mnist_mlp.compare.digits import NEARLY_ALL, Votes, votes
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.data import Compared, as_block, best_job
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.reporting.images import GALLERY_STYLES, digits_data, gallery, images_of, labelled, shown_digits
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_predictions

MAX_SHOWN = 24
STYLES, SCRIPTS = ("gallery.css", "digits.css"), ("digit_model.js", "digits.js")
CONTRAST = 0.5
"""The color of a cell grows with this power of its count, or single mistakes would look like none."""


def digits_section(summary: Summary) -> Section | None:
    """None if fewer than three runs predicted the same test images."""
    found = votes(summary)
    if found is None:
        return None
    doubtful, n = int(found.doubtful.sum()), len(found.truth)
    sentences = [
        f"Of {n:,} test digits, {int((found.missed > 0).sum()):,} are missed by a run, {len(found.missed_by_all):,} by "
        f"all {found.runs} runs. For {doubtful}, at least {100 * NEARLY_ALL:.0f} % of the runs agree on "
        "another label than the given one: some of these labels are known to be wrong, others are just hard digits."
    ]
    if found.left_out:
        sentences.append(f"Left out are {found.left_out} runs without predictions of these images.")
    shown, notes, table = Markup(), [], None
    try:
        shown = _galleries(found, images_of(summary.jobs, found.truth))
    except UserError as error:
        notes.append(f"The digits are not shown: {error}.")
    if doubtful:
        header = ["setting", "test acc %", f"second figure: without the {doubtful} doubtful digits"]
        rows = [
            [name or "all", f"{100 * official:.2f}", f"{100 * without:.2f}"]
            for name, (official, without) in zip(found.names, found.accuracies(), strict=True)
        ]
        table = Table(header, rows, numeric=frozenset({1, 2}))
        notes.append(
            "The accuracy without doubtful digits is a second figure, for reading only: the nets themselves chose what "
            "to leave out, which flatters them, and nothing is ever ranked or selected by it."
        )
    notes.append("Every digit that a run misses is in digits.csv, which the report of a sweep's folder writes.")
    return Section("Test digits over all runs", sentences, table, notes=notes, markup=shown, styles=GALLERY_STYLES)


def _galleries(found: Votes, images: NDArray[np.uint8]) -> Markup:
    """Digits worth a look; images: (n, 28, 28), of all."""
    missed = 100 * found.missed_fraction

    def agreement(n: int) -> tuple[str, str]:
        return f"{found.truth[n]} → {found.favourite[n]}", f"{found.favoured[n]} of {found.runs}"

    def spread(n: int) -> tuple[str, str]:
        return f"a {found.truth[n]}", f"{missed[:, n].min():.0f} to {missed[:, n].max():.0f} %"

    agreed = np.flatnonzero(found.doubtful)
    agreed = agreed[np.argsort(-found.favoured[agreed], kind="stable")]
    scattered = found.missed_by_all[~found.doubtful[found.missed_by_all]]
    markup = Markup()
    for title, indices, caption in (
        ("Doubtful labels: {}. Given → predicted, by so many runs", agreed, agreement),
        ("Missed by every run, without agreement: {}. Given → most frequent, runs", scattered, agreement),
        ("Where settings differ most: {}. Label, and how many of a setting's runs miss it", found.most_telling, spread),
    ):
        shown = indices[:MAX_SHOWN]
        if len(shown):
            title = title.format(f"{MAX_SHOWN} of {len(indices)}" if len(indices) > MAX_SHOWN else len(indices))
            markup += gallery(images[shown], [caption(n) for n in shown], title)
    return markup


def digit_browser(compared: Compared, first: Job | None = None) -> Section | None:
    """The confusion matrix of one run, and with scripts of any run or group, with its digits.

    Args:
        compared: The runs of the page.
        first: A finished run of these to begin with; the best by default.

    Returns:
        None if no run has finished.
    """
    ids = {job.folder: run for run, job in enumerate(compared.jobs)}
    first = first or best_job(compared.summary)
    if first is None:
        return None
    jobs = [first, *(job for job in compared.jobs if job.result is not None and job is not first)]
    runs = labelled(jobs)
    best = runs.jobs[0] if runs else first
    assert best.result is not None
    table = confusion_table(
        np.array(best.result.confusion_matrix), ids[best.folder], compared.run_names[ids[best.folder]]
    )
    data, notes = Markup(), []
    try:
        if runs is None:
            raise UserError("there is no predictions.npz that can be read")
        images = images_of(runs.jobs, runs.truth)
        predictions = read_predictions(RunFolder(best.folder))
        confidence = np.zeros(len(runs.truth)) if predictions is None else predictions.probabilities.max(1)
        shown = shown_digits(runs, confidence.astype(np.float32))
        content = digits_data(runs, shown, images, ids)
        data = as_block("digits-data", content)
        missed, held, certain = int(runs.missed.sum()), int(runs.missed[shown].sum()), len(content["certain"])
        if held < missed:
            notes.append(
                f"Of {missed:,} test digits that a run misses, the page holds {held:,}: the best runs' first, "
                "of the others some in each cell."
            )
        if certain < len(runs.jobs):
            notes.append(
                f"Probabilities are held for the best {certain} of {len(runs.jobs)} runs; for the others, votes."
            )
        if len(runs.jobs) < len(jobs):
            notes.append(f"Left out are {len(jobs) - len(runs.jobs)} runs without predictions of these images.")
    except UserError as error:
        notes = [f"No digits are shown: {error}."]
    sentence = (
        "Each row is a true digit, each column an answer: blue is right, orange a mistake. A cell opens its digits."
    )
    markup = Markup('<div class="digits">{}</div>').format(table) + data
    title = "Confusion matrix and test digits"
    return Section(title, [sentence], markup=markup, notes=notes, styles=STYLES, scripts=SCRIPTS)


def confusion_table(matrix: NDArray[np.int64], run: int, name: str) -> Markup:
    """A (10, 10) confusion matrix as a table, rows are truth; scripts make it open digits. run: its id in runs-data."""
    hits = np.eye(10, dtype=bool)
    heat = np.where(
        hits,
        matrix / np.maximum(matrix.sum(1, keepdims=True), 1),
        (matrix / max(int(matrix[~hits].max()), 1)) ** CONTRAST,
    )
    cell = Markup('<td class="{}" style="--heat: {:.3f}">{}</td>')
    rows = [
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            truth,
            Markup().join(
                cell.format("hit" if truth == answer else "miss", heat[truth, answer], int(matrix[truth, answer]) or "")
                for answer in range(10)
            ),
        )
        for truth in range(10)
    ]
    head = Markup().join(Markup('<th scope="col">{}</th>').format(digit) for digit in range(10))
    return Markup(
        '<table class="confusion" data-run="{}"><caption>Confusion matrix of {}</caption><thead>'
        '<tr><td></td><th scope="colgroup" colspan="10">predicted digit</th></tr>'
        '<tr><th scope="col">true</th>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(run, name, head, Markup().join(rows))
