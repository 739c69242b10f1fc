"""The sections with charts that answer: search, learning curves, measures against settings, parallel coordinates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mnist_mlp.analysis.collect import Row, Summary
from mnist_mlp.analysis.effects import measured
from mnist_mlp.analysis.search import best_so_far, importances, is_quantity
from mnist_mlp.plots import sweep as plots
from mnist_mlp.plots.sweep import Group, svg
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.reporting.elements import Cell, Chart, Picture, Section, Table
from mnist_mlp.reporting.runs_data import as_block
from mnist_mlp.runs.curves import Curves
from mnist_mlp.runs.settings import short_names

QUANTITY = {"val_accuracy": "validation accuracy", "test_accuracy": "test accuracy"}
MOST_DRAWN = 40
"""The best and the worst groups that the pictures without scripts draw."""
ENOUGH = 3
"""Fewer runs than this need no charts of measures: the table says the same."""
MANY_FACTORS = 3
"""From here on parallel coordinates show more than pairs do."""
LIBRARY = ("echarts",)
SHARED = "charts.js"


def learning_curves(compared: Compared) -> Section | None:
    """Every column of metrics.csv over the epochs; None where no run has curves."""
    summary = compared.summary
    groups = [group for group in groups_of(summary, compared.group_names, compared.curves) if group.curves]
    if not groups:
        return None
    shown = ends(groups)
    picture = Picture(svg(plots.learning_curves(shown)), "Accuracy and loss of the runs over the epochs")
    notes = []
    if len(compared.jobs) > len(groups):
        notes.append("One colour per group of seeds; bands reach one standard deviation to both sides of the mean.")
    if len(groups) > len(shown):
        notes.append(f"Without scripts, the {len(shown)} best and worst of {len(groups)} groups are drawn.")
    chart = Chart("curves", "Learning curves of the runs; the tables have their final figures", picture)
    return Section(
        "Training and validation", chart=chart, notes=notes, libraries=LIBRARY, scripts=(SHARED, "curves.js")
    )


def explorer(compared: Compared) -> Section | None:
    """A dot per run, axes to be chosen; None for fewer than three runs."""
    summary = compared.summary
    if len(measured(compared.jobs, summary.ranked_by)) < ENOUGH:
        return None
    groups = [group for group in groups_of(summary, compared.group_names, compared.curves) if group.accuracies]
    sizes = {number for group in groups for number in group.parameters}
    notes = [f"All runs have {sizes.pop():,.0f} parameters."] if len(sizes) == 1 else []
    picture = Picture(svg(plots.costs(ends(groups), QUANTITY[summary.ranked_by])), "Accuracy against time and size")
    chart = Chart("scatter", "A dot for each run, one measure or setting against another", picture)
    return Section(
        "What accuracy costs, or depends on",
        chart=chart,
        notes=notes,
        libraries=LIBRARY,
        scripts=(SHARED, "scatter.js"),
    )


def parallel(compared: Compared) -> Section | None:
    """Parallel coordinates, for sweeps of many factors."""
    summary = compared.summary
    if len(summary.keys) < MANY_FACTORS or len(measured(compared.jobs, summary.ranked_by)) < ENOUGH:
        return None
    chart = Chart("parallel", "Parallel coordinates: a line for each run through its settings and its accuracy")
    notes = [
        "A line is a run, coloured from the lowest accuracy to the highest. Drag along an axis to pick the runs that "
        "pass there; drag over several axes to narrow the choice; click an axis to clear it."
    ]
    return Section("All settings at once", chart=chart, notes=notes, libraries=LIBRARY, scripts=(SHARED, "parallel.js"))


def search(compared: Compared) -> Section | None:
    """Best so far over the trials, and which settings mattered; None where the runs are no search over numbers."""
    summary = compared.summary
    steps = best_so_far(compared.jobs, summary.ranked_by)
    searched = [key for key in summary.keys if is_quantity([step.job for step in steps], key)]
    if len(steps) < ENOUGH or not searched or summary.over_seeds or 2 * len(summary.rows) < len(steps):
        return None
    places = {job.folder: place for place, job in enumerate(compared.jobs)}
    order = [places[step.job.folder] for step in steps]
    found, named = importances(compared.jobs, summary.ranked_by), short_names(summary.keys)
    rows: list[list[str | Cell]] = [
        [named.get(one.key, one.key), Cell(f"{100 * one.part:.0f} %", heat=round(one.part, 2)), p_value(one.p_value)]
        for one in found
    ]
    caption = "Importance of each setting"
    table = Table(["setting", "importance", "p"], rows, numeric=frozenset({1, 2}), caption=caption) if rows else None
    notes = [
        "Importance: the part of the variance of the runs' ranks that a setting explains by itself (analysis of "
        "variance on ranks, adjusted for chance); p: of no influence at all, uncorrected."
    ]
    label = f"{QUANTITY[summary.ranked_by].capitalize()} of each trial in the order of their ends, and the best so far"
    return Section(
        "The search so far", chart=Chart("search", label), table=table, notes=notes if rows else [],
        markup=as_block("search-data", {"order": order}), libraries=LIBRARY, scripts=(SHARED, "search.js"),
    )  # fmt: skip


def p_value(value: float) -> str:
    """Three decimals."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def groups_of(summary: Summary, names: Sequence[str], curves: Mapping[Path, Curves]) -> list[Group]:
    """The rows as figures take them. names: one for each row; curves: of each run, by its folder."""
    return [_group(name, summary, row, curves) for name, row in zip(names, summary.rows, strict=True)]


def ends(groups: Sequence[Group]) -> list[Group]:
    """The best groups and some of the worst, where there are more than can be told apart."""
    worst = MOST_DRAWN // 4
    return list(groups) if len(groups) <= MOST_DRAWN else [*groups[: MOST_DRAWN - worst], *groups[-worst:]]


def _group(name: str, summary: Summary, row: Row, curves: Mapping[Path, Curves]) -> Group:
    done = [job for job, _ in measured(row.jobs, summary.ranked_by)]
    results = [job.result for job in done if job.result is not None]
    return Group(
        name,
        [curves[job.folder] for job in row.jobs if curves[job.folder]],
        [100 * number for _, number in measured(row.jobs, summary.ranked_by)],
        [result.timing["fit_seconds"] for result in results],
        [result.parameters for result in results],
    )
