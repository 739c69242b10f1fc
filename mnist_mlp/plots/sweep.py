"""Figures that compare runs, for publications and for pages without scripts: arrays in, matplotlib Figure out."""

import io
import itertools
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mnist_mlp.plots.run import BLUE, GREEN, GREY, ORANGE, sized_figure
from mnist_mlp.runs.predictions import Curves, band, shared_epochs

PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D00")
FIRST, LAST = 5, 2
"""Number of best and of worst groups that are colored if there are more groups than colors."""
PALE = "#C8C8C8"  # gray
MAX_LOSS = 10.0
WIDTH = 10.9  # inches; slightly less than the width of the page


def group_colors(count: int) -> list[str | None]:
    """Colors for `count` groups, best first; None for groups drawn in gray."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [*PALETTE[:FIRST], *[None] * (count - FIRST - LAST), *PALETTE[FIRST : FIRST + LAST]]


def axis_ticks(low: float, high: float) -> list[float]:
    """Round numbers for an axis, the first at or below `low`, the last at or above `high`."""
    return list(map(float, MaxNLocator(4).tick_values(low, high)))


def learning_curves(groups: Sequence[tuple[str, Sequence[Curves]]]) -> Figure:
    """Draw mean accuracy and loss per epoch over seeds: training dashed, validation (else test) solid.

    Bands show ± one standard deviation; means over fewer runs, after others have ended, are dotted. The loss axis is
    logarithmic if losses span more than a factor of 20; exploded losses are cut off.

    Args:
        groups: Name and curves of runs that differ only in their seed, best group first.
    """
    figure = sized_figure(WIDTH, 4.6, layout="constrained")
    left, right = figure.subplots(1, 2)
    colors = group_colors(len(groups))
    held_out = ["val" if any("val/loss" in run for run in curves) else "test" for _, curves in groups]
    in_front = sorted(zip(groups, colors, held_out, strict=True), key=lambda drawn: drawn[1] is not None)
    panels = ((left, "accuracy", 100.0), (right, "loss", 1.0))
    for group, (axes, name, scale), is_training in itertools.product(in_front, panels, (True, False)):
        (_, runs), color, split = group
        column = f"{'train' if is_training else split}/{name}"
        values = [run[column] for run in runs if column in run]
        points, shared = np.array(band(values), dtype=float), shared_epochs(values)
        if not np.isfinite(points).any():
            continue
        mean, deviation = scale * points.T
        epochs = np.arange(1, len(mean) + 1)
        style: dict[str, Any] = {"ls": "--" if is_training else "-", "color": color or PALE, "lw": 0.9, "zorder": 1}
        if color is not None:
            style |= {"marker": "." if len(mean) <= 15 else "", "lw": 1.0 if is_training else 1.6, "zorder": 3}
        axes.plot(epochs[:shared], mean[:shared], **style)
        if np.isfinite(mean[shared:]).any():
            axes.plot(epochs[shared:], mean[shared:], **style | {"ls": ":", "lw": 0.9})
        if color is not None and not is_training:
            deviation[shared:] = np.nan
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.13, linewidth=0)
    left.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    right.set(xlabel="epoch", ylabel="cross-entropy loss (nats per image)", title="Loss")
    losses = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in right.lines] or [np.zeros(0)])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if len(losses):
        if losses.max() > MAX_LOSS:
            right.set_title("Loss (exploded losses are cut off)")
        low, top = losses.min(), min(losses.max() * 1.1, MAX_LOSS)
        if top > 20 * low:
            right.set_yscale("log")
            right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            right.yaxis.set_major_formatter("{x:,g}")
            right.yaxis.set_minor_formatter(NullFormatter())
        right.set_ylim(0.8 * low if top > 20 * low else 0, top)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    names = [(color, 3.0, "-", _plain(label, 64)) for (label, _), color in zip(groups, colors, strict=True) if color]
    names = [entry for entry in names if entry[3]]
    if hidden := colors.count(None):
        names.append((PALE, 3.0, "-", f"{hidden} groups in between"))
    splits = {"val": "validation", "test": "test (not for selection)"}
    names += [("#333", 1.5, "-", splits[split]) for split in dict.fromkeys(held_out)]
    names.append(("#333", 1.5, "--", "training (mean over the steps of the epoch)"))
    names += (
        [("#333", 0.9, ":", "mean over fewer runs, as others ended")]
        if any(line.get_ls() == ":" for line in left.lines)
        else []
    )
    handles = [Line2D([], [], color=color, lw=width, ls=line, label=label) for color, width, line, label in names]
    columns = max(1, min(len(names), 130 // (max(len(label) for *_, label in names) + 8)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    return figure


VERDICT_COLORS = {"best": BLUE, "better": GREEN, "worse": ORANGE}
MAX_VERDICT = 40
Interval = tuple[float, float] | None
"""Lower and upper limit in percentage points."""


def differences(
    names: Sequence[str], means: Sequence[float], seeds: Sequence[Interval], images: Sequence[Interval], lowest: float,
    verdicts: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw differences in percentage points of test accuracy with their 95 % intervals, first at the top.

    Args:
        names: Names of the settings.
        means: Differences to the best.
        seeds: Intervals over seeds, drawn thick.
        images: Intervals over seeds and images, drawn thin.
        lowest: Means below are drawn as triangles at the edge with their value.
        verdicts: Texts at the right, whose first word colors the dot and the text.
    """
    colors = [VERDICT_COLORS.get(re.split(r"\W", text)[0], GREY) for text in verdicts] or ["black"] * len(names)
    figure = sized_figure(10.0 if verdicts else 7.0, 1.3 + 0.42 * len(names), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    shown = [row for row, mean in enumerate(means) if mean >= lowest]
    for intervals, shift, color, width, label in (
        (seeds, 0.1, GREY, 4.0, "95 % interval over seeds"),
        (images, -0.1, BLUE, 1.6, "95 % interval over seeds and images"),
    ):
        axes.plot([], [], color=color, linewidth=width, label=label)
        for row in shown:
            if (interval := intervals[row]) is not None:
                axes.plot(interval, [shift - row] * 2, color=color, linewidth=width, solid_capstyle="butt")
    for row in shown:
        axes.plot(means[row], -row, "o", color=colors[row], markersize=8 if verdicts else 5, zorder=3)
    edge = axes.get_xlim()[0]
    axes.set_xlim(left=edge)
    for row in [row for row in range(len(names)) if row not in shown]:
        axes.plot(edge, -row, "<", color=ORANGE, markersize=8, clip_on=False, zorder=3)
        axes.annotate(f"{means[row]:.1f}", (edge, -row), (8, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks([-row for row in range(len(names))], [_plain(name) for name in names])
    axes.set_ylim(-len(names) + 0.4, 0.6)
    beside = axes.get_yaxis_transform()
    for row, text in enumerate(verdicts):
        axes.text(1.02, -row, _plain(text, MAX_VERDICT), transform=beside, color=colors[row], va="center", size=9)
    note = "; verdicts, not intervals, are adjusted for all pairs" if verdicts and len(names) > 2 else ""
    axes.set_xlabel(f"difference to the best, points of test accuracy{note}")
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    axes.grid(axis="x", alpha=0.3)
    return figure


def svg(figure: Figure) -> bytes:
    """Render a figure as SVG, with text as paths to look the same everywhere."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # drawn as a box
        FigureCanvasSVG(figure).print_svg(content)
    return content.getvalue()


def pdf(figure: Figure) -> bytes:
    """Render a figure as PDF without a date, with TrueType fonts as publishers require."""
    content = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        FigureCanvasPdf(figure).print_pdf(content, metadata={"CreationDate": None})
    return content.getvalue()


def _plain(text: str, max_length: int | None = None) -> str:
    """Escape text for matplotlib: no math, no hidden label, no unprintable character."""
    text = text if max_length is None or len(text) <= max_length else f"{text[: max_length - 1]}…"
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
