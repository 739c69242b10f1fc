"""The sections with charts, and the tables on what each setting does: a grid of two factors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.effects import (
    best_so_far,
    grid,
    importances,
    is_quantity,
    main_effect,
    measured,
    robust_range,
)
from mnist_mlp.plots import sweep as plots
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.data import Compared, as_block, plain_value
from mnist_mlp.reporting.elements import Cell, Chart, Picture, Section, Table
from mnist_mlp.runs.settings import short_names

QUANTITY = {"val_accuracy": "validation accuracy", "test_accuracy": "test accuracy"}
MAX_DRAWN = 40
"""The best and the worst groups that the pictures without scripts draw."""
MIN_RUNS = 3
"""Fewer runs need no charts of measures: the table says the same."""
MANY_FACTORS = 3
"""From here on parallel coordinates show more than pairs do."""
MAX_LEVELS, MAX_PANELS = 12, 9


def learning_curves(compared: Compared) -> Section | None:
    """Every column of metrics.csv over the epochs; None if no run has curves."""
    groups = [group for group in zip(compared.group_names, compared.group_curves, strict=True) if group[1]]
    if not groups:
        return None
    worst = MAX_DRAWN // 4
    shown = groups if len(groups) <= MAX_DRAWN else [*groups[: MAX_DRAWN - worst], *groups[-worst:]]
    notes = []
    if len(compared.jobs) > len(groups):
        notes.append("One colour per group of seeds; bands reach one standard deviation to both sides of the mean.")
    if len(groups) > len(shown):
        notes.append(f"Without scripts, the {len(shown)} best and worst of {len(groups)} groups are drawn.")
    picture = Picture(svg(plots.learning_curves(shown)), "Accuracy and loss of the runs over the epochs")
    chart = Chart("curves", "Learning curves of the runs; the tables have their final figures", picture)
    return Section("Training and validation", chart=chart, notes=notes)


def explorer(compared: Compared) -> Section | None:
    """A dot per run, axes to be chosen; None for fewer than three runs."""
    if len(measured(compared.jobs, compared.summary.ranked_by)) < MIN_RUNS:
        return None
    chart = Chart("scatter", "A dot for each run, one measure or setting against another")
    return Section("What accuracy costs, or depends on", chart=chart)


def parallel(compared: Compared) -> Section | None:
    """Parallel coordinates, for sweeps of many factors."""
    summary = compared.summary
    if len(summary.keys) < MANY_FACTORS or len(measured(compared.jobs, summary.ranked_by)) < MIN_RUNS:
        return None
    chart = Chart("parallel", "Parallel coordinates: a line for each run through its settings and its accuracy")
    notes = [
        "A line is a run, coloured from the lowest accuracy to the highest. Drag along an axis to pick the runs that "
        "pass there; drag over several axes to narrow the choice; click an axis to clear it."
    ]
    return Section("All settings at once", chart=chart, notes=notes)


def search(compared: Compared) -> Section | None:
    """Best so far over the trials, and which settings mattered; None if the runs do not search over numbers."""
    summary = compared.summary
    steps = best_so_far(compared.jobs, summary.ranked_by)
    searched = [key for key in summary.keys if is_quantity([step.job for step in steps], key)]
    if len(steps) < MIN_RUNS or not searched or summary.over_seeds or 2 * len(summary.rows) < len(steps):
        return None
    ids = {job.folder: run for run, job in enumerate(compared.jobs)}
    order = [ids[step.job.folder] for step in steps]
    named = short_names(summary.keys)
    rows: list[list[str | Cell]] = []
    for one in importances(compared.jobs, summary.ranked_by):
        fraction = Cell(f"{100 * one.fraction:.0f} %", heat=round(one.fraction, 2))
        p_value = "< 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
        rows.append([named.get(one.key, one.key), fraction, p_value])
    caption = "Importance of each setting"
    table = Table(["setting", "importance", "p"], rows, numeric=frozenset({1, 2}), caption=caption) if rows else None
    notes = [
        "Importance: the part of the variance of the runs' ranks that a setting explains by itself (analysis of "
        "variance on ranks, adjusted for chance); p: of no influence at all, uncorrected."
    ]
    label = f"{QUANTITY[summary.ranked_by].capitalize()} of each trial in the order of their ends, and the best so far"
    return Section(
        "The search so far", chart=Chart("search", label), table=table, notes=notes if rows else [],
        markup=as_block("search-data", {"order": order}),
    )  # fmt: skip


def effects(compared: Compared) -> Section | None:
    """A panel per factor; None for fewer than three runs or no factor."""
    summary, jobs = compared.summary, compared.jobs
    runs = [job for job, _ in measured(jobs, summary.ranked_by)]
    keys = [key for key in summary.keys if len({job.text(key) for job in runs}) > 1]
    if len(runs) < MIN_RUNS or not keys:
        return None
    means = {}
    for key in keys[:MAX_PANELS]:
        plain = {job.text(key): plain_value(job.settings.get(key)) for job in jobs}
        levels = main_effect(jobs, key, summary.ranked_by)
        means[key] = [(plain[level.value], 100 * level.mean) for level in levels if level.mean is not None]
    notes = ["Dots are runs; what has collapsed or lies far out is a triangle at the edge."]
    alike = "The diamond compares only like with like: runs that differ from others in this factor (and seed) alone."
    notes.append(alike if any(means.values()) else "No two runs differ in one factor alone, so no means are shown.")
    if len(means) < len(keys):
        notes.append(f"The first {len(means)} of {len(keys)} factors.")
    chart = Chart("effects", "Accuracy of the runs at each level of each factor")
    block = as_block("effects-data", {"means": means})
    return Section("What each factor does", chart=chart, notes=notes, markup=block)


def two_factors(compared: Compared) -> Section | None:
    """A table over the first two factors; None if no two can be crossed, or that would be mostly empty."""
    summary, jobs = compared.summary, compared.jobs
    keys = [key for key in summary.keys if len({job.text(key) for job in jobs}) > 1][:2]
    if len(keys) < 2 or len(measured(jobs, summary.ranked_by)) < MIN_RUNS:
        return None
    found = grid(jobs, (keys[0], keys[1]), summary.ranked_by)
    known = sum(cell is not None for row in found.cells for cell in row)
    if max(len(found.rows), len(found.columns)) > MAX_LEVELS or 2 * known <= len(found.rows) * len(found.columns):
        return None
    named = short_names(summary.keys)
    names = (named[keys[0]], named[keys[1]])
    table = heatmap(np.array(found.cells, dtype=float), found.rows, found.columns, names)
    at = ", ".join(f"{name} {found.at[key]}" for key, name in short_names(list(found.at)).items())
    over = "" if not summary.over_seeds and len(summary.keys) == 2 else ", mean over seeds"
    if not found.at and len(summary.keys) > 2:
        over = ", mean over the same values of all other factors" + (" and seeds" if summary.over_seeds else "")
    quantity = QUANTITY[summary.ranked_by].capitalize()
    notes = [f"{quantity} in percent{over}{f', at {at}' if at else ''}; deeper is better."]
    return Section(f"{names[0]} and {names[1]}", table=table, notes=notes)


def heatmap(cells: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], names: tuple[str, str]) -> Table:
    """Accuracies in percent, colored from a robust lowest to the highest; NaN is left blank. cells: (rows, columns)."""
    low, high = robust_range(cells[np.isfinite(cells)].tolist()) or (0.0, 1.0)
    heats = np.clip((cells - low) / max(high - low, 1e-4), 0, 1)

    def cell(value: float, heat: float) -> str | Cell:
        return Cell(f"{100 * value:.2f}", heat=round(heat, 2)) if np.isfinite(value) else ""

    pairs = zip(rows, np.stack((cells, heats), axis=2).tolist(), strict=True)
    lines = [[name, *(cell(*pair) for pair in line)] for name, line in pairs]
    header = [names[0], *(f"{names[1]}={column}" for column in columns)]
    return Table(header, lines, numeric=frozenset(range(1, len(header))), caption=f"{names[0]} against {names[1]}")
