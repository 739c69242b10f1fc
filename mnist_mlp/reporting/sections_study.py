"""The section on two runs: the digits on which they differ, McNemar's test, the settings that differ."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Job
from mnist_mlp.compare.published import Runs, accuracies, changes, decide
from mnist_mlp.compare.statistics import McNemar, mcnemar
from mnist_mlp.compare.tables import mean_and_deviation
from mnist_mlp.config import non_result_keys
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.reporting.images import GALLERY_STYLES, gallery, images_of
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import Predictions, read_predictions
from mnist_mlp.runs.settings import differences, value_text
from mnist_mlp.runs.tables import percent

POINT = 0.01


def reference_sections(jobs: Sequence[Job]) -> Iterator[Section]:
    """Sections on the runs whose settings name a published result; none where there is no such run."""
    runs: dict[str, list[Job]] = {}
    others: list[tuple[str, str]] = []
    for job in jobs:
        if (name := job.settings.get("reference.id")) and job.result is not None:
            if other := changes(job):
                others.append((job.folder.name, ", ".join(other)))
            else:
                runs.setdefault(name, []).append(job)
    if not runs and others:
        yield Section("Published against measured", sentences=[_left_out(others)])
    if not runs:
        return
    yield _accuracies(runs, others)
    scored = {name: members for name, members in runs.items() if members[0].settings.get("reference.f1_per_class")}
    if scored:
        yield _class_scores(scored)
    for name, members in runs.items():
        settings = members[0].settings
        if any(settings.get(f"reference.{score}_per_class") for score in ("precision", "recall")):
            yield _report(name, members)
    verdicts = [sentence for claim in _claims(jobs) if (sentence := decide(claim, runs))]
    if verdicts:
        yield Section("The study's claims, decided by these runs", sentences=verdicts)


def agreement(measured: Sequence[float], published: float) -> str:
    """How near the mean of the measured accuracies comes to a published one."""
    gap = abs(statistics.fmean(measured) - published)
    if len(measured) > 1 and gap <= statistics.stdev(measured):
        return "within one standard deviation"
    return "within 1 point" if gap <= POINT else "off"


def _claims(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """Every claim that the settings of the runs carry, once."""
    found = {json.dumps(claim): claim for job in jobs for claim in job.settings.get("reference.claims") or []}
    return list(found.values())


def _left_out(others: Sequence[tuple[str, str]]) -> str:
    names: dict[str, list[str]] = {}
    for name, changed in others:
        names.setdefault(changed, []).append(name)
    counted = [f"{its[0] if len(its) == 1 else f'{len(its)} runs'} ({changed})" for changed, its in names.items()]
    return f"Runs of a preset with other settings are no repetitions and left out: {'; '.join(counted)}."


def _accuracies(runs: Runs, others: Sequence[tuple[str, str]]) -> Section:
    header = ["result", "published %", "measured %", "n", "difference", "agreement", "inferred settings"]
    rows, marks = [], []
    for name, jobs in runs.items():
        settings, own = jobs[0].settings, list(accuracies(jobs).values())
        stated = settings.get("reference.test_accuracy")
        verdict = "no number published" if stated is None else agreement(own, stated)
        gap = "-" if stated is None else f"{100 * (statistics.fmean(own) - stated):+.2f}"
        inferred = ", ".join(f"{key}={settings.get(key)}" for key in settings.get("reference.inferred") or [])
        known = "-" if stated is None else f"{100 * stated:.2f}"
        rows.append([name, known, mean_and_deviation(own), str(len(own)), gap, verdict, inferred])
        marks.append("bad" if verdict == "off" else "")
    sources = dict.fromkeys(str(jobs[0].settings.get("reference.source")) for jobs in runs.values())
    notes = [
        f"Published in: {'; '.join(sources)}. Test accuracy: mean ± standard deviation over n seeds;"
        " differences in points.",
        "Inferred settings are not stated in the publication.",
        *([_left_out(others)] if others else []),
    ]
    table = Table(header, rows, marks, frozenset({1, 2, 3, 4}), prose=True)
    return Section("Published against measured", table=table, notes=notes)


def _class_scores(runs: Runs) -> Section:
    rows = []
    for name, jobs in runs.items():
        stated, own = jobs[0].settings["reference.f1_per_class"], _per_class(jobs, "f1")
        rows.append([name, "published", *(f"{value:.4f}" for value in stated)])
        rows.append(["", "measured", *(f"{value:.4f}" for value in own)])
        rows.append(["", "difference", *(f"{mine - its:+.4f}" for mine, its in zip(own, stated, strict=True))])
    table = Table(["result", "F1", *map(str, range(10))], rows, numeric=frozenset(range(2, 12)))
    return Section("F1 of each digit, published against measured", table=table, notes=["Measured: mean over seeds."])


def _report(name: str, jobs: Sequence[Job]) -> Section:
    header = ["digit"] + [
        f"{score} {kind}" for score in ("precision", "recall", "F1") for kind in ("published", "measured")
    ]
    columns = []
    for score in ("precision", "recall", "f1"):
        stated = jobs[0].settings.get(f"reference.{score}_per_class")
        columns += [
            [f"{value:.2f}" for value in stated] if stated else ["-"] * 10,
            [f"{value:.2f}" for value in _per_class(jobs, score)],
        ]
    rows = [[str(digit), *(column[digit] for column in columns)] for digit in range(10)]
    title = f"Classification report of {name}, published against measured"
    return Section(
        title, table=Table(header, rows, numeric=frozenset(range(1, 7))), notes=["Measured: mean over seeds."]
    )


def _per_class(jobs: Sequence[Job], score: str) -> list[float]:
    runs = [job.result.per_class[score] for job in jobs if job.result is not None]
    return [statistics.fmean(column) for column in zip(*runs, strict=True)]


MOST_SHOWN = 24


@dataclass(frozen=True)
class Disagreements:
    """Places in the test set: lost is right in A and wrong in B, gained the other way round."""

    lost: NDArray[np.int64]
    gained: NDArray[np.int64]


def flipped(first: Predictions, second: Predictions) -> Disagreements:
    """The test images that one run has right and the other wrong."""
    return Disagreements(
        np.flatnonzero(first.correct & ~second.correct), np.flatnonzero(second.correct & ~first.correct)
    )


def pair_section(first: Job, second: Job, names: Sequence[str]) -> Section | None:
    """A against B, by their names; None where they did not predict the same test images."""
    one, other = (read_predictions(RunFolder(job.folder)) for job in (first, second))
    sources = {value_text(job.settings.get("data.source")) for job in (first, second)}
    if one is None or other is None or len(sources) > 1 or not np.array_equal(one.truth, other.truth):
        return None
    found, n = flipped(one, other), len(one.truth)
    sentences = [
        f"A is {names[0]} ({_accuracy(one)} right), B is {names[1]} ({_accuracy(other)}).",
        f"Of {n:,} test images, {len(found.lost)} are right in A and wrong in B, {len(found.gained)} the other way "
        f"round; {int((one.correct & other.correct).sum()):,} are right and "
        f"{int((~one.correct & ~other.correct).sum())} wrong in both.",
        mcnemar_sentence(mcnemar(one.correct.tolist(), other.correct.tolist())),
    ]
    shown, notes = _galleries((first, second), one, other, found)
    rows = _changes(first.settings, second.settings)
    table = Table(["setting", "A", "B"], rows) if rows else None
    if table is None:
        sentences.append("Their settings do not differ.")
    return Section("A against B", sentences, table, notes=notes, markup=shown, styles=GALLERY_STYLES)


def _accuracy(predictions: Predictions) -> str:
    return percent(float(predictions.correct.mean()))


def mcnemar_sentence(test: McNemar) -> str:
    """What the test says about two runs, in words."""
    total = test.only_first + test.only_second
    if not total:
        return "McNemar's test: no image tells the two runs apart."
    ahead = "A" if test.only_first > test.only_second else "B"
    p = "p < 0.0001" if test.p_value < 1e-4 else f"p = {test.p_value:.4f}"
    if test.p_value < 0.05:
        meaning = f"{ahead} is better on images like these; whether it would be with another seed, this cannot say"
    else:
        meaning = "so uneven a split is no surprise between equally good runs: no difference is shown"
    split = f"{test.only_first} against {test.only_second}"
    return f"McNemar's exact test on the {total} that flipped ({split}): {p}; {meaning}."


def _changes(first: JSON, second: JSON) -> list[list[str]]:
    left_out = non_result_keys()
    kept = [{key: value for key, value in one.items() if key not in left_out} for one in (first, second)]
    keys = [line.partition(": ")[0] for line in differences(*kept)]
    return [[key, *(value_text(one.get(key)) for one in kept)] for key in keys]


def _galleries(
    jobs: Sequence[Job], one: Predictions, other: Predictions, found: Disagreements
) -> tuple[Markup, list[str]]:
    try:
        images = images_of(jobs, one.truth)
    except UserError as error:
        return Markup(), [f"The digits that flipped are not shown: {error}."]
    shown = Markup()
    for chosen, what in ((found.lost, "Right in A, wrong in B"), (found.gained, "Wrong in A, right in B")):
        some = chosen[np.linspace(0, len(chosen) - 1, min(MOST_SHOWN, len(chosen))).astype(int)]
        most = f"{len(some)} of {len(chosen)}" if len(some) < len(chosen) else str(len(chosen))
        answers = zip(one.truth[some], one.predicted[some], other.predicted[some], strict=True)
        captions = [(f"a {truth}", f"A {first}, B {second}") for truth, first, second in answers]
        shown += gallery(images[some], captions, f"{what}: {most}")
    return Markup("<noscript>{}</noscript>").format(shown), []  # with scripts, the digit browser shows them all
