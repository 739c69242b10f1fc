"""The figure of differences to the best setting, with their intervals. Arrays in, Figure out."""

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
from mnist_mlp.runs.result import CHANCE_LEVEL

PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D00")
FIRST, LAST = 5, 2
"""Where there are more groups than colours, this many of the best and of the worst get one."""
PALE = "#C8C8C8"
SINGLE_LINES = 5
"""A larger group is drawn as mean and band, as are all groups where there are more of them than colours."""
MOST_TICKS = 12
TOP_LOSS = 10.0
WIDTH = 10.9
"""Inches; a little less than the width of the page."""
AT_CHANCE = 100 * CHANCE_LEVEL
"""Percent; accuracies below it are marked at the lower edge, so that they do not flatten the scale of the others."""
WIDE = 30
"""Numbers that span more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone. accuracies in percent, seconds and parameters: one per finished run."""

    label: str
    curves: list[Curves] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: list[float] = field(default_factory=list)


def colours(count: int) -> list[str | None]:
    """A colour for each of `count` groups, best first; None for those drawn in grey."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [*PALETTE[:FIRST], *[None] * (count - FIRST - LAST), *PALETTE[FIRST : FIRST + LAST]]


def learning_curves(groups: Sequence[Group]) -> Figure:
    """Accuracy and loss per epoch, best group first: training dashed, validation (without any, test) solid."""
    figure = sized_figure(WIDTH, 4.6)
    left, right = figure.subplots(1, 2)
    chosen = colours(len(groups))
    single = single_lines(groups)
    for group, colour in sorted(zip(groups, chosen, strict=True), key=lambda pair: pair[1] is not None):
        for axes, name, scale in ((left, "accuracy", 100.0), (right, "loss", 1.0)):
            for split, style in (("train", "--"), (_held_out(group), "-")):
                curves = [[scale * value for value in one.get(f"{split}/{name}", ())] for one in group.curves]
                _draw_group(axes, curves, style, colour, single)
    left.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    right.set(xlabel="epoch", ylabel="cross-entropy loss (nats per image)", title="Loss")
    _fit_loss_axis(right)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, groups, chosen)
    return figure


def _held_out(group: Group) -> str:
    return "val" if any("val/loss" in one for one in group.curves) else "test"


def single_lines(groups: Sequence[Group]) -> bool:
    """Whether each run has a line of its own."""
    return len(groups) <= len(PALETTE) and all(len(group.curves) <= SINGLE_LINES for group in groups)


def _draw_group(axes: Axes, curves: Sequence[Sequence[float]], style: str, colour: str | None, single: bool) -> None:
    curves = [curve for curve in curves if any(map(math.isfinite, curve))]
    if not curves:
        return
    points = np.array(band(curves))
    epochs = np.arange(1, len(points) + 1)
    look: dict[str, Any] = {"marker": "." if len(points) <= 15 else "", "linewidth": 1.6 if style == "-" else 1.0}
    if colour is None:
        axes.plot(epochs, points[:, 0], style, color=PALE, linewidth=0.9, zorder=1)
    elif single:
        for curve in curves:
            axes.plot(np.arange(1, len(curve) + 1), curve, style, color=colour, zorder=3, **look)
    else:
        axes.plot(epochs, points[:, 0], style, color=colour, zorder=3, **look)
        if style == "-":
            axes.fill_between(epochs, points[:, 1], points[:, 2], color=colour, alpha=0.13, linewidth=0)


def _fit_loss_axis(axes: Axes) -> None:
    """Logarithmic where the losses span more than a factor of 20; exploded losses leave the axes at the top."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines] or [np.zeros(0)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if not len(drawn):
        return
    if drawn.max() > TOP_LOSS:
        axes.set_title("Loss (exploded losses are cut off)")
    top = min(drawn.max() * 1.1, TOP_LOSS)
    if top > 20 * drawn.min():
        axes.set_yscale("log")
        axes.set_ylim(drawn.min() * 0.8, top)
        _plain_ticks(axes.yaxis)
    else:
        axes.set_ylim(0, top)


def _plain_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times powers of ten on a logarithmic axis, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, groups: Sequence[Group], chosen: Sequence[str | None]) -> None:
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=_short(group.label))
        for group, colour in zip(groups, chosen, strict=True)
        if colour is not None and group.label
    ]
    hidden = chosen.count(None)
    if hidden:
        handles.append(Line2D([], [], color=PALE, linewidth=3, label=f"{hidden} groups in between"))
    held_out = {"val": "validation", "test": "test (plotted, never chosen by)"}
    for split in dict.fromkeys(map(_held_out, groups)):
        handles.append(Line2D([], [], color="#333", linestyle="-", label=held_out[split]))
    handles.append(Line2D([], [], color="#333", linestyle="--", label="training"))
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), 130 // (widest + 8)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


@dataclass(frozen=True)
class Spread:
    """One level of a factor: its accuracies in percent, and their mean where levels can be compared by it."""

    value: str
    amount: float | None
    accuracies: list[float]
    mean: float | None = None


def main_effects(factors: Sequence[tuple[str, Sequence[Spread]]], quantity: str) -> Figure:
    """A panel per factor, on one scale: runs as dots, with mean and deviation of each level."""
    columns = min(3, len(factors))
    rows = -(-len(factors) // columns)
    figure = sized_figure(WIDTH if columns > 1 else WIDTH * 0.6, 3.3 * rows + 0.2)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    everything = [number for _, levels in factors for level in levels for number in level.accuracies]
    learnt = [number for number in everything if number >= AT_CHANCE]
    floor = _floor(learnt) if learnt and len(learnt) < len(everything) else None
    for panel, (name, levels) in zip(panels, factors, strict=False):
        if len(levels) > MOST_TICKS and all(level.amount is not None for level in levels):
            _draw_numbers(panel, levels, floor)
        else:
            _draw_effect(panel, levels, floor)
        panel.grid(axis="y", alpha=0.3)
        panel.set(xlabel=_plain(name))
    for place, panel in enumerate(panels):
        panel.set_visible(place < len(factors))
        if place % columns == 0:
            panel.set_ylabel(f"{quantity} (%)")
    if floor is not None:
        panels[0].set_ylim(bottom=floor)
    return figure


def _floor(learnt: Sequence[float]) -> float:
    return min(learnt) - 0.12 * max(max(learnt) - min(learnt), 1.0)


def _draw_numbers(axes: Axes, levels: Sequence[Spread], floor: float | None) -> None:
    """A factor that hardly ever takes a value twice: its runs over a scale of numbers."""
    amounts = np.array([level.amount for level in levels for _ in level.accuracies], dtype=float)
    numbers = np.array([number for level in levels for number in level.accuracies])
    lost = np.full(len(numbers), False) if floor is None else numbers < AT_CHANCE
    axes.plot(amounts[~lost], numbers[~lost], "o", color=BLUE, alpha=0.6, markersize=4.5, markeredgewidth=0)
    axes.plot(
        amounts[lost], np.full(lost.sum(), floor or 0.0), "v", color=ORANGE, markersize=8, clip_on=False, zorder=5
    )
    if amounts.min() > 0 and amounts.max() > WIDE * amounts.min():
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)


def _draw_effect(axes: Axes, levels: Sequence[Spread], floor: float | None) -> None:
    positions = range(len(levels))
    means = []
    for place, level in zip(positions, levels, strict=True):
        shown = np.array([number for number in level.accuracies if floor is None or number >= AT_CHANCE])
        shift = np.linspace(-0.1, 0.1, len(shown)) if len(shown) > 1 else np.zeros(len(shown))
        axes.plot(place - 0.12 + shift, shown, "o", color=BLUE, alpha=0.6, markersize=4.5, markeredgewidth=0)
        if len(shown) < len(level.accuracies):
            axes.plot([place], [floor or 0.0], "v", color=ORANGE, markersize=8, clip_on=False, zorder=5)
        if level.mean is None:
            continue
        means.append((place + 0.14, level.mean))
        deviation = float(shown.std(ddof=1)) if len(shown) > 1 else 0.0
        axes.errorbar(
            place + 0.14, level.mean, deviation, color="#222", marker="D", markersize=5, capsize=4, linewidth=1.3
        )
    if means and all(level.amount is not None for level in levels):
        axes.plot(*zip(*means, strict=True), color=GREY, linewidth=1, zorder=0)
    names = [_short(level.value, 14) for level in levels]
    step = -(-len(names) // MOST_TICKS)
    crowded = sum(map(len, names)) > 30 or len(names) > 7
    axes.set_xticks(
        list(positions)[::step], names[::step], rotation=40 if crowded else 0, ha="right" if crowded else "center"
    )
    axes.set_xlim(-0.5, len(levels) - 0.5)


def costs(groups: Sequence[Group], quantity: str) -> Figure:
    """Accuracy over time and over parameters: a dot per run in the colours of the curves, the best group as stars."""
    by_size = len({number for group in groups for number in group.parameters}) > 1
    figure = sized_figure(WIDTH if by_size else WIDTH * 0.62, 4.3)
    panels = figure.subplots(1, 2 if by_size else 1, sharey=True, squeeze=False)[0]
    chosen = colours(len(groups))
    for panel, name in zip(panels, ("seconds", "parameters"), strict=False):
        numbers = []
        for place, (group, colour) in enumerate(zip(groups, chosen, strict=True)):
            values = getattr(group, name)
            numbers += values
            marker, size = ("*", 13) if place == 0 else ("o", 6)
            style = {"color": colour or PALE, "markersize": size, "zorder": 4 - min(place, 2) if colour else 1}
            panel.plot(values, group.accuracies, marker, alpha=0.85, markeredgecolor="white", **style)
        if numbers and min(numbers) > 0 and max(numbers) > 10 * min(numbers):
            panel.set_xscale("log")
            _plain_ticks(panel.xaxis)
        panel.grid(alpha=0.3)
    panels[0].set(xlabel="fit time (s)", ylabel=f"{quantity} (%)")
    if by_size:
        panels[1].set(xlabel="parameters (trained numbers)")
    return figure


def svg(figure: Figure) -> bytes:
    """The content of an SVG file, with text as paths so that it looks the same everywhere."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # a box stands for it
        FigureCanvasSVG(figure).print_svg(content)
    return content.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as the content of a PDF file without a date, fonts embedded as TrueType, as publishers ask."""
    content = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        FigureCanvasPdf(figure).print_pdf(content, metadata={"CreationDate": None})
    return content.getvalue()


def _short(text: str, most: int = 64) -> str:
    return _plain(text if len(text) <= most else f"{text[: most - 1]}…")


def _plain(text: str) -> str:
    """The text for matplotlib to show as it is: no formula, no hidden label, no letter that cannot be drawn."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


Reach = tuple[float, float] | None
"""Lower and upper end of an interval, in points."""


def differences(
    names: Sequence[str], means: Sequence[float], seeds: Sequence[Reach], images: Sequence[Reach], lowest: float
) -> Figure:
    """Differences in points of test accuracy, first at the top; a thick line over seeds, a thin one over images too.

    A mean below `lowest` would flatten all others: it becomes a triangle at the edge, with its number.
    """
    figure = sized_figure(7.0, 1.3 + 0.42 * len(names))
    axes = figure.subplots()
    reached = [
        low for mean, *both in zip(means, seeds, images, strict=True) if mean >= lowest for low, _ in filter(None, both)
    ]
    edge = min([mean for mean in means if mean >= lowest] + reached + [0.0])
    far = edge - 0.04 * max(-edge, 0.1)
    for place, (mean, inner, outer) in enumerate(zip(means, seeds, images, strict=True)):
        if mean < lowest:
            axes.plot(far, -place, "<", color=ORANGE, markersize=8, clip_on=False, zorder=3)
            axes.annotate(f"{mean:.1f}", (far, -place), (8, 0), textcoords="offset points", va="center", fontsize=8)
            continue
        for reach, shift, colour, width in ((inner, 0.1, GREY, 4.0), (outer, -0.1, BLUE, 1.6)):
            if reach is not None:
                axes.plot(reach, [-place + shift] * 2, color=colour, linewidth=width, solid_capstyle="butt")
        axes.plot(mean, -place, "o", color="black", markersize=5, zorder=3)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks([-place for place in range(len(names))], names)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_xlabel("difference to the best, points of test accuracy")
    axes.plot([], [], color=GREY, linewidth=4.0, label="95 %, other seeds")
    axes.plot([], [], color=BLUE, linewidth=1.6, label="95 %, other seeds and images")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=9, frameon=False)
    axes.grid(axis="x", alpha=0.3)
    return figure
