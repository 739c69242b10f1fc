"""One verdict for each setting of a comparison, from the mean curves of its runs; exceptions are named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mnist_mlp.analysis.collect import Job, Row, Summary
from mnist_mlp.analysis.diagnosis import BROKEN, Finding, finding, mean_curves
from mnist_mlp.runs.curves import Curves, read_curves
from mnist_mlp.runs.folder import RunFolder

FAULTS = ("Over-fitting", "Over-confident")


class Verdict(NamedTuple):
    """How the runs of a row went. exceptions: runs that went quite otherwise, each with its name and a sentence."""

    row: Row
    verdict: str
    exceptions: list[str]


def verdicts(summary: Summary, curves: Mapping[Path, Curves] | None = None) -> list[Verdict]:
    """For each row of the comparison, in its order; curves: by run folder, read here where they are not given."""
    if curves is None:
        curves = {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in summary.jobs}
    several = sum(bool(row.values["test_accuracy"]) for row in summary.rows) > 1
    return [_of_row(row, curves, several and row.best) for row in summary.rows]


def _of_row(row: Row, curves: Mapping[Path, Curves], best: bool) -> Verdict:
    """Runs that broke are one camp, all others another: the larger one gives the verdict, the other the exceptions."""
    own = [(job, _finding(job, curves)) for job in row.jobs]
    broken = [(job, found) for job, found in own if found.kind in BROKEN]
    sound = [(job, found) for job, found in own if found.kind not in BROKEN]
    camp, others = (sound, broken) if len(sound) >= len(broken) else (broken, sound)
    common = _common(camp, curves)
    if camp is broken:  # not all of them broke in the same way
        others = [(job, found) for job, found in own if found.kind != common.kind]
    text = str(common)
    if best and common.kind in FAULTS:
        text += " It is the best of these settings all the same."
    return Verdict(row, text, [f"{_name(row, job)}: {found}" for job, found in others])


def _common(camp: Sequence[tuple[Job, Finding]], curves: Mapping[Path, Curves]) -> Finding:
    """The finding on the mean curves; where runs broke, that of the first in the most frequent way."""
    kinds = [found.kind for _, found in camp]
    if kinds[0] not in BROKEN and len(camp) > 1:
        mean = mean_curves([curves.get(job.folder, {}) for job, _ in camp])
        return finding("finished", "", None, mean, len(camp))
    return camp[kinds.index(max(kinds, key=kinds.count))][1]


def _finding(job: Job, curves: Mapping[Path, Curves]) -> Finding:
    return finding(job.status, job.reason, job.settings.get("trainer.max_epochs"), curves.get(job.folder, {}))


def _name(row: Row, job: Job) -> str:
    alone = [other.seed for other in row.jobs].count(job.seed) == 1
    return f"seed {job.seed}" if alone else job.folder.name
