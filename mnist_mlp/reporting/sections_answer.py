"""The first section of a page: each setting against the best, as a chart in HTML, and the effect of each choice."""

from collections.abc import Mapping, Sequence
from itertools import chain

import scipy  # imports its submodules lazily

from mnist_mlp.compare.collect import Row, Summary
from mnist_mlp.compare.consistency import choices
from mnist_mlp.compare.effects import robust_range
from mnist_mlp.compare.statistics import SIGNIFICANCE, PairedComparison, interval_text
from mnist_mlp.compare.tables import mean_and_deviation
from mnist_mlp.plots.sweep import axis_ticks
from mnist_mlp.reporting.data import PageContext
from mnist_mlp.reporting.elements import Section, render
from mnist_mlp.runs.files import JSON

MAX_SHOWN, MAX_WORST = 20, 5
"""Settings in a chart, and the worst among them if there are more."""
MARGIN = 0.05  # points
DOTS_NOTE = "Dots{} are mean differences to the best in points of test accuracy"
FAR_NOTE = " (triangles: out of range)"
BARS_NOTE = "; bars are their 95 % intervals over {}, paired by seed."
LINES_NOTE = " Lines are these intervals, widened for all pairs of settings: one that reaches zero is unclear."
NO_BARS_NOTE = ". They have no verdict: that takes two seeds or more per setting."
CHOICES_NOTE = (
    "Effects are mean differences over runs that agree in all other settings and seed; 95 % intervals, unadjusted."
)


def answer(context: PageContext) -> Section | None:
    """Chart the settings of each dataset, and list the effects of choices; None without two settings to compare."""
    summary = context.summary
    ids = {id(row): runs for row, runs in zip(summary.rows, context.run_ids, strict=True)}
    charts = [_chart(title, part, ids) for title, part in summary.by_dataset.items() if part.rows[0].best]
    if not any(len(chart["rows"]) > 1 for chart in charts):
        return None
    is_far = any(row["is_far"] for chart in charts for row in chart["rows"])
    note = DOTS_NOTE.format(FAR_NOTE * is_far)
    pairs = [row.comparison for row in summary.rows if row.comparison and row.comparison.outcome]
    family = max((pair.comparisons for pair in pairs), default=0)
    note += BARS_NOTE.format("seeds and test images" if any(pair.images for pair in pairs) else "seeds") * bool(pairs)
    note += LINES_NOTE if family > 1 else "" if family else NO_BARS_NOTE
    effects = [
        (choice, {title: interval_text(pair.decisive if pair else None) for title, pair in choice.differences.items()})
        for choice in choices(summary)
    ]
    markup = render("answer.html", charts=charts, effects=effects)
    notes = [note, CHOICES_NOTE] if effects else [note]
    return Section("All settings against the best", markup=markup, notes=notes, styles=("answer.css",))


def _chart(title: str, part: Summary, ids: Mapping[int, Sequence[int]]) -> JSON:
    """The rows and ticks of the chart of a dataset; positions are in percent of the axis."""
    best, names = part.rows[0], PageContext(part).group_names
    rows = [pair for pair in zip(names, part.rows, strict=True) if pair[1].values["test_accuracy"]]
    if omitted := max(len(rows) - MAX_SHOWN, 0):
        rows[MAX_SHOWN - MAX_WORST : -MAX_WORST] = []
    points = [_points(row, best) for _, row in rows]
    accuracies = [row.mean("test_accuracy") or 0.0 for _, row in rows]
    lowest, _ = robust_range(accuracies, len(best.jobs[0].classes)) or (0.0, 1.0)
    near = [ends for ends, accuracy in zip(points, accuracies, strict=True) if accuracy >= lowest]
    bars = [0.0, *chain.from_iterable((mean, *bar) for mean, bar, _ in near)]
    all_ends = [*bars, *chain.from_iterable(line for *_, line in near)]
    low, high = max(min(all_ends), 2 * min(bars)), min(max(all_ends), 2 * max(bars))
    ticks = axis_ticks(low - MARGIN, high + MARGIN)

    def at(value: float) -> float:
        return round(min(max(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]), 0), 100), 2)

    cells = [
        {
            "name": name, "runs": ids[id(row)], "accuracy": mean_and_deviation(row.values["test_accuracy"]),
            "outcome": "best" if row.best else row.comparison.outcome if row.comparison else "",
            "verdict": _verdict(row), "mean": at(mean), "is_far": mean < ticks[0],
            "intervals": [(kind, *map(at, limits)) for kind, limits in (("line", line), ("bar", bar)) if limits],
        }
        for (name, row), (mean, bar, line) in zip(rows, points, strict=True)
    ]  # fmt: skip
    labels = [(at(tick), f"{tick:+.3g}" if tick else "0") for tick in ticks]
    return {"title": title, "omitted": omitted, "zero": at(0), "ticks": labels, "rows": cells}


def _points(row: Row, best: Row) -> tuple[float, list[float], list[float]]:
    """Difference to the best in points, its 95 % interval, and that adjusted for all pairs; empty if unknown."""
    if (pair := row.comparison) is None:
        return 100 * ((row.mean("test_accuracy") or 0.0) - (best.mean("test_accuracy") or 0.0)), [], []
    mean, low, high = pair.decisive.mean, pair.decisive.low, pair.decisive.high
    if low is None or high is None:
        return 100 * mean, [], []
    half, bar = _adjusted_half_width(pair), [100 * low, 100 * high]
    return 100 * mean, bar, [100 * (mean - half), 100 * (mean + half)] if pair.comparisons > 1 else []


def _adjusted_half_width(pair: PairedComparison) -> float:
    """Half-width of the interval that excludes zero if and only if the Holm-adjusted difference is significant."""
    interval, adjusted = pair.decisive, pair.p_value
    factor = adjusted / interval.p_value if pair.is_significant and adjusted and interval.p_value else pair.comparisons
    return (interval.error or 0.0) * float(scipy.special.stdtrit(interval.degrees, 1 - SIGNIFICANCE / 2 / factor))


def _verdict(row: Row) -> str:
    if (pair := row.comparison) is not None and pair.is_significant:
        return f"{row.verdict} by {abs(100 * pair.decisive.mean):.2f}"
    return row.verdict or "best" * row.best
