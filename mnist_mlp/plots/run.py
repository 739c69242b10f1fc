"""The figures of one run, of the size of a slide: arrays in, matplotlib Figure out. Only this room imports matplotlib.

Figures are made without pyplot: nothing is left open and no display is needed. Colours are Okabe and Ito's, maps are
one-hued, so that no reading depends on telling red from green.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Figure
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.plots.slide import GRID, HEIGHT, INK, MARGIN, PALE_INK, WIDTH, Scale, Slide, plain
from mnist_mlp.runs.curves import Curves

Array = NDArray[np.generic]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#888888"
DPI = 110
DIGITS = range(10)
FEW = 10
SPLITS = (("train", "training", BLUE), ("val", "validation", ORANGE), ("test", "test (for plots only)", GREEN))
FEW_EPOCHS = 40
"""Curves of so many epochs have a dot at each."""
MOST_CHANGE = 1.7
"""By which a file of 256 colours may differ from the figure, of 255, in the mean. Matrices: 1.4, weights: 2.2."""
PNG_LEVEL = 4
"""Of zlib: a quarter smaller than by 1 for 2 ms; 6 takes 4 ms more and hardly makes a difference."""


def learning_curves(curves: Curves, best_epoch: int | None) -> Figure:
    """Accuracy and loss of each epoch, training beside validation, and where the chosen checkpoint lies.

    curves: columns of metrics.csv. The scales show the differences from the second epoch on; the first may lie outside.
    """
    there = [split for split in SPLITS if np.isfinite(_column(curves, split[0], "loss")).any()]
    slide = Slide("Learning curves")
    epochs = np.asarray(curves.get("epoch", ()), dtype=float)
    for (name, unit), left in zip((("accuracy", " %"), ("loss", "")), (190, 970), strict=True):
        panel = (left, 150.0, left + 570.0, 770.0)
        lines = [(_column(curves, split, name) * (100 if unit else 1), ink) for split, _, ink in there]
        _curve_panel(slide, panel, epochs, lines, name, unit, best_epoch)
    x = 190.0
    for _, label, ink in there:
        slide.lines([np.array([(x, 106), (x + 50, 106)])], ink, 5)
        slide.text(x + 64, 106, label)
        x += 110 + 14 * len(label)
    if best_epoch is not None:
        slide.lines([np.array([(x, 106), (x + 50, 106)])], PALE_INK, 2, "--")
        slide.text(x + 64, 106, f"chosen checkpoint, epoch {best_epoch}")
    return slide.done()


def _column(curves: Curves, split: str, name: str) -> NDArray[np.float64]:
    """The curve of a measure; all NaN where there is none."""
    return np.asarray(curves.get(f"{split}/{name}", [np.nan] * len(curves.get("epoch", ()))), dtype=float)


def _curve_panel(
    slide: Slide, panel: tuple[float, float, float, float], epochs: NDArray[np.float64],
    lines: Sequence[tuple[NDArray[np.float64], str]], name: str, unit: str, best_epoch: int | None,
) -> None:  # fmt: skip
    left, top, right, bottom = panel
    values = np.concatenate([line[1 if len(line) > 2 else 0 :] for line, _ in lines] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5
    first, last = (float(epochs.min()), float(epochs.max())) if len(epochs) else (1.0, 1.0)
    x = Scale(first, last, left + 20, right - 20) if last > first else Scale(first - 1, first + 1, left, right)
    y = Scale(max(0.0, low - room), min(100.0, high + room) if unit else high + room, bottom, top)
    ticks = y.ticks(6)
    slide.along(y, ticks, plain(ticks, unit), left, right, name)
    whole = [tick for tick in x.ticks(8, whole=True) if first <= tick <= last]
    slide.across(x, whole, [f"{tick:.0f}" for tick in whole], bottom, "epoch")
    slide.lines([np.array([(left, bottom), (right, bottom)])], PALE_INK)
    if best_epoch is not None:
        place = float(x(best_epoch))
        slide.lines([np.array([(place, top), (place, bottom)])], PALE_INK, 2, "--")
    for line, ink in lines:
        known = np.isfinite(line)
        points = np.column_stack((x(epochs[known]), y(line[known])))
        slide.lines([points], ink, 4, within=panel)
        if len(epochs) <= FEW_EPOCHS:
            inside = points[(points[:, 1] >= top) & (points[:, 1] <= bottom)]
            slide.dots(inside[:, 0], inside[:, 1], ink, 6)


def confusion(matrix: Array, title: str) -> Figure:
    """Heat map of a (10, 10) confusion matrix of counts, rows are truth, columns predictions.

    The second line of a cell is its part of the row, so on the diagonal recall, and decides the colour. That grows with
    the fourth root, or a handful of mistakes would look like none beside a thousand hits. Below is the precision.
    """
    counts = np.asarray(matrix, dtype=float)
    part, columns = counts / np.maximum(counts.sum(1, keepdims=True), 1), counts.sum(0)
    left, top, wide, high = 150, 96, 138, 66
    slide = Slide(title)
    shade = colormaps["Blues"](part**0.25 * 0.95)
    slide.image(np.round(255 * shade[..., :3]).astype(np.uint8), left, top, left + 10 * wide, top + 10 * high)
    edges = [np.array([(left + wide * n, top), (left + wide * n, top + 10 * high)]) for n in range(1, 10)]
    edges += [np.array([(left, top + high * n), (left + 10 * wide, top + high * n)]) for n in range(1, 10)]
    slide.lines(edges, "white", 2)
    frame = [(left, top), (left + 10 * wide, top), (left + 10 * wide, top + 10 * high), (left, top + 10 * high)]
    slide.lines([np.array([*frame, frame[0]], dtype=float)], GRID, 2)
    for row, column in zip(*np.nonzero(counts), strict=True):
        ink = "white" if part[row, column] ** 0.25 > 0.6 else INK
        x, y = left + wide * (column + 0.5), top + high * (row + 0.5)
        slide.text(x, y - 11, f"{counts[row, column]:.0f}", 26, 0.5, ink)
        slide.text(x, y + 18, f"{100 * part[row, column]:.1f} %", 17, 0.5, ink)
    below = top + 10 * high
    for digit in DIGITS:
        x = left + wide * (digit + 0.5)
        slide.text(left - 26, top + high * (digit + 0.5), str(digit), 26, 0.5)
        slide.text(x, below + 28, str(digit), 26, 0.5)
        precision = f"{100 * counts[digit, digit] / columns[digit]:.1f} %" if columns[digit] else "-"
        slide.text(x, below + 70, precision, 20, 0.5, PALE_INK)
    slide.text(left - 14, below + 70, "precision", 20, 1.0, PALE_INK)
    slide.text(left + 5 * wide, below + 114, "predicted digit", align=0.5)
    slide.text(left + 10 * wide, below + 114, "percent: of the true digit's images", 20, 1.0, PALE_INK)
    slide.text(62, top + 5 * high, "true digit", align=0.5, up=True)
    return slide.done()


def class_bars(f1: Sequence[float], title: str) -> Figure:
    """Bars of the F1 of each digit; the axis starts just below the lowest."""
    values = np.asarray(f1, dtype=float)
    low = max(0.0, np.floor(10 * (values.min() - 0.02)) / 10) if values.min() < 0.95 else 0.9
    slide = Slide(f"{title}, macro F1 {values.mean():.4f}")
    y, left, right = Scale(low, 1.0, 790, 150), 190, WIDTH - MARGIN
    ticks = y.ticks(6)
    slide.along(y, ticks, plain(ticks), left, right, "F1")
    wide = (right - left) / 10
    middle = left + wide * (np.arange(10) + 0.5)
    slide.boxes(middle - 0.38 * wide, y(values), middle + 0.38 * wide, y(low), BLUE)
    for digit, place in enumerate(middle):
        slide.text(place, float(y(values[digit])) - 22, f"{values[digit]:.3f}", align=0.5)
        slide.text(place, 818, str(digit), 26, 0.5)
    slide.text((left + right) / 2, 862, "digit", align=0.5)
    return slide.done()


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
    slide = Slide(f"{title}: expected calibration error {100 * error:.2f} %")
    start, end = 210, WIDTH - MARGIN
    x, y = Scale(0, 1, start, end), Scale(0, 1, 590, 110)
    slide.along(y, [0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"], start, end, "part that is right")
    slide.lines([np.array([(start, y(0)), (end, y(1))])], GREY, 3, "--")
    many = count >= FEW
    some = ~many & (count > 0)
    slide.lines([np.column_stack((x(mean[many]), y(accuracy[many])))], BLUE, 4)
    slide.dots(x(mean[many]), y(accuracy[many]), BLUE, 9)
    slide.dots(x(mean[some]), y(accuracy[some]), BLUE, 9, filled=False)
    _calibration_legend(slide, start + 30)
    tallest = max(1.0, float(np.log10(max(count.max(), 1))) + 0.1)
    tens = Scale(-0.1, tallest, 790, 640)
    powers = list(range(int(tallest) + 1))
    slide.along(tens, powers, [f"{10**power:,}" for power in powers], start, end, "images")
    shown = np.flatnonzero(count)
    half, middle = 0.45 * (end - start) / bins, x((shown + 0.5) / bins)
    slide.boxes(middle - half, tens(np.log10(count[shown])), middle + half, tens(-0.1), BLUE)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    slide.across(x, ticks, [f"{100 * tick:.0f} %" for tick in ticks], 790, "probability of the predicted digit")
    return slide.done()


def _calibration_legend(slide: Slide, x: float) -> None:
    slide.lines([np.array([(x, 136), (x + 50, 136)])], BLUE, 4)
    slide.dots([x + 25, x + 25], [136, 136], BLUE, 9)
    slide.dots([x + 25], [174], BLUE, 9, filled=False)
    slide.lines([np.array([(x, 212), (x + 50, 212)])], GREY, 3, "--")
    for y, label in ((136, "this model"), (174, f"fewer than {FEW} images"), (212, "perfectly calibrated")):
        slide.text(x + 70, y, label)


def gallery(images: Array, captions: Sequence[str], title: str, columns: int | None = None) -> Figure:
    """Digits with a caption under each. images: (n, 28, 28) uint8; n may be 0.

    columns: so many digits fill the width, and the figure is as high as they need; None: all fill the slide.
    """
    count, caption = len(images), 40
    room, tall = WIDTH - 2 * MARGIN, HEIGHT - 100 - MARGIN // 2
    if columns is None:
        columns = max(range(1, max(count, 1) + 1), key=lambda n: _tile(n, count, room, tall - caption, caption))
        tile = min(_tile(columns, count, room, tall, caption), 420)
        height = HEIGHT
    else:
        tile, height = room // columns - 16, 0
    rows = -(-count // columns)
    slide = Slide(title, height or 110 + max(1, rows) * (tile + caption + 8))
    if not count:
        slide.text(MARGIN, 130, "none", ink=PALE_INK)
        return slide.done()
    step = room / columns
    shades = 255 - np.asarray(images, dtype=np.uint8)
    for place in range(count):
        left = MARGIN + step * (place % columns) + (step - tile) / 2
        top = 96 + (tile + caption + 8) * (place // columns)
        slide.image(np.repeat(shades[place, :, :, None], 3, axis=2), left, top, left + tile, top + tile)
        slide.text(left + tile / 2, top + tile + 20, captions[place], 21, 0.5)
    return slide.done()


def _tile(columns: int, count: int, room: float, tall: float, caption: float) -> int:
    """The side of each of so many square pictures in so many columns, captions included."""
    return int(min(room / columns - 16, tall / max(1, -(-count // columns)) - caption - 8))


def first_layer(weights: Array, title: str, most: int = 66) -> Figure:
    """The first layer as 28 x 28 images on one scale: its units with the largest norms. weights: (units, 784)."""
    values = np.asarray(weights, dtype=float)
    chosen = np.sort(np.argsort(-np.linalg.norm(values, axis=1), kind="stable")[:most])
    columns = max(range(1, len(chosen) + 1), key=lambda n: min(1340 / n, 770 / -(-len(chosen) // n)))
    rows = -(-len(chosen) // columns)
    scale = float(np.abs(values[chosen]).max()) or 1.0
    canvas = np.full((rows * 30, columns * 30, 3), 255, np.uint8)
    colours = colormaps["PuOr"]
    for place, unit in enumerate(chosen):
        top, left = (place // columns) * 30 + 1, (place % columns) * 30 + 1
        part = colours(0.5 + values[unit].reshape(28, 28) / (2 * scale))
        canvas[top : top + 28, left : left + 28] = np.round(255 * part[..., :3])
    shown = f"the {len(chosen)} strongest of {len(values)} units" if len(values) > most else f"{len(values)} units"
    slide = Slide(f"{title}: {shown}")
    tile = min(1340 / columns, 770 / rows)
    slide.image(canvas, MARGIN, 100, MARGIN + tile * columns, 100 + tile * rows)
    _colour_bar(slide, colours(np.linspace(1, 0, 128)), scale)
    return slide.done()


def _colour_bar(slide: Slide, colours: NDArray[np.float64], scale: float) -> None:
    slide.image(np.round(255 * colours[:, None, :3]).astype(np.uint8), 1440, 150, 1470, 820)
    for place, value in ((150, scale), (485, 0.0), (820, -scale)):
        slide.text(1482, place, f"{value:+.2f}" if value else "0", 20, ink=PALE_INK)
    slide.text(1455, 122, "weight", 20, 0.5)


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """The drawn figure as (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(image: NDArray[np.uint8]) -> bytes:
    """A drawn figure as the content of a PNG file. image: (height, width, 3).

    Of 256 colours, if those are close enough: half the time, a third of the bytes. The corner keeps its colour.
    """
    drawn = Image.fromarray(image)
    few = drawn.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette, corner = few.getpalette() or [], few.getpixel((0, 0))
    assert isinstance(corner, int)
    palette[3 * corner : 3 * corner + 3] = image[0, 0].tolist()  # white would become nearly white
    few.putpalette(palette)
    change = np.asarray(few.convert("RGB"))[::3, ::3].astype(np.int16) - image[::3, ::3]
    content = io.BytesIO()
    if np.abs(change).mean() < MOST_CHANGE:
        few.save(content, format="png", compress_level=PNG_LEVEL)
    else:
        drawn.save(content, format="png", compress_level=1)
    return content.getvalue()


def sized_figure(width: float, height: float) -> Figure:
    """An empty figure without pyplot; width and height in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
