"""The sections on two runs, with McNemar's test, and on runs that repeat published results."""

import json
import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from mnist_mlp.compare.collect import Job
from mnist_mlp.compare.published import Runs, accuracies, decide, deviations
from mnist_mlp.compare.statistics import McNemar, mcnemar
from mnist_mlp.compare.tables import mean_and_deviation
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_predictions
from mnist_mlp.runs.result import percent

SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def reference_sections(jobs: Sequence[Job]) -> Iterator[Section]:
    """Sections on the runs whose settings name a published result; none if there is no such run."""
    runs: dict[str, list[Job]] = {}
    others: dict[str, list[str]] = {}
    for job in jobs:
        if (name := job.settings.get("reference.id")) and job.result is not None:
            if changed := ", ".join(deviations(job)):
                others.setdefault(changed, []).append(job.folder.name)
            else:
                runs.setdefault(name, []).append(job)
    left_out = [f"{names[0] if len(names) == 1 else f'{len(names)} runs'} ({how})" for how, names in others.items()]
    note = f"Runs of a preset with other settings are no repetitions and left out: {'; '.join(left_out)}."
    if others and not runs:
        yield Section("Published against measured", [note])
    if not runs:
        return
    yield _accuracies(runs, [note] if others else [])
    measured = "Measured: mean over seeds."
    rows: list[list[str]] = []
    for name, members in runs.items():
        if stated := members[0].settings.get("reference.f1_per_class"):
            own = _per_class(members, "f1")
            rows.append([name, "published", *(f"{value:.4f}" for value in stated)])
            rows.append(["", "measured", *(f"{value:.4f}" for value in own)])
            rows.append(["", "difference", *(f"{a - b:+.4f}" for a, b in zip(own, stated, strict=True))])
    if rows:
        table = Table(["result", "F1", *map(str, range(10))], rows, numeric=frozenset(range(2, 12)))
        yield Section("F1 of each digit, published against measured", table=table, notes=[measured])
    for name, members in runs.items():
        if any(members[0].settings.get(f"reference.{score}_per_class") for score in ("precision", "recall")):
            title = f"Classification report of {name}, published against measured"
            yield Section(title, table=_report(members), notes=[measured])
    claims = {json.dumps(claim): claim for job in jobs for claim in job.settings.get("reference.claims") or []}
    if verdicts := [sentence for claim in claims.values() if (sentence := decide(claim, runs))]:
        yield Section("The study's claims, decided by these runs", sentences=verdicts)


def agreement(measured: Sequence[float], published: float) -> str:
    """How near the mean of the measured accuracies comes to a published one."""
    gap = abs(statistics.fmean(measured) - published)
    if len(measured) > 1 and gap <= statistics.stdev(measured):
        return "within one standard deviation"
    return "within 1 point" if gap <= 0.01 else "off"


def _accuracies(runs: Runs, notes: Sequence[str]) -> Section:
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
        *notes,
    ]
    table = Table(header, rows, marks, frozenset({1, 2, 3, 4}), prose=True)
    return Section("Published against measured", table=table, notes=notes)


def _report(jobs: Sequence[Job]) -> Table:
    columns: dict[str, list[str]] = {"digit": [str(digit) for digit in range(10)]}
    for score, name in SCORES.items():
        stated = jobs[0].settings.get(f"reference.{score}_per_class")
        columns[f"{name} published"] = [f"{value:.2f}" for value in stated] if stated else ["-"] * 10
        columns[f"{name} measured"] = [f"{value:.2f}" for value in _per_class(jobs, score)]
    return Table(list(columns), list(zip(*columns.values(), strict=True)), numeric=frozenset(range(1, 7)))


def _per_class(jobs: Sequence[Job], score: str) -> list[float]:
    runs = [job.result.per_class[score] for job in jobs if job.result is not None]
    return [statistics.fmean(column) for column in zip(*runs, strict=True)]


def pair_section(first: Job, second: Job, names: Sequence[str]) -> Section | None:
    """A against B, by their names; None if they did not predict the same test images."""
    a, b = (read_predictions(RunFolder(job.folder)) for job in (first, second))
    sources = {job.text("data.source") for job in (first, second)}
    if a is None or b is None or len(sources) > 1 or not np.array_equal(a.truth, b.truth):
        return None
    test, both = mcnemar(a.correct.tolist(), b.correct.tolist()), int((a.correct & b.correct).sum())
    neither = len(a.truth) - both - test.only_first - test.only_second
    accuracy, other = (percent(float(one.correct.mean())) for one in (a, b))
    sentences = [
        f"A is {names[0]} ({accuracy} right), B is {names[1]} ({other}).",
        f"Of {len(a.truth):,} test images, {test.only_first} are right in A and wrong in B, {test.only_second} the"
        f" other way round; {both:,} are right and {neither} wrong in both.",
        mcnemar_sentence(test),
    ]
    return Section("A against B", sentences)


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
        meaning = "a split this uneven is consistent with equal accuracy: no difference is shown"
    split = f"{test.only_first} against {test.only_second}"
    return f"McNemar's exact test on the {total} that flipped ({split}): {p}; {meaning}."
