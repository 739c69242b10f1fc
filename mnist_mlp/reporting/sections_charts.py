"""The sections on what each setting does: runs by their levels, the grid of two factors, F1 of each digit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.collect import Row, Summary
from mnist_mlp.compare.effects import amount, grid, in_order, main_effect, measured, robust_range
from mnist_mlp.compare.search import best_so_far, importances, is_quantity
from mnist_mlp.plots import sweep as plots
from mnist_mlp.plots.sweep import Group, Spread, svg
from mnist_mlp.reporting.data import Compared, as_block, plain_value
from mnist_mlp.reporting.elements import Cell, Chart, Picture, Section, Table
from mnist_mlp.runs.predictions import Curves
from mnist_mlp.runs.settings import short_names, value_text

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
        [
            named.get(one.key, one.key),
            Cell(f"{100 * one.fraction:.0f} %", heat=round(one.fraction, 2)),
            p_value(one.p_value),
        ]
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


MOST_LEVELS, MOST_ROWS, MOST_PANELS = 12, 24, 9
DIGITS_OF_SCORES = 3
"""Decimals of scores from 0 to 1; percentages have fewer."""


def effects(compared: Compared) -> Section | None:
    """A panel per factor; None for fewer than three runs or no factor."""
    summary, jobs = compared.summary, compared.jobs
    if len(measured(jobs, summary.ranked_by)) < ENOUGH:
        return None
    spreads = {key: found for key in summary.keys if len(found := spreads_of(compared, key)) > 1}
    if not spreads:
        return None
    shown = dict(list(spreads.items())[:MOST_PANELS])
    named = short_names(summary.keys)
    plain = {
        key: {value_text(job.settings.get(key)): plain_value(job.settings.get(key)) for job in jobs} for key in shown
    }
    means = {
        key: [(plain[key][level.value], level.mean) for level in levels if level.mean is not None]
        for key, levels in shown.items()
    }
    notes = ["Dots are runs; what has collapsed or lies far out is a triangle at the edge."]
    if any(means.values()):
        notes.append(
            "The diamond compares only like with like: runs that differ from others in this factor (and seed) alone."
        )
    else:
        notes.append("No two runs differ in one factor alone, so no means are shown.")
    if len(shown) < len(spreads):
        notes.append(f"The first {len(shown)} of {len(spreads)} factors.")
    panels = [(named[key], levels) for key, levels in shown.items()]
    picture = Picture(svg(plots.main_effects(panels, QUANTITY[summary.ranked_by])), "Runs by each setting")
    chart = Chart("effects", "Accuracy of the runs at each level of each factor", picture)
    return Section(
        "What each factor does", chart=chart, notes=notes, markup=as_block("effects-data", {"means": means}),
        libraries=LIBRARY, scripts=(SHARED, "effects.js"),
    )  # fmt: skip


def spreads_of(compared: Compared, key: str) -> list[Spread]:
    """The accuracies of all runs at each level of a factor, in percent, and their mean like for like, if any."""
    column = compared.summary.ranked_by
    found: dict[str, list[float]] = {}
    for job, number in measured(compared.jobs, column):
        found.setdefault(value_text(job.settings.get(key)), []).append(100 * number)
    means = {level.value: level.mean for level in main_effect(compared.jobs, key, column)}
    return [
        Spread(value, amount(value), found[value], None if means.get(value) is None else 100 * (means[value] or 0.0))
        for value in in_order(found)
    ]


def two_factors(compared: Compared) -> Section | None:
    """A table over the first two factors; None where no two can be crossed, or that would be mostly empty."""
    summary, jobs = compared.summary, compared.jobs
    keys = [key for key in summary.keys if len({value_text(job.settings.get(key)) for job in jobs}) > 1][:2]
    if len(keys) < 2 or len(measured(jobs, summary.ranked_by)) < ENOUGH:
        return None
    found = grid(jobs, (keys[0], keys[1]), summary.ranked_by)
    known = sum(cell is not None for row in found.cells for cell in row)
    if not found.rows or max(len(found.rows), len(found.columns)) > MOST_LEVELS:
        return None
    if 2 * known <= len(found.rows) * len(found.columns):
        return None
    named = short_names(summary.keys)
    names = (named[keys[0]], named[keys[1]])
    table = heat_table(100 * np.array(found.cells, dtype=float), found.rows, found.columns, names, 2)
    at = ", ".join(f"{name} {found.at[key]}" for key, name in short_names(list(found.at)).items())
    over = "" if not summary.over_seeds and len(summary.keys) == 2 else ", mean over seeds"
    if not found.at and len(summary.keys) > 2:
        over = ", mean over the same values of all other factors" + (" and seeds" if summary.over_seeds else "")
    quantity = QUANTITY[summary.ranked_by].capitalize()
    notes = [f"{quantity} in percent{over}{f', at {at}' if at else ''}; deeper is better."]
    return Section(f"{names[0]} and {names[1]}", table=table, notes=notes)


def digit_scores(compared: Compared) -> Section | None:
    """F1 of each digit for each group, on test; None where nothing finished."""
    rows = [
        (name, ids, [job.result.per_class["f1"] for job in row.jobs if job.result is not None])
        for name, ids, row in zip(compared.group_names, compared.run_ids, compared.summary.rows, strict=True)
        if row.values["test_accuracy"]
    ]
    if not rows:
        return None
    shown = rows[:MOST_ROWS]
    cells = np.array([np.array(scores, dtype=float).mean(0) for _, _, scores in shown])
    columns = [str(digit) for digit in range(cells.shape[1])]
    names = [name or "this run" for name, _, _ in shown]
    table = heat_table(cells, names, columns, ("setting", "digit"), DIGITS_OF_SCORES, [ids for _, ids, _ in shown])
    notes = [*(["Mean over seeds."] if compared.summary.over_seeds else []), "Deeper is better, on one scale."]
    if len(shown) < len(rows):
        notes.append(f"The best {len(shown)} of {len(rows)} groups.")
    return Section("F1 of each digit", table=table, notes=notes)


def heat_table(
    cells: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], names: tuple[str, str], digits: int,
    runs: Sequence[Sequence[int]] = (),
) -> Table:  # fmt: skip
    """Numbers, coloured from a robust lowest to the highest; NaN is left blank. cells: (rows, columns)."""
    scale = 100.0 if digits < DIGITS_OF_SCORES else 1.0
    low, high = robust_range((cells[np.isfinite(cells)] / scale).tolist()) or (0.0, 1.0)
    low, high = scale * low, scale * high
    span = max(high - low, 10.0**-digits)
    lines: list[list[str | Cell]] = [
        [name, *(_heat(value, (value - low) / span, digits) for value in line)]
        for name, line in zip(rows, cells.tolist(), strict=True)
    ]
    header = [
        names[0],
        *(f"{names[1]} {column}" if names[1] == "digit" else f"{names[1]}={column}" for column in columns),
    ]
    caption = f"{names[0]} against {names[1]}"
    return Table(header, lines, numeric=frozenset(range(1, len(header))), runs=runs, caption=caption)


def _heat(value: float, part: float, digits: int) -> Cell | str:
    return Cell(f"{value:.{digits}f}", heat=round(min(max(part, 0.0), 1.0), 2)) if np.isfinite(value) else ""
