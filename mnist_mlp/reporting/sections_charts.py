"""Page sections with charts, and the heatmap of two factors."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.effects import (
    best_so_far,
    confounded,
    grid,
    importances,
    is_quantity,
    main_effect,
    measured,
    robust_range,
    sort_levels,
)
from mnist_mlp.compare.load import Job
from mnist_mlp.datasets import DIGITS
from mnist_mlp.plots import sweep as plots
from mnist_mlp.plots.sweep import svg
from mnist_mlp.reporting.data import PageContext, json_block, plain_value
from mnist_mlp.reporting.elements import Cell, Chart, Picture, Section, Table
from mnist_mlp.runs.result import is_at_chance
from mnist_mlp.runs.settings import short_names

QUANTITY = {"val_accuracy": "validation accuracy", "test_accuracy": "test accuracy"}
MAX_DRAWN = 40
"""Groups, best and worst, in the static pictures shown without JavaScript."""
MIN_RUNS = 3
"""With fewer runs, charts would only repeat the table."""
MANY_FACTORS = 3
"""From this many factors on, parallel coordinates show more than pairwise charts."""
MAX_LEVELS, MAX_PANELS = 12, 9
CURVES_NOTE = """Dotted means are over fewer runs, as others ended. Training accuracy and loss are means over the steps
of an epoch, each before its update, with dropout and distortions if used: not those of the checkpoint."""


def learning_curves(context: PageContext) -> Section | None:
    """Every column of metrics.csv by epoch; None if no run has curves."""
    groups = [group for group in zip(context.group_names, context.group_curves, strict=True) if group[1]]
    if not groups:
        return None
    worst = MAX_DRAWN // 4
    shown = groups if len(groups) <= MAX_DRAWN else [*groups[: MAX_DRAWN - worst], *groups[-worst:]]
    notes = [CURVES_NOTE]
    if len(context.jobs) > len(groups):
        notes.append("One color per group of seeds; bands are ± one standard deviation around the mean.")
    if len(groups) > len(shown):
        notes.append(f"Without JavaScript, only the {len(shown)} best and worst of {len(groups)} groups are drawn.")
    picture = Picture(svg(plots.learning_curves(shown)), "Accuracy and loss by epoch")
    chart = Chart("curves", "Learning curves of the runs; the tables list the final values", picture)
    return Section("Learning curves", chart=chart, notes=notes)


def scatter_plot(context: PageContext) -> Section | None:
    """Scatter plot of the runs with selectable axes; None for fewer than three runs."""
    if len(measured(context.jobs, context.summary.ranked_by)) < MIN_RUNS:
        return None
    chart = Chart("scatter", "Scatter plot of the runs: one metric or setting against another")
    return Section("Accuracy vs cost and settings", chart=chart)


def parallel(context: PageContext) -> Section | None:
    """Parallel coordinates for sweeps over many factors."""
    summary = context.summary
    if len(summary.keys) < MANY_FACTORS or len(measured(context.jobs, summary.ranked_by)) < MIN_RUNS:
        return None
    chart = Chart("parallel", "Parallel coordinates: one line per run through its settings and its accuracy")
    notes = [
        "Each line is a run, colored by accuracy. Drag along an axis to select the runs in that range, along several "
        "axes to narrow the selection; click an axis to clear its range."
    ]
    return Section("Parallel coordinates", chart=chart, notes=notes)


def search(context: PageContext) -> Section | None:
    """Best accuracy so far, and importance of each setting; None unless the runs search over numbers."""
    summary = context.summary
    steps = best_so_far(context.jobs, summary.ranked_by)
    searched = [key for key in summary.keys if is_quantity([step.job for step in steps], key)]
    if len(steps) < MIN_RUNS or not searched or summary.over_seeds or 2 * len(summary.rows) < len(steps):
        return None
    if len(summary.by_dataset) > 1:
        return Section("Search progress", ["Left out: trials on different data have no common best and no importance."])
    ids = {job.folder: run for run, job in enumerate(context.jobs)}
    order = [ids[step.job.folder] for step in steps]
    named = short_names(summary.keys)
    rows: list[list[str | Cell]] = []
    for importance in importances(context.jobs, summary.ranked_by):
        fraction = Cell(f"{100 * importance.fraction:.0f} %", heat=round(importance.fraction, 2))
        p_value = "< 0.001" if importance.p_value < 0.001 else f"{importance.p_value:.3f}"
        name, chance = named.get(importance.key, importance.key), f"up to {100 * importance.by_chance:.0f} %"
        rows.append([name, fraction, chance, p_value])
    caption = "Importance of each setting"
    header = ["setting", "importance", "by chance", "p"]
    table = Table(header, rows, numeric=frozenset({1, 2, 3}), caption=caption) if rows else None
    notes = [
        "Importance: fraction of variance in rank that the setting explains (one-way analysis of variance on ranks,"
        " adjusted for chance). By chance: in 95 % of searches without effects, all are below. p: Holm-adjusted."
    ]
    label = f"{QUANTITY[summary.ranked_by].capitalize()} of each trial, by start (or file) time, and the best so far"
    return Section(
        "Search progress", chart=Chart("search", label), table=table, notes=notes if rows else [],
        markup=json_block("search-data", {"order": order}),
    )  # fmt: skip


def effects(context: PageContext) -> Section | None:
    """One panel per factor and dataset; None for fewer than three runs or without factors."""
    summary, panels = context.summary, list[dict[str, Any]]()
    named, ids = short_names(summary.keys), {job.folder: run for run, job in enumerate(context.jobs)}
    parts = [(f" on {title}" * bool(title), part.jobs, measured(part.jobs, part.ranked_by), part.keys)
             for title, part in summary.by_dataset.items()]  # fmt: skip
    counts, pairs = list[str](), list[str]()
    for key, (dataset, jobs, accuracies, keys) in product(summary.keys, parts):
        runs = [job for job, _ in accuracies]
        if (others := _factors(keys, runs).get(key)) is None:
            continue
        plain = {job.text(key): plain_value(job.settings.get(key)) for job in runs}
        levels = main_effect(runs, key, summary.ranked_by, others).items()
        means = [(plain[level], 100 * mean) for level, mean in levels if mean is not None]
        members = [ids[job.folder] for job in runs]
        name = f"{' + '.join(named.get(one, one) for one in (key, *others))}{dataset}"
        combinations = {job.text(key): ", ".join(map(job.text, others)) for job in runs}
        values = "; ".join(f"{level} with {combinations[level]}" for level in sort_levels(combinations))
        pairs += [f"{name}: {values}."] if others else []
        panels.append({"key": key, "name": name, "runs": members, "means": means})
        if len(panels) > MAX_PANELS:
            continue
        lost = Counter((job.text(key), "without a result") for job in jobs if job.result is None and job.settings)
        lost.update((job.text(key), "at chance level") for job, n in accuracies if is_at_chance(n, len(job.classes)))
        runs_at = Counter(job.text(key) for job in jobs)
        counts += [
            f"{named[key]}={at}{dataset} {n} of {runs_at[at]} {words}" for (at, words), n in sorted(lost.items())
        ]
    if len(measured(context.jobs, summary.ranked_by)) < MIN_RUNS or not panels:
        return None
    notes = ["Each dot is a run; at the edge, triangles are runs at chance level or outliers."]
    matched = (
        "Diamonds are means over matched runs, which differ only in this factor (and the seed); lines are ± one "
        "standard deviation of the runs."
    )
    if counts:
        matched += f" Runs at chance level are in the means, those without a result are not: {', '.join(counts)}."
    has_means = any(panel["means"] for panel in panels)
    notes += ["Each dataset has its own scale."] * (len(parts) > 1)
    notes.append(matched if has_means else "No means: no two runs differ in only one factor.")
    if pairs:
        notes.append(f"Settings that vary together have one panel, for their combination. {' '.join(pairs)}")
    if len(panels) > MAX_PANELS:
        notes.append(f"Showing the first {MAX_PANELS} of {len(panels)} panels.")
    chart = Chart("effects", "Accuracy of the runs at each level of each factor")
    block = json_block("effects-data", {"panels": panels[:MAX_PANELS]})
    return Section("Main effects", chart=chart, notes=notes, markup=block)


def _factors(keys: Sequence[str], jobs: Sequence[Job]) -> dict[str, list[str]]:
    """The settings of `keys` that vary between these runs, each with those that vary together with it."""
    together = confounded(jobs)
    varying = [key for key in keys if len({job.text(key) for job in jobs}) > 1]
    return {key: together.get(key, []) for key in varying if not any(key in others for others in together.values())}


def two_factors(context: PageContext) -> Iterator[Section]:
    """Heatmap of the first two factors for each dataset, unless it would be mostly empty or too large."""
    summary, named = context.summary, short_names(context.summary.keys)
    for title, part in summary.by_dataset.items():
        jobs = [job for job in part.jobs if job.result is not None]
        factors = _factors(part.keys, jobs)
        keys = list(factors)
        if len(keys) < 2 or len(measured(jobs, summary.ranked_by)) < MIN_RUNS:
            continue
        together = [other for key in keys[:2] for other in factors[key]]
        crossed = grid(jobs, (keys[0], keys[1]), summary.ranked_by, together)
        known = sum(cell is not None for row in crossed.cells for cell in row)
        height, width = len(crossed.rows), len(crossed.columns)
        if max(height, width) > MAX_LEVELS or 2 * known <= height * width:
            continue
        first, second = (" + ".join(named.get(one, one) for one in (key, *factors[key])) for key in keys[:2])
        names = (first, second)
        classes = len(jobs[0].classes)
        table = heatmap(np.array(crossed.cells, dtype=float), crossed.rows, crossed.columns, names, classes)
        at = ", ".join(f"{name}={crossed.at[key]}" for key, name in short_names(list(crossed.at)).items())
        over = "" if not summary.over_seeds and len(keys) == 2 else ", mean over seeds"
        if not crossed.at and len(keys) > 2:
            over = ", mean over matched values of the other factors" + (" and seeds" if summary.over_seeds else "")
        if len(jobs) < len(part.jobs):
            over += f", over the {len(jobs)} of {len(part.jobs)} runs with a result"
        quantity = QUANTITY[summary.ranked_by].capitalize()
        notes = [f"{quantity} in percent{over}{f', at {at}' if at else ''}; stronger color is better."]
        on = f" on {title}" * bool(title)
        yield Section(f"{quantity} by {names[0]} and {names[1]}{on}", table=table, notes=notes)


def heatmap(
    cells: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], names: tuple[str, str],
    classes: int = len(DIGITS),
) -> Table:  # fmt: skip
    """A table of accuracies in percent, colored over a robust range; NaN is blank. cells: (rows, columns) fractions."""
    low, high = robust_range(cells[np.isfinite(cells)].tolist(), classes) or (0.0, 1.0)
    heats = np.clip((cells - low) / max(high - low, 1e-4), 0, 1)

    def cell(value: float, heat: float) -> str | Cell:
        return Cell(f"{100 * value:.2f}", heat=round(heat, 2)) if np.isfinite(value) else ""

    pairs = zip(rows, np.stack((cells, heats), axis=2).tolist(), strict=True)
    lines = [[name, *(cell(*pair) for pair in line)] for name, line in pairs]
    header = [names[0], *(f"{names[1]}={column}" for column in columns)]
    return Table(header, lines, numeric=frozenset(range(1, len(header))), caption=f"{names[0]} by {names[1]}")
