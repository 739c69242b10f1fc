"""The sections on runs that repeat a published study: its figures beside the measured ones, and its claims."""

import json
import statistics
from collections.abc import Iterator, Sequence

from mnist_mlp.analysis.claims import Runs, accuracies, changes, decide
from mnist_mlp.analysis.collect import Job
from mnist_mlp.analysis.summary import mean_and_deviation
from mnist_mlp.reporting.elements import Section, Table

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
