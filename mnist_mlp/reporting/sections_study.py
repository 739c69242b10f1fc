"""Page sections on a pair of runs (McNemar's test) and on replications of published results."""

import json
import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from mnist_mlp.compare.collect import Row, Summary
from mnist_mlp.compare.load import Job, same_test_images
from mnist_mlp.compare.published import Runs, accuracies, decide, deviations
from mnist_mlp.compare.statistics import McNemar, mcnemar
from mnist_mlp.compare.tables import mean_and_deviation
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_predictions
from mnist_mlp.runs.result import percent

SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def reference_sections(summary: Summary) -> Iterator[Section]:
    """Sections on runs whose settings reference a published result; empty without such runs."""
    runs, modified = _reproductions(summary.jobs)
    excluded = [f"{names[0] if len(names) == 1 else f'{len(names)} runs'} ({how})" for how, names in modified.items()]
    note = f"Excluded, because settings differ from the preset: {'; '.join(excluded)}."
    if modified and not runs:
        yield Section("Published vs measured", [note])
    if runs:
        lost = [f"Of {name}, {row.incomplete}." for name in runs if (row := _row(name, summary.jobs)).incomplete]
        yield from _published(runs, [*lost, *([note] if modified else [])])
    if not question(summary) and (verdicts := claim_verdicts(summary)):
        yield Section("Claims of the study, tested on these runs", sentences=verdicts)


def question(summary: Summary) -> str:
    """The question that all runs answer; empty if they have none, or several."""
    questions = {str(job.settings.get("reference.question") or "") for job in summary.jobs if job.settings}
    return questions.pop() if len(questions) == 1 else ""


def claim_verdicts(summary: Summary) -> list[str]:
    """A sentence per dataset and claim of the runs that can be tested."""
    claims = {json.dumps(claim): claim for job in summary.jobs for claim in job.settings.get("reference.claims") or []}
    parts = [(f"{t}: " if t else "", part, _reproductions(part.jobs)[0]) for t, part in summary.by_dataset.items()]
    verdicts = [(title, decide(claim, runs, part)) for claim in claims.values() for title, part, runs in parts]
    return [title + sentence for title, sentence in verdicts if sentence]


def _reproductions(jobs: Sequence[Job]) -> tuple[dict[str, list[Job]], dict[str, list[str]]]:
    """Runs by the name of the published result, and the names of runs that differ from its preset, by difference."""
    runs: dict[str, list[Job]] = {}
    modified: dict[str, list[str]] = {}
    for job in jobs:
        if (name := job.settings.get("reference.id")) and job.result is not None:
            if changes := ", ".join(deviations(job)):
                modified.setdefault(changes, []).append(job.folder.name)
            else:
                runs.setdefault(name, []).append(job)
    return runs, modified


def _row(name: str, jobs: Sequence[Job]) -> Row:
    return Row({}, [job for job in jobs if job.settings.get("reference.id") == name])


def _published(runs: Runs, excluded: Sequence[str]) -> Iterator[Section]:
    """Sections on published numbers. excluded: notes about runs that are not compared."""
    yield _accuracies(runs, excluded)
    notes = ["Measured values are means over seeds."]
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for name, members in runs.items():
        if published := members[0].settings.get("reference.f1_per_class"):
            measured = _per_class(members, "f1")
            scores = tables.setdefault(tuple(members[0].classes), [])
            scores.append([name, "published", *(f"{value:.4f}" for value in published)])
            scores.append(["", "measured", *(f"{value:.4f}" for value in measured)])
            scores.append(["", "difference", *(f"{a - b:+.4f}" for a, b in zip(measured, published, strict=True))])
    for classes, scores in tables.items():
        table = Table(["result", "F1", *classes], scores, numeric=frozenset(range(2, 2 + len(classes))))
        yield Section("F1 per class: published vs measured", table=table, notes=notes)
    for name, members in runs.items():
        if any(members[0].settings.get(f"reference.{score}_per_class") for score in ("precision", "recall")):
            title = f"Report of {name}: published vs measured"
            yield Section(title, table=_report(members), notes=notes)


def agreement(measured: Sequence[float], published: float) -> str:
    """Describe how close the mean measured accuracy is to the published one."""
    gap = abs(statistics.fmean(measured) - published)
    words = "within 1 point" if round(gap, 6) <= 0.01 else "more than 1 point"
    if len(measured) > 1 and gap <= (deviation := statistics.stdev(measured)):
        return f"{words}, less than seeds differ (standard deviation {100 * deviation:.2f})"
    return words


def _accuracies(runs: Runs, notes: Sequence[str]) -> Section:
    header = ["result", "published %", "measured %", "n", "difference", "agreement"]
    rows, inferred, marks = [], [], []
    for name, jobs in runs.items():
        settings, measured = jobs[0].settings, list(accuracies(jobs).values())
        published = settings.get("reference.test_accuracy")
        verdict = "no number published" if published is None else agreement(measured, published)
        gap = "-" if published is None else f"{100 * (statistics.fmean(measured) - published):+.2f}"
        inferred.append(
            [name, ", ".join(f"{key}={settings.get(key)}" for key in settings.get("reference.inferred") or [])]
        )
        published_text = "-" if published is None else f"{100 * published:.2f}"
        rows.append([name, published_text, mean_and_deviation(measured), str(len(measured)), gap, verdict])
        marks.append("bad" if verdict.startswith("more than 1 point") else "")
    sources = dict.fromkeys(str(jobs[0].settings.get("reference.source")) for jobs in runs.values())
    notes = [
        f"Source: {'; '.join(sources)}. Test accuracy: mean ± standard deviation over n seeds;"
        " differences in percentage points.",
        "The publication does not report inferred settings.",
        *notes,
    ]
    table = Table(header, rows, marks, frozenset({1, 2, 3, 4}), prose=True)
    folded = {"Inferred settings": Table(["result", "inferred settings"], inferred, prose=True)}
    return Section("Published vs measured", table=table, folded=folded, notes=notes)


def _report(jobs: Sequence[Job]) -> Table:
    columns: dict[str, list[str]] = {"class": jobs[0].classes}
    for score, name in SCORES.items():
        published = jobs[0].settings.get(f"reference.{score}_per_class") or []
        columns[f"{name} published"] = [f"{value:.2f}" for value in published] or ["-"] * len(jobs[0].classes)
        columns[f"{name} measured"] = [f"{value:.2f}" for value in _per_class(jobs, score)]
    return Table(list(columns), list(zip(*columns.values(), strict=True)), numeric=frozenset(range(1, 7)))


def _per_class(jobs: Sequence[Job], score: str) -> list[float]:
    runs = [job.result.per_class[score] for job in jobs if job.result is not None]
    return [statistics.fmean(column) for column in zip(*runs, strict=True)]


def pair_section(first: Job, second: Job, names: Sequence[str]) -> Section | None:
    """Compare two runs image by image; None if they did not predict the same test images."""
    a, b = (read_predictions(RunFolder(job.folder), len(job.classes)) for job in (first, second))
    if a is None or b is None or not same_test_images((first, second)) or not np.array_equal(a.truth, b.truth):
        return None
    test, both = mcnemar(a.correct.tolist(), b.correct.tolist()), int((a.correct & b.correct).sum())
    neither = len(a.truth) - both - test.only_first - test.only_second
    accuracy_a, accuracy_b = (percent(float(run.correct.mean())) for run in (a, b))
    sentences = [
        f"A: {names[0]}, test accuracy {accuracy_a}. B: {names[1]}, test accuracy {accuracy_b}.",
        f"Of {len(a.truth):,} test images, {test.only_first} are correct only in A, {test.only_second} only in B,"
        f" {both:,} in both and {neither} in neither.",
        mcnemar_sentence(test),
    ]
    return Section("A vs B", sentences)


def mcnemar_sentence(test: McNemar) -> str:
    """Describe the outcome of McNemar's test in one sentence."""
    total = test.only_first + test.only_second
    if not total:
        return "McNemar's test: both runs are correct on the same images."
    ahead = "A" if test.only_first > test.only_second else "B"
    p = "p < 0.0001" if test.p_value < 1e-4 else f"p = {test.p_value:.4f}"
    if test.p_value < 0.05:
        meaning = f"{ahead} is better on images like these: a statement about these two nets, not about their settings"
    else:
        meaning = "a split this uneven is consistent with equal accuracy"
    split = f"{test.only_first} vs {test.only_second}"
    return f"McNemar's exact test on the {total} images correct in only one run ({split}): {p}; {meaning}."
