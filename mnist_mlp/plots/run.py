"""Figures of one run: arrays in, matplotlib Figure out; `png` encodes them.

Each job draws five, so they use few artists (a text takes 0.3 ms, a labeled tick 2 ms), fixed margins and one
image per grid of digits.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Figure
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.console import shortened
from mnist_mlp.datasets import DIGITS, class_noun
from mnist_mlp.runs.predictions import Curves
from mnist_mlp.runs.result import decimal

Array = NDArray[Any]
Names = Sequence[str]

SIZE, DPI = (8.0, 4.5), 100
"""Width and height in inches (16:9, as slides), and pixels per inch."""
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#888888"
PALE_TEXT = "#5a5a5a"
SPLITS = (("train", "training", BLUE), ("val", "validation", ORANGE), ("test", "test (not for selection)", GREEN))
MAX_MARKED_EPOCHS = 40
"""Longer curves are drawn without a marker at each epoch."""
MIN_BIN_IMAGES = 10
"""Calibration bins with fewer images are drawn hollow and excluded from the line."""
SIDE = 28  # pixels
GRID_COLUMNS, GRID_ROWS = 5, 4
MISTAKE_COLUMNS = 8
MAX_MISTAKES = 96
"""If there are more, only the most confident are shown."""
MAX_PREDICTIONS = 24
MAX_BARS = 5  # classes per picture, if not all are shown
MAX_NAME = 11  # characters; longer names of classes are shortened
MAX_LABELED = 64  # with more classes, not every one is named and no count is printed


def png(figure: Figure) -> bytes:
    """Render an opaque figure as PNG."""
    content, canvas = io.BytesIO(), FigureCanvasAgg(figure)
    with rc_context({"text.hinting": "none"}):  # saves a sixth of the time
        canvas.draw()  # savefig would draw twice
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # a quarter less to compress
    image.save(content, "PNG", compress_level=1, dpi=(DPI, DPI))  # a third of level 6's time for a third more bytes
    return content.getvalue()


class DisplayedFigure(Figure):
    """A figure that notebooks display although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return png(self)


def sized_figure(width: float = SIZE[0], height: float = SIZE[1], **options: Any) -> Figure:
    """Create an empty white figure without pyplot; width and height in inches."""
    return DisplayedFigure(figsize=(width, height), dpi=DPI, facecolor="white", **options)


def _label(axes: Axes, title: str, x: str, y: str = "", left: float = 0.06, below: float = 0.085) -> None:
    """Set title and labels at fixed distances; automatic placement lays out every tick label three times."""
    box, figure = axes.get_position(), axes.figure
    axes.set_title(title, y=1.0, pad=7, size=11, parse_math=False)
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.set_label_coords((box.x0 + box.x1) / 2, box.y0 - below, figure.transSubfigure)
    axes.yaxis.set_label_coords(box.x0 - left, (box.y0 + box.y1) / 2, figure.transSubfigure)


def learning_curves(curves: Curves, best_epoch: int | None, figure: Any = None) -> Figure:
    """Draw accuracy and loss per epoch and split, and mark the epoch of the selected checkpoint.

    Axis limits cover the second epoch onwards; the first may lie outside. best_epoch: from 1; figure: a SubFigure to
    draw in.
    """
    figure = figure or sized_figure()
    panels = figure.subplots(1, 2, gridspec_kw={"left": 0.08, "right": 0.98, "top": 0.84, "bottom": 0.12})
    epochs = np.asarray(curves.get("epoch", ()), dtype=float)
    marker = "." if len(epochs) <= MAX_MARKED_EPOCHS else ""
    for axes, name, scale in zip(panels, ("accuracy", "loss"), (100, 1), strict=True):
        shown = [np.zeros(0)]
        for split, label, color in SPLITS:
            values = scale * np.asarray(curves.get(f"{split}/{name}", ()), dtype=float)
            if np.isfinite(values).any():
                axes.plot(epochs, values, marker=marker, ls="-", color=color, label=label)
                shown.append(values[1:] if len(values) > 2 else values)
        known = np.concatenate(shown)
        known = known[np.isfinite(known)]
        if len(known):
            margin = 0.06 * float(np.ptp(known)) or 0.5
            axes.set_ylim(max(0.0, known.min() - margin), known.max() + margin)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=PALE_TEXT, ls="--", lw=1, label=f"selected checkpoint, epoch {best_epoch}")
        _label(axes, "Accuracy (%)" if name == "accuracy" else "Loss (nats per image)", "epoch")
        axes.locator_params("x", integer=True, nbins=6)
        axes.locator_params("y", nbins=6)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
    return figure  # type: ignore[no-any-return]


def _shown(classes: Names) -> tuple[list[str], bool]:
    """Shorten the names of classes; return them, and whether they are too wide to be shown side by side."""
    names = [shortened(name, MAX_NAME, "…") for name in classes]
    return names, len(names) > len(DIGITS) or max(map(len, names)) > 2


def confusion(
    matrix: Array, title: str, min_fraction: float = 0.0, classes: Names = DIGITS, figure: Any = None
) -> Figure:
    """Draw a confusion matrix of counts; rows are true classes, columns predictions.

    Color is the fourth root of the fraction of the row, which keeps few mistakes visible next to many hits.

    min_fraction: cells below this fraction of their row have no count printed; figure: a SubFigure to draw in.
    """
    counts = np.asarray(matrix, dtype=float)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    (names, is_wide), noun, labeled = _shown(classes), class_noun(classes), min(len(classes), MAX_LABELED)
    width, height, longest = max(SIZE[0], 0.3 * labeled), max(SIZE[1], 0.18 * labeled), max(map(len, names))
    left, below = (1.1 + 0.09 * longest, 1.0 + 0.08 * longest) if is_wide else (1.04, 0.765)  # inches
    figure = figure or sized_figure(width, height)
    axes = figure.add_axes((left / width, below / height, 1 - (left + 0.16) / width, 1 - (below + 0.405) / height))
    axes.imshow(fractions**0.25, cmap="Blues", vmin=0, vmax=1.05, aspect="auto", interpolation="nearest")
    for row, column in zip(*np.nonzero(counts * (fractions >= min_fraction) * (len(names) == labeled)), strict=True):
        color = "white" if fractions[row, column] > 0.15 else "black"
        axes.text(column, row, f"{counts[row, column]:.0f}", color=color, ha="center", va="center", size=9)
    recall, precision = (np.diag(counts) / np.maximum(counts.sum(axis), 1) for axis in (1, 0))
    for label in range(0, len(names), -(-len(names) // MAX_LABELED)):
        name, hits = names[label], f"{100 * precision[label]:.1f} %"
        axes.text(-0.6, label, f"{100 * recall[label]:.1f} %   {name}", ha="right", va="center", parse_math=False)
        under, rotation = (f"{hits}   {name}", 90) if is_wide else (f"{name}\n{hits}", 0)
        axes.text(label, len(names) - 0.4, under, ha="center", va="top", rotation=rotation, parse_math=False)
    axes.set(xticks=[], yticks=[])
    below, left = (below - 0.18) / height, (left - 0.24) / width
    _label(axes, title, f"predicted {noun}, precision", f"recall, true {noun}", left, below)
    return figure  # type: ignore[no-any-return]


def overview(curves: Curves, best_epoch: int | None, matrix: Array, title: str, classes: Names) -> Figure:
    """Draw learning curves, and below them the confusion matrix; arguments as for these two."""
    scale = max(1.0, len(classes) / 25)
    figure = sized_figure(scale * SIZE[0], 2 * scale * SIZE[1])
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    learning_curves(curves, best_epoch, upper)
    confusion(matrix, title, classes=classes, figure=lower)
    return figure


def class_bars(f1: Sequence[float], split: str, labels: Sequence[int] = range(10), classes: Names = DIGITS) -> Figure:
    """Draw the F1 score of these classes on a split as bars; the axis starts just below the lowest."""
    values, (names, is_wide) = np.asarray(f1, dtype=float)[list(labels)], _shown(classes)
    width, is_crowded, noun = max(SIZE[0], 0.24 * min(len(names), MAX_LABELED)), len(names) > 16, class_noun(classes)
    below = (0.5 + 0.08 * max(map(len, names))) / SIZE[1] if is_wide else 0.12
    figure = sized_figure(width)
    axes = figure.add_axes((0.8 / width, below, 1 - 0.96 / width, 0.9 - below))
    bars = axes.bar(labels, values, color=BLUE)
    if len(names) <= MAX_LABELED:
        axes.bar_label(bars, fmt="%.3f", padding=2, rotation=90 * is_crowded)
    low = max(0.0, np.floor(10 * (values.min() - 0.02)) / 10) if values.min() < 0.95 else 0.9
    axes.set(xticks=[], ylim=(low, 1 + (0.25 if is_crowded else 0.06) * (1 - low)))
    axes.locator_params("y", nbins=5)
    height = low - 0.02 * (1 - low)
    for label in labels[:: -(-len(names) // MAX_LABELED)]:
        axes.text(label, height, names[label], ha="center", va="top", rotation=90 * is_wide, parse_math=False)
    title = f"F1 of each {noun} on {split}, macro F1 {values.mean():.4f}"
    _label(axes, title, noun, "F1", 0.56 / width, below - 0.035)
    return figure


def calibration(
    truth: Array, probabilities: Array, title: str, classes: Names = DIGITS, error: float | None = None,
    width: float = SIZE[0],
) -> Figure:  # fmt: skip
    """Draw a reliability diagram with 15 bins of equal width, and the number of images per bin.

    The title has the expected calibration error (Guo et al., 2017). truth: (n,) classes; probabilities: (n, classes);
    error: the reported one, which float32 sums may change in the fifth decimal; by default that of these probabilities;
    width: in inches.
    """
    bins = 15
    confidence = np.asarray(probabilities, dtype=float).max(1)
    correct = np.asarray(probabilities).argmax(1) == np.asarray(truth)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = np.maximum(count, 1)
    accuracy, mean = np.bincount(index, correct, bins) / filled, np.bincount(index, confidence, bins) / filled
    if error is None:
        error = float(np.abs(accuracy - mean) @ count) / max(int(count.sum()), 1)
    figure = sized_figure(width)
    margins = {"left": 0.8 / width, "right": 1 - 0.16 / width, "top": 0.91, "bottom": 0.12, "hspace": 0.08}
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), gridspec_kw=margins)
    many, few = count >= MIN_BIN_IMAGES, (count > 0) & (count < MIN_BIN_IMAGES)
    upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
    upper.plot(mean[many], accuracy[many], "o-", color=BLUE, label="this model")
    upper.plot(mean[few], accuracy[few], "o", color=BLUE, mfc="white", label=f"fewer than {MIN_BIN_IMAGES} images")
    upper.set(xlim=(0, 1), ylim=(-0.05, 1.05), xticks=[], yticks=[0, 0.5, 1])
    _label(upper, f"{title}: expected calibration error {decimal(error)}", "", "fraction correct", left=0.6 / width)
    upper.legend(loc="upper left", frameon=False)
    lower.bar((np.arange(bins) + 0.5) / bins, count, 0.9 / bins, color=BLUE)
    top = 2 * max(int(count.max(initial=0)), 5)
    lower.set(xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1], ylim=(0.7, top), yscale="log")
    _label(lower, "", f"probability of the predicted {class_noun(classes)}", "images", left=0.6 / width)
    lower.minorticks_off()
    lower.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def digit_grids(images: Array, truth: Array, predicted: Array, probabilities: Array, classes: Names = DIGITS) -> Figure:
    """Draw the most confident mistakes next to correct predictions of every confidence.

    images: (n, 28, 28) uint8; truth, predicted: (n,) classes; probabilities: (n, classes).
    """
    (names, is_wide), noun = _shown(classes), class_noun(classes)
    rows, height, arrow, space = (GRID_ROWS - 1, 54, "\n→ ", "\n") if is_wide else (GRID_ROWS, 42, "→", " ")
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    is_correct = (predicted == truth)[order]
    incorrect, correct = order[~is_correct], order[is_correct]
    size = GRID_COLUMNS * rows
    spread = correct[np.linspace(0, len(correct) - 1, min(size, len(correct))).astype(int)]
    figure = sized_figure()
    margins = {"left": 0.01, "right": 0.99, "top": 0.87, "bottom": 0.02, "wspace": 0.04}
    panels = figure.subplots(1, 2, gridspec_kw=margins)
    titles = (
        f"Most confident mistakes ({len(incorrect):,} of {len(truth):,})\ntrue → predicted, probability",
        f"Correct predictions, from most to least confident\n{noun}, probability",
    )
    for axes, chosen, title in zip(panels, (incorrect[:size], spread), titles, strict=True):
        captions = [
            (f"{names[truth[n]]}{arrow}" if predicted[n] != truth[n] else "")
            + f"{names[predicted[n]]}{space}{100 * confidence[n]:.0f} %"
            for n in chosen
        ]
        _draw_grid(axes, images[chosen], captions, GRID_COLUMNS, rows, (36, height))
        _label(axes, title, "")
    return figure


def mistakes(
    images: Array, truth: Array, probabilities: Array, indices: Array, title: str, classes: Names = DIGITS
) -> Figure:
    """Draw the misclassified images, most confident first, each with the probabilities of the classes.

    images: (n, 28, 28) uint8; truth: (n,) classes; probabilities: (n, classes); indices: (n,) in the split's file.
    """
    (names, is_wide), count, noun = _shown(classes), len(classes), class_noun(classes)
    predicted = probabilities.argmax(1)
    incorrect = np.flatnonzero(predicted != truth)
    shown = incorrect[np.argsort(-probabilities[incorrect, predicted[incorrect]], kind="stable")][:MAX_MISTAKES]
    rows = max(1, -(-len(shown) // MISTAKE_COLUMNS))
    cell = width, height = 44, 76 if is_wide else 66
    figure = sized_figure(SIZE[0], 0.8 + rows * height * SIZE[0] / MISTAKE_COLUMNS / width)
    axes = figure.add_axes((0, 0, 1, 1 - 0.8 / figure.get_figheight()))
    colon, arrow = ("\n", "\n→ ") if is_wide else (": ", " → ")
    captions = [
        f"#{indices[n]:,}{colon}{names[truth[n]]}{arrow}{names[predicted[n]]}\n"
        f"{100 * probabilities[n, truth[n]]:.0f} % → {100 * probabilities[n, predicted[n]]:.0f} %"
        for n in shown
    ]
    corners = _draw_grid(axes, images[shown], captions, MISTAKE_COLUMNS, rows, cell)
    left, base = corners[:, 0] + 2, corners[:, 1] + height - 5
    labels, step = np.arange(count), 40 / count
    x, tops = left[:, None] + step * (labels + 0.5), base[:, None] - 14 * probabilities[shown]
    is_true, is_predicted = (labels == chosen[shown, None] for chosen in (truth, predicted))
    colors: list[str] = np.where(is_true, BLUE, np.where(is_predicted, ORANGE, GREY)).ravel().tolist()
    axes.vlines(x.ravel(), np.repeat(base, count), tops.ravel(), colors, lw=max(step, 1))
    for i, n in () if is_wide else enumerate(shown):
        for label, color in ((truth[n], BLUE), (predicted[n], ORANGE)):
            axes.text(x[i, label], base[i] + 0.5, names[label], color=color, ha="center", va="top", size=6)
    some = "" if len(shown) == len(incorrect) else f"; the {len(shown)} most confident"
    span = ", 0 to 9" if noun == "digit" else ""
    note = f"index in the file; true (blue) → predicted (orange) {noun}; probability of each {noun}{span}"
    heading = f"{title}: {len(incorrect):,} of {len(truth):,} images misclassified{some}"
    figure.text(0.02, 1 - 0.2 / figure.get_figheight(), f"{heading}\n{note}", va="top", size=10, parse_math=False)
    return figure


def _draw_grid(
    axes: Axes, images: Array, captions: Sequence[str], columns: int, rows: int, cell: tuple[int, int]
) -> NDArray[np.int64]:
    """Draw images (n, 28, 28) as one, row by row, with captions below; return each cell's upper left corner (n, 2).

    cell: width and height, in axes units.
    """
    width, height = cell
    sheet = np.full((rows * columns, height, width), 255, np.uint8)
    left = (width - SIDE) // 2
    sheet[: len(images), 1 : 1 + SIDE, left : left + SIDE] = 255 - np.asarray(images, np.uint8)
    joined = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    extent = (0, columns * width, rows * height, 0)
    axes.imshow(joined, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    axes.set_axis_off()
    corners = np.array([(n % columns * width, n // columns * height) for n in range(len(images))], int).reshape(-1, 2)
    for (x, y), caption in zip(corners, captions, strict=True):
        axes.text(x + width / 2, y + SIDE + 3, caption, ha="center", va="top", size=7, parse_math=False)
    if not captions:
        axes.text(2, 2, "none", va="top", color=PALE_TEXT)
    return corners


def predictions_figure(
    titles: Names, pictures: Sequence[Array], pixels: Sequence[Array], probabilities: Array, classes: Names = DIGITS
) -> Figure:
    """Draw the first MAX_PREDICTIONS pictures, the network's input for each, and the (highest) probabilities.

    pictures: each (height, width, 3) uint8; pixels: each (28, 28) uint8; probabilities: (n, classes).
    """
    names, is_wide = _shown(classes)
    shown = "highest probabilities" if is_wide else f"probability of each {class_noun(classes)}"
    count = min(len(titles), MAX_PREDICTIONS)
    columns = min(2, count)
    rows = -(-count // columns)
    figure = sized_figure(6.3 * columns, 1.95 * rows + 0.45, layout="constrained")
    some = f" ({count} of {len(titles)})" if len(titles) > count else ""
    figure.suptitle(f"Picture, network input, and {shown}{some}")
    cells = np.ravel(figure.subfigures(rows, columns, wspace=0.03, squeeze=False))[:count]
    for cell, title, picture, digit_pixels, values in zip(cells, titles, pictures, pixels, probabilities, strict=False):
        left, middle, bars = cell.subplots(1, 3, width_ratios=(1, 1, 1.6))
        left.imshow(picture)
        middle.imshow(digit_pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        for axes in (left, middle):
            axes.set(xticks=[], yticks=[])
        winner = int(np.argmax(values))
        if is_wide:
            top = np.argsort(-values, kind="stable")[:MAX_BARS]
            drawn = bars.barh(np.arange(len(top)), values[top], color=[BLUE] + ["#b3bcc8"] * (len(top) - 1))
            bars.bar_label(drawn, [f"{100 * values[label]:.1f} %" for label in top], padding=3, size=9)
            bars.set(xticks=[], xlim=(0, 1.5), ylim=(len(top) - 0.5, -0.5))
            bars.set_yticks(np.arange(len(top)), [names[label] for label in top], parse_math=False)
            bars.spines[["top", "bottom", "right"]].set_visible(False)
        else:
            bars.bar(names, values, color=[BLUE if label == winner else "#b3bcc8" for label in range(len(names))])
            bars.set(yticks=[], ylim=(0, 1.18))
            bars.spines[["top", "left", "right"]].set_visible(False)
            bars.text(winner, values[winner] + 0.03, f"{100 * values[winner]:.1f} %", ha="center", size=9)
        bars.tick_params(length=0)
        cell.suptitle(title if len(title) <= 60 else f"…{title[-59:]}", size=9.5, parse_math=False)
    return figure
