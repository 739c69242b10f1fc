"""The figures of one run: arrays in, matplotlib Figure out. Only this room imports matplotlib.

Figures are made without pyplot: nothing is left open and no display is needed. Colours are Okabe and Ito's, maps are
one-hued, so that no reading depends on telling red from green.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure as Figure
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.generic]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#888888"
DPI = 110
DIGITS = range(10)
FEW = 10


def confusion(matrix: Array, title: str, normalize: bool = False) -> Figure:
    """Heat map of a (10, 10) confusion matrix, rows are truth, columns predictions; normalize shows rows in percent.

    The colour grows with the fourth root, or a handful of mistakes would look like none beside a thousand hits.
    """
    counts = np.asarray(matrix, dtype=float)
    shown = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1) if normalize else counts
    figure, axes = _figure(6.6, 5.8)
    top = 100.0 if normalize else max(shown.max(), 1.0)
    norm = PowerNorm(0.25, vmin=0, vmax=top)
    image = axes.imshow(shown, cmap="Blues", norm=norm)
    for row in DIGITS:
        for column in DIGITS:
            value = shown[row, column]
            if value:
                text = f"{value:.1f}" if normalize else f"{int(value)}"
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if norm(value) > 0.6 else "#222",
                    in_layout=False,  # the layout would measure all hundred texts, which takes most of the drawing time
                )
    axes.set(xticks=list(DIGITS), yticks=list(DIGITS), xlabel="predicted digit", ylabel="true digit")
    axes.set_xticks(np.arange(-0.5, 10), minor=True)
    axes.set_yticks(np.arange(-0.5, 10), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.set_title(title)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label("% of the true digit's images" if normalize else "images")
    bar.set_ticks([tick for tick in (0, 1, 10, 100, 1000) if tick <= top])
    bar.ax.minorticks_off()
    return figure


def class_bars(f1: Sequence[float], title: str) -> Figure:
    """Bars of the F1 of each digit; the axis starts just below the lowest."""
    values = np.asarray(f1, dtype=float)
    figure, axes = _figure(6.6, 3.8)
    bars = axes.bar(list(DIGITS), values, color=BLUE, width=0.72)
    axes.bar_label(bars, labels=[f"{value:.3f}" for value in values], fontsize=8.5, padding=2)
    low = max(0.0, np.floor(10 * (values.min() - 0.02)) / 10) if values.min() < 0.95 else 0.9
    axes.set(xticks=list(DIGITS), ylim=(low, 1 + 0.06 * (1 - low)), xlabel="digit", ylabel="F1")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_title(f"{title}, macro F1 {values.mean():.4f}")
    return figure


def calibration(truth: Array, probabilities: Array, title: str, bins: int = 15) -> Figure:
    """Accuracy over the confidence of the predicted digit, in equal bins, with the number of images in each.

    truth: (n,) digits; probabilities: (n, 10). The gap, weighted by images, is the expected calibration error.
    """
    confidence = np.asarray(probabilities, dtype=float).max(1)
    right = np.asarray(probabilities).argmax(1) == np.asarray(truth)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(place, right, bins) / count
        mean = np.bincount(place, confidence, bins) / count
    error = np.nansum(np.abs(accuracy - mean) * count) / max(count.sum(), 1)
    figure = sized_figure(6.2, 5.6)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfectly calibrated")
    many = count >= FEW
    axes.plot(mean[many], accuracy[many], "o-", color=BLUE, label="this model")
    axes.plot(
        mean[~many], accuracy[~many], "o", color=BLUE, fillstyle="none", alpha=0.5, label=f"fewer than {FEW} images"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="part that is right")
    axes.set_title(f"{title}: expected calibration error {100 * error:.2f} %")
    axes.legend(loc="upper left", fontsize=9)
    axes.grid(alpha=0.3)
    below.bar((np.arange(bins) + 0.5) / bins, count, width=0.9 / bins, color=BLUE)
    below.set(yscale="log", ylim=(0.8, None), ylabel="images", xlabel="confidence (probability of the predicted digit)")
    return figure


def gallery(images: Array, captions: Sequence[str], title: str, columns: int = 8) -> Figure:
    """Digits with a caption under each. images: (n, 28, 28) uint8; n may be 0."""
    if not len(images):
        figure, axes = _figure(4, 1.2)
        axes.axis("off")
        axes.set_title(title)
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
        return figure
    columns = min(columns, len(images))
    step_x, step_y = 36, 42
    rows = -(-len(images) // columns)
    canvas = np.zeros((rows * step_y, columns * step_x))
    figure, axes = _figure(max(4.0, columns * 1.05), rows * 1.25 + 0.4)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        top, left = (place // columns) * step_y, (place % columns) * step_x
        canvas[top : top + 28, left + 4 : left + 32] = image
        axes.text(left + step_x / 2 - 0.5, top + 29.5, caption, ha="center", va="top", fontsize=9)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.axis("off")
    axes.set_title(title)
    return figure


def first_layer(weights: Array, title: str, most: int = 64) -> Figure:
    """The first layer as 28 x 28 images on one scale: its units with the largest norms. weights: (units, 784)."""
    values = np.asarray(weights, dtype=float)
    chosen = np.sort(np.argsort(-np.linalg.norm(values, axis=1), kind="stable")[:most])
    columns = min(16, len(chosen))
    rows = -(-len(chosen) // columns)
    canvas = np.full((rows * 30, columns * 30), np.nan)
    for place, unit in enumerate(chosen):
        top, left = (place // columns) * 30 + 1, (place % columns) * 30 + 1
        canvas[top : top + 28, left : left + 28] = values[unit].reshape(28, 28)
    figure, axes = _figure(max(5.0, columns * 0.58 + 1.1), rows * 0.6 + 0.7)
    scale = np.abs(values[chosen]).max() or 1.0
    image = axes.imshow(canvas, cmap="PuOr", vmin=-scale, vmax=scale, interpolation="nearest")
    axes.axis("off")
    shown = f"the {len(chosen)} strongest of {len(values)} units" if len(values) > most else f"{len(values)} units"
    axes.set_title(f"{title}: {shown}")
    figure.colorbar(image, ax=axes, shrink=0.9, pad=0.015).set_label("weight")
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """The drawn figure as (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(image: NDArray[np.uint8]) -> bytes:
    """A drawn figure as the content of a PNG file. image: (height, width, 3)."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="png")
    return content.getvalue()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Width and height in inches."""
    figure = sized_figure(width, height)
    return figure, figure.subplots()


def sized_figure(width: float, height: float) -> Figure:
    """An empty figure without pyplot; width and height in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
