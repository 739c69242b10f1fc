"""The figure of predicted pictures: each one, what the net saw of it, and ten bars."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from mnist_mlp.plots.run import BLUE, DIGITS, DPI

MOST = 24
COLUMNS = 2


@dataclass(frozen=True)
class Shown:
    """title: the file; picture: (height, width, 3) uint8; pixels: (28, 28) uint8; probabilities: (10,)."""

    title: str
    picture: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    probabilities: Sequence[float]


def predictions_figure(shown: Sequence[Shown], total: int) -> Figure:
    """The first MOST of them, two to a line; total: how many there were, which the title says."""
    shown = shown[:MOST]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(6.3 * columns, 1.95 * rows + 0.45), dpi=DPI, layout="constrained", facecolor="white")
    figure.suptitle("Picture, what the net saw, and probability of each digit" + _how_many(len(shown), total))
    parts = np.ravel(figure.subfigures(rows, columns, wspace=0.03, squeeze=False))
    for part, item in zip(parts, shown, strict=False):
        _draw(part, item)
    return figure


def _how_many(shown: int, total: int) -> str:
    return f" ({shown} of {total})" if total > shown else ""


def _draw(part: SubFigure, item: Shown) -> None:
    picture, seen, bars = part.subplots(1, 3, width_ratios=(1, 1, 1.6))
    picture.imshow(item.picture)
    seen.imshow(item.pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for axes in (picture, seen):
        axes.set(xticks=[], yticks=[])
    probabilities = np.asarray(item.probabilities)
    winner = int(probabilities.argmax())
    bars.bar(list(DIGITS), probabilities, color=[BLUE if digit == winner else "#b3bcc8" for digit in DIGITS])
    bars.set(xticks=list(DIGITS), yticks=[], ylim=(0, 1.18))
    bars.tick_params(length=0)
    bars.spines[["top", "left", "right"]].set_visible(False)
    bars.text(winner, probabilities[winner] + 0.03, f"{100 * probabilities[winner]:.1f} %", ha="center", fontsize=9)
    part.suptitle(_shortened(item.title), fontsize=9.5)


def _shortened(title: str, longest: int = 60) -> str:
    return title if len(title) <= longest else f"…{title[-longest + 1 :]}"
