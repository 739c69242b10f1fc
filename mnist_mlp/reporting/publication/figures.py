"""The figures of a publication."""

from collections.abc import Iterator, Sequence

import numpy as np

from mnist_mlp.analysis.collect import Row
from mnist_mlp.analysis.effects import robust_range
from mnist_mlp.analysis.interval import Interval
from mnist_mlp.plots.differences import differences
from mnist_mlp.plots.run import Figure, confusion
from mnist_mlp.plots.sweep import learning_curves
from mnist_mlp.reporting.publication.study import Study
from mnist_mlp.reporting.sections.charts import groups_of
from mnist_mlp.runs.curves import read_curves
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.tables import percent


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """By name: learning curves, differences to the best, confusion matrix of the best run."""
    curves = {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in study.summary.jobs}
    groups = groups_of(study.summary, [study.label(row) for row in study.summary.rows], curves)
    if drawn := [group for group in groups if group.curves]:
        yield "learning_curves", learning_curves(drawn)
    if compared := [row for row in study.summary.rows if row.comparison is not None]:
        yield "differences", _differences(study, compared)
    result = study.best_result
    title = f"Best run, test accuracy {percent(result.metric('test/accuracy'))}"
    yield "confusion_matrix", confusion(np.array(result.confusion_matrix), title)


def _differences(study: Study, rows: Sequence[Row]) -> Figure:
    found = [row.comparison for row in rows if row.comparison is not None]
    accuracies = [row.mean("test_accuracy") or 0.0 for row in rows]
    within = robust_range(accuracies) or (0.0, 1.0)
    lowest = min(one.decisive.mean for one, mean in zip(found, accuracies, strict=True) if mean >= within[0])
    return differences(
        [study.label(row) for row in rows],
        [100 * one.decisive.mean for one in found],
        [_reach(one.seeds) for one in found],
        [_reach(one.images) for one in found],
        100 * lowest,
    )


def _reach(interval: Interval | None) -> tuple[float, float] | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return 100 * interval.low, 100 * interval.high
