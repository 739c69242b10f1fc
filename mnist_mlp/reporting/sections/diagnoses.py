"""The section on how the runs went: a line per group, with its exceptions."""

from collections import Counter
from collections.abc import Sequence

from mnist_mlp.analysis.collect import Job, Row
from mnist_mlp.analysis.diagnosis import diagnosis
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.reporting.elements import Cell, Section, Table


def diagnoses(compared: Compared) -> Section:
    """One diagnosis for each group: what most of its runs say, and the runs that say otherwise."""
    said = [_said(compared, job) for job in compared.jobs]
    rows: list[list[str | Cell]] = []
    marks = []
    for name, ids, row in zip(compared.group_names, compared.run_ids, compared.summary.rows, strict=True):
        kind, sentence, others = _most([said[place] for place in ids], [compared.jobs[place] for place in ids])
        rows.append([name or compared.run_names[ids[0]], _share(kind, len(ids) - len(others), len(ids)), sentence,
                     "; ".join(others)])  # fmt: skip
        marks.append(_mark(row))
    alone = len(rows) == 1
    header = ["setting", "verdict", "in the words of a typical run", "exceptions"]
    places = [place for place, _ in enumerate(header) if place < 3 or any(row[3] for row in rows)]
    table = Table(
        [header[place] for place in places], [[row[place] for place in places] for row in rows], marks,
        runs=compared.run_ids, tools=not alone, caption="How each group went",
    )  # fmt: skip
    title = "How the run went" if len(said) == 1 else "How the runs went"
    return Section(title, table=table, notes=["By rule of thumb, from the curves alone."])


def _said(compared: Compared, job: Job) -> str:
    curves = compared.curves[job.folder]
    planned = job.settings.get("trainer.max_epochs")
    if job.status == "running":
        return f"Running: {len(curves.get('epoch', ()))} of {planned or '?'} epochs are done."
    return diagnosis(job.status, job.reason, planned, curves)


def kind_of(sentence: str) -> str:
    """The verdict alone: what stands before the colon, without numbers."""
    head = sentence.partition(":")[0]
    return head.partition(" since epoch")[0] if len(head) < 60 else "Finished"


def _most(said: Sequence[str], jobs: Sequence[Job]) -> tuple[str, str, list[str]]:
    kinds = [kind_of(one) for one in said]
    kind, _ = Counter(kinds).most_common(1)[0]
    same = [one for one, its in zip(said, kinds, strict=True) if its == kind]
    others = [
        f"seed {job.seed}: {one}" for one, its, job in zip(said, kinds, jobs, strict=True) if its != kind
    ]  # fmt: skip
    return kind, same[len(same) // 2].removeprefix(f"{kind}: "), others


def _share(kind: str, count: int, all_of: int) -> str:
    if all_of == 1:
        return kind
    return f"{kind} (all {all_of})" if count == all_of else f"{kind} ({count} of {all_of})"


def _mark(row: Row) -> str:
    return "bad" if any(job.status not in ("finished", "running") for job in row.jobs) else ""
