"""The sections on what each setting does: runs by their levels, the grid of two factors, F1 of each digit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.effects import Level, amount, grid, is_full_grid, main_effect, measured
from mnist_mlp.plots import sweep as plots
from mnist_mlp.plots.sweep import Spread, svg
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.reporting.elements import Cell, Chart, Picture, Section, Table
from mnist_mlp.reporting.sections.charts import ENOUGH, LIBRARY, QUANTITY
from mnist_mlp.runs.settings import short_names

MOST_LEVELS, MOST_ROWS, MOST_PANELS = 12, 24, 9
LEARNT = 0.2
"""Below this part of the highest a number tells of a collapsed run."""


def factors_of(compared: Compared) -> list[str]:
    """The settings that were measured at two levels or more."""
    summary = compared.summary
    return [key for key in summary.keys if len(main_effect(compared.jobs, key, summary.ranked_by)) > 1]


def effects(compared: Compared) -> Section | None:
    """A panel per factor; None for fewer than three runs or no factor."""
    summary, jobs = compared.summary, compared.jobs
    factors = factors_of(compared)
    if not factors or len(measured(jobs, summary.ranked_by)) < ENOUGH:
        return None
    named = short_names(summary.keys)
    panels = [
        (named[key], [_spread(level) for level in main_effect(jobs, key, summary.ranked_by)])
        for key in factors[:MOST_PANELS]
    ]
    balanced = is_full_grid(jobs, factors, summary.ranked_by)
    notes = ["Dots are runs; the diamond is their mean over all other factors, the bar one standard deviation."]
    if not balanced:
        notes = [
            "Dots are runs. Not every combination was run equally often, so a difference between two columns may be "
            "that of another setting: no means are shown."
        ]
    if len(factors) > MOST_PANELS:
        notes.append(f"The first {MOST_PANELS} of {len(factors)} factors.")
    picture = Picture(svg(plots.main_effects(panels, QUANTITY[summary.ranked_by], balanced)), "Runs by each setting")
    chart = Chart(
        "effects" if balanced else "effects-dots", "Accuracy of the runs at each level of each factor", picture
    )
    return Section("What each factor does", chart=chart, notes=notes, scripts=(*LIBRARY, "effects.js"))


def two_factors(compared: Compared) -> Section | None:
    """A table over the first two factors; None where it would compare unlike with unlike, or be mostly empty."""
    summary, jobs, factors = compared.summary, compared.jobs, factors_of(compared)
    enough = len(measured(jobs, summary.ranked_by)) >= ENOUGH
    if len(factors) < 2 or not enough or not is_full_grid(jobs, factors, summary.ranked_by):
        return None
    found = grid(jobs, (factors[0], factors[1]), summary.ranked_by)
    if max(len(found.rows), len(found.columns)) > MOST_LEVELS:
        return None
    named = short_names(summary.keys)
    names = (named[factors[0]], named[factors[1]])
    table = heat_table(100 * np.array(found.cells, dtype=float), found.rows, found.columns, names, 2)
    over = "seeds" if len(factors) == 2 else "all other factors and seeds"
    mean = f"mean over {over}, " if summary.over_seeds or len(factors) > 2 else ""
    quantity = QUANTITY[summary.ranked_by]
    return Section(
        f"{names[0]} and {names[1]}",
        table=table,
        notes=[f"{quantity.capitalize()} in percent, {mean}deeper is better."],
    )


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
    table = heat_table(cells, names, columns, ("setting", "digit"), 3, [ids for _, ids, _ in shown])
    notes = [*(["Mean over seeds."] if compared.summary.over_seeds else []), "Deeper is better, on one scale."]
    if len(shown) < len(rows):
        notes.append(f"The best {len(shown)} of {len(rows)} groups.")
    return Section("F1 of each digit", table=table, notes=notes)


def heat_table(
    cells: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], names: tuple[str, str], digits: int,
    runs: Sequence[Sequence[int]] = (),
) -> Table:  # fmt: skip
    """Numbers, coloured from a robust lowest to the highest; NaN is left blank. cells: (rows, columns)."""
    known = cells[np.isfinite(cells)]
    low, high = robust_range(known) if len(known) else (0.0, 1.0)
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


def robust_range(numbers: NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest; what collapsed, or lies 1.5 interquartile ranges below the middle half, is left out."""
    learnt = numbers[numbers >= LEARNT * numbers.max()]
    first, third = np.quantile(learnt, [0.25, 0.75])
    fence = first - max(1.5 * (third - first), 1e-9)
    return float(learnt[learnt >= fence].min()), float(numbers.max())


def _heat(value: float, part: float, digits: int) -> Cell | str:
    return Cell(f"{value:.{digits}f}", heat=round(min(max(part, 0.0), 1.0), 2)) if np.isfinite(value) else ""


def _spread(level: Level) -> Spread:
    return Spread(level.value, amount(level.value), [100 * number for number in level.numbers])
