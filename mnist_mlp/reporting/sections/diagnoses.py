"""The section on how the runs went: a verdict for each setting, with its exceptions."""

from mnist_mlp.analysis.verdicts import verdicts
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.reporting.elements import Cell, Section, Table


def diagnoses(compared: Compared) -> Section:
    """One diagnosis for each row of the comparison, and the runs that went otherwise."""
    found = verdicts(compared.summary, compared.curves)
    notes = ["By rule of thumb, from the curves alone; of several runs, from their mean curves."]
    if len(compared.jobs) == 1:
        return Section("How the run went", [found[0].verdict], notes=notes[:0])
    rows: list[list[str | Cell]] = [
        [name or "all runs", one.verdict, " ".join(one.exceptions)]
        for name, one in zip(compared.group_names, found, strict=True)
    ]
    header = ["setting", "verdict", "exceptions"]
    kept = 3 if any(one.exceptions for one in found) else 2
    marks = ["bad" if any(job.status not in ("finished", "running") for job in one.row.jobs) else "" for one in found]
    table = Table(
        header[:kept], [row[:kept] for row in rows], marks, runs=compared.run_ids, tools=len(rows) > 1,
        caption="How the runs of each setting went", prose=True,
    )  # fmt: skip
    return Section("How the runs went", table=table, notes=notes)
