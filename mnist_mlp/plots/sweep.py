"""Figures that compare runs, for a page without scripts and for a publication: arrays in, matplotlib Figure out."""

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from mnist_mlp.plots.run import BLUE, GREEN, GREY, ORANGE, sized_figure
from mnist_mlp.runs.predictions import Curves, band
from mnist_mlp.runs.result import is_at_chance

PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D00")
FIRST, LAST = 5, 2
"""If there are more groups than colors, this many of the best and of the worst get one."""
PALE = "#C8C8C8"
MAX_SINGLE_LINES = 5
"""A larger group is drawn as mean and band, as are all groups if there are more of them than colors."""
MAX_TICKS = 12
MAX_LOSS = 10.0
WIDTH = 10.9
"""Inches; a little less than the width of the page."""
WIDE_RATIO = 30
"""Numbers that span more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed. accuracies in percent, seconds and parameters: one per finished run."""

    label: str
    curves: list[Curves] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Spread:
    """One level of a factor: its accuracies in percent, and their mean if it can be compared with other levels'."""

    value: str
    amount: float | None
    accuracies: list[float]
    mean: float | None = None


def colors_of(count: int) -> list[str | None]:
    """A color for each of `count` groups, best first; None for those drawn in grey."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [*PALETTE[:FIRST], *[None] * (count - FIRST - LAST), *PALETTE[FIRST : FIRST + LAST]]


def learning_curves(groups: Sequence[Group]) -> Figure:
    """Draw accuracy and loss per epoch, best group first: training dashed, validation (without any, test) solid."""
    figure = sized_figure(WIDTH, 4.6, layout="constrained")
    left, right = figure.subplots(1, 2)
    colors = colors_of(len(groups))
    held_out = ["val" if any("val/loss" in one for one in group.curves) else "test" for group in groups]
    few = len(groups) <= len(PALETTE) and all(len(group.curves) <= MAX_SINGLE_LINES for group in groups)
    in_front = sorted(zip(groups, colors, held_out, strict=True), key=lambda drawn: drawn[1] is not None)
    for group, color, second in in_front:
        for axes, name, scale in ((left, "accuracy", 100.0), (right, "loss", 1.0)):
            for split, style in (("train", "--"), (second, "-")):
                curves = [[scale * value for value in one.get(f"{split}/{name}", ())] for one in group.curves]
                _draw_curves(axes, [curve for curve in curves if any(map(math.isfinite, curve))], style, color, few)
    left.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    right.set(xlabel="epoch", ylabel="cross-entropy loss (nats per image)", title="Loss")
    _fit_loss_axis(right)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    names = [(color, 3.0, "-", _plain(group.label, 64)) for group, color in zip(groups, colors, strict=True) if color]
    names = [one for one in names if one[3]]
    if hidden := colors.count(None):
        names.append((PALE, 3.0, "-", f"{hidden} groups in between"))
    splits = {"val": "validation", "test": "test (plotted, never chosen by)"}
    names += [("#333", 1.5, "-", splits[split]) for split in dict.fromkeys(held_out)] + [
        ("#333", 1.5, "--", "training")
    ]
    handles = [Line2D([], [], color=color, lw=width, ls=style, label=label) for color, width, style, label in names]
    columns = max(1, min(len(names), 130 // (max(len(label) for *_, label in names) + 8)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    return figure


def _draw_curves(axes: Axes, curves: Sequence[Sequence[float]], style: str, color: str | None, single: bool) -> None:
    """Draw the curves of a group: each, or their mean and band."""
    if not curves:
        return
    points = np.array(band(curves))
    epochs = np.arange(1, len(points) + 1)
    look: dict[str, Any] = {"marker": "." if len(points) <= 15 else "", "lw": 1.6 if style == "-" else 1.0, "zorder": 3}
    if color is None:
        axes.plot(epochs, points[:, 0], style, color=PALE, lw=0.9, zorder=1)
    elif single:
        for curve in curves:
            axes.plot(np.arange(1, len(curve) + 1), curve, style, color=color, **look)
    else:
        axes.plot(epochs, points[:, 0], style, color=color, **look)
        if style == "-":
            axes.fill_between(epochs, points[:, 1], points[:, 2], color=color, alpha=0.13, linewidth=0)


def _fit_loss_axis(axes: Axes) -> None:
    """Make it logarithmic if the losses span more than a factor of 20; exploded losses leave the axes at the top."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines] or [np.zeros(0)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if not len(drawn):
        return
    if drawn.max() > MAX_LOSS:
        axes.set_title("Loss (exploded losses are cut off)")
    top = min(drawn.max() * 1.1, MAX_LOSS)
    if top > 20 * drawn.min():
        _make_logarithmic(axes, axes.yaxis)
        axes.set_ylim(drawn.min() * 0.8, top)
    else:
        axes.set_ylim(0, top)


def _make_logarithmic(axes: Axes, axis: Axis) -> None:
    """Scale an axis by logarithms, with ticks at 1, 2 and 5 times powers of ten as plain numbers."""
    axes.set(**{"xscale" if axis is axes.xaxis else "yscale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())


def main_effects(factors: Sequence[tuple[str, Sequence[Spread]]], quantity: str) -> Figure:
    """Draw a panel per factor, on one scale: runs as dots, with mean and standard deviation of each level.

    Runs at chance level are marked at the lower edge: they would flatten the scale of the others.

    Args:
        factors: Name and levels of each.
        quantity: What the accuracies are.
    """
    columns = min(3, len(factors))
    rows = -(-len(factors) // columns)
    figure = sized_figure(WIDTH if columns > 1 else WIDTH * 0.6, 3.3 * rows + 0.2, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    accuracies = [number for _, levels in factors for level in levels for number in level.accuracies]
    learned = [number for number in accuracies if not is_at_chance(number / 100)]
    floor = None
    if learned and len(learned) < len(accuracies):
        floor = min(learned) - 0.12 * max(max(learned) - min(learned), 1.0)
        panels[0].set_ylim(bottom=floor)
    for panel, (name, levels) in zip(panels, factors, strict=False):
        is_scale = len(levels) > MAX_TICKS and all(level.amount is not None for level in levels)
        dots: list[tuple[float, float]] = []
        collapsed = []
        for index, level in enumerate(levels):
            numbers = [number for number in level.accuracies if floor is None or not is_at_chance(number / 100)]
            x = level.amount if is_scale and level.amount is not None else float(index)
            spread = 0.1 if len(numbers) > 1 else 0.0
            across = [x] * len(numbers) if is_scale else x - 0.12 + np.linspace(-spread, spread, len(numbers))
            dots += zip(across, numbers, strict=True)
            if len(numbers) < len(level.accuracies):
                collapsed.append(x)
            if level.mean is not None and not is_scale:
                deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
                look: dict[str, Any] = {"color": "#222", "marker": "D", "markersize": 5, "capsize": 4, "linewidth": 1.3}
                panel.errorbar(x + 0.14, level.mean, deviation, **look)
        panel.plot(*np.reshape(dots, (-1, 2)).T, "o", color=BLUE, alpha=0.6, markersize=4.5, markeredgewidth=0)
        if collapsed:
            edge = np.full(len(collapsed), floor)
            panel.plot(collapsed, edge, "v", color=ORANGE, markersize=8, clip_on=False, zorder=5)
        _label_levels(panel, levels, is_scale)
        panel.grid(axis="y", alpha=0.3)
        panel.set(xlabel=_plain(name))
    for index, panel in enumerate(panels):
        panel.set_visible(index < len(factors))
        if index % columns == 0:
            panel.set_ylabel(f"{quantity} (%)")
    return figure


def _label_levels(axes: Axes, levels: Sequence[Spread], is_scale: bool) -> None:
    """Name the levels below their runs, and join the means of numbers by a line."""
    amounts = [level.amount for level in levels if level.amount is not None]
    if is_scale:
        if min(amounts) > 0 and max(amounts) > WIDE_RATIO * min(amounts):
            _make_logarithmic(axes, axes.xaxis)
        return
    means = [(index + 0.14, level.mean) for index, level in enumerate(levels) if level.mean is not None]
    if means and len(amounts) == len(levels):
        axes.plot(*zip(*means, strict=True), color=GREY, linewidth=1, zorder=0)
    names, step = [_plain(level.value, 14) for level in levels], -(-len(levels) // MAX_TICKS)
    crowded = sum(map(len, names)) > 30 or len(names) > 7
    axes.set_xticks(
        range(0, len(levels), step), names[::step], rotation=40 * crowded, ha="right" if crowded else "center"
    )
    axes.set_xlim(-0.5, len(levels) - 0.5)


def costs(groups: Sequence[Group], quantity: str) -> Figure:
    """Draw accuracy over time and over parameters: a dot per run in the curves' colors, the best group as stars."""
    names = ["seconds"]
    if len({number for group in groups for number in group.parameters}) > 1:
        names.append("parameters")
    figure = sized_figure(WIDTH if len(names) > 1 else WIDTH * 0.62, 4.3, layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        numbers = [number for group in groups for number in getattr(group, name)]
        for rank, (group, color) in enumerate(zip(groups, colors_of(len(groups)), strict=True)):
            marker, size = ("*", 13) if rank == 0 else ("o", 6)
            style = {"color": color or PALE, "markersize": size, "zorder": 4 - min(rank, 2) if color else 1}
            panel.plot(getattr(group, name), group.accuracies, marker, alpha=0.85, markeredgecolor="white", **style)
        if numbers and min(numbers) > 0 and max(numbers) > 10 * min(numbers):
            _make_logarithmic(panel, panel.xaxis)
        panel.grid(alpha=0.3)
        panel.set(xlabel="fit time (s)" if name == "seconds" else "parameters (trained numbers)")
    panels[0].set(ylabel=f"{quantity} (%)")
    return figure


Interval = tuple[float, float] | None
"""Lower and upper end, in points."""


def differences(
    names: Sequence[str], means: Sequence[float], seeds: Sequence[Interval], images: Sequence[Interval], lowest: float
) -> Figure:
    """Draw differences in points of test accuracy, first at the top, with their intervals.

    Args:
        names: Of the settings.
        means: Differences to the best.
        seeds: Intervals over seeds, as thick lines.
        images: Intervals over seeds and images, as thin lines.
        lowest: A mean below it would flatten all others: it becomes a triangle at the edge, with its number.
    """
    figure = sized_figure(7.0, 1.3 + 0.42 * len(names), layout="constrained")
    axes = figure.subplots()
    shown = [row for row in zip(means, seeds, images, strict=True) if row[0] >= lowest]
    ends = [interval[0] for _, *intervals in shown for interval in intervals if interval]
    edge = min([*(mean for mean, *_ in shown), *ends, 0.0])
    far = edge - 0.04 * max(-edge, 0.1)
    for row, (mean, inner, outer) in enumerate(zip(means, seeds, images, strict=True)):
        if mean < lowest:
            axes.plot(far, -row, "<", color=ORANGE, markersize=8, clip_on=False, zorder=3)
            axes.annotate(f"{mean:.1f}", (far, -row), (8, 0), textcoords="offset points", va="center", fontsize=8)
            continue
        for interval, shift, color, width in ((inner, 0.1, GREY, 4.0), (outer, -0.1, BLUE, 1.6)):
            if interval is not None:
                axes.plot(interval, [-row + shift] * 2, color=color, linewidth=width, solid_capstyle="butt")
        axes.plot(mean, -row, "o", color="black", markersize=5, zorder=3)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks([-row for row in range(len(names))], [_plain(name) for name in names])
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_xlabel("difference to the best, points of test accuracy")
    axes.plot([], [], color=GREY, linewidth=4.0, label="95 %, other seeds")
    axes.plot([], [], color=BLUE, linewidth=1.6, label="95 %, other seeds and images")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=9, frameon=False)
    axes.grid(axis="x", alpha=0.3)
    return figure


def svg(figure: Figure) -> bytes:
    """The content of an SVG file, with text as paths so that it looks the same everywhere."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # a box stands for it
        FigureCanvasSVG(figure).print_svg(content)
    return content.getvalue()


def pdf(figure: Figure) -> bytes:
    """The content of a PDF file without a date, fonts embedded as TrueType, as publishers ask."""
    content = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        FigureCanvasPdf(figure).print_pdf(content, metadata={"CreationDate": None})
    return content.getvalue()


def _plain(text: str, longest: int | None = None) -> str:
    """The text for matplotlib to show as it is: no formula, no hidden label, no character that cannot be drawn."""
    text = text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
