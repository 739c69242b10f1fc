"""Grids of test digits: mistakes and right predictions."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure as Figure
from matplotlib.figure import SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from mnist_mlp.runs.predictions import Curves

WIDTH, HEIGHT, SLIDE_DPI = 1600, 900, 150
"""Pixels, and pixels per inch where a figure is printed or set into a text."""
INK, PALE_INK, GRID = "#1a1a1a", "#5a5a5a", "#dcdcdc"
SIZE, TITLE_SIZE = 22, 30
"""Of letters, in pixels."""
CAPITAL = 0.73
"""Height of a digit of DejaVu Sans, in letter sizes."""
MARGIN = 60

Numbers = NDArray[np.floating] | Sequence[float]
Align = float
"""Which part of a text stands left of its place: 0 none, 0.5 half, 1 all."""


class Scale:
    """From numbers to pixels: `low` lies at `start`, `high` at `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, values: Numbers | float) -> NDArray[np.float64]:
        part = (np.asarray(values, dtype=float) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int, whole: bool = False) -> list[float]:
        """At most so many round numbers on this scale, or one more; whole: no fractions."""
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(self.low, self.high)
        inside = 1e-9 * (self.high - self.low)
        return [float(tick) for tick in found if self.low - inside <= tick <= self.high + inside]


class Slide:
    """An empty figure with a title. Places are pixels from the upper left corner; what is given last lies on top.

    Texts lie over all.
    """

    def __init__(self, title: str, height: int = HEIGHT) -> None:
        self.figure = Figure(figsize=(WIDTH / SLIDE_DPI, height / SLIDE_DPI), dpi=SLIDE_DPI, facecolor="white")
        self.height = height
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self._strokes = 0
        self._texts: list[Path] = []
        self._inks: list[str] = []
        self.text(MARGIN, 52, title, TITLE_SIZE)

    def text(
        self, x: float, y: float, text: str, size: float = SIZE, align: Align = 0.0, ink: str = INK, up: bool = False
    ) -> None:
        """One line whose digits are centred on y; up: it is read from below, and its digits are centred on x."""
        vertices, codes, width = _outlines(text)
        if not len(vertices):
            return
        along, across = (vertices[:, 0] - align * width) * size, (vertices[:, 1] - CAPITAL / 2) * size
        places = np.column_stack((x - across, y - along) if up else (x + along, y - across))
        self._texts.append(Path(places, codes))
        self._inks.append(ink)

    def lines(
        self,
        points: Sequence[NDArray[np.float64]],
        ink: str | Sequence[str],
        width: float = 1.0,
        style: str = "-",
        within: tuple[float, float, float, float] | None = None,
    ) -> None:
        """Lines through points, each (n, 2); within: left, top, right and bottom of what is shown of them."""
        drawn = LineCollection(list(points), colors=ink, linewidths=72 / SLIDE_DPI * width, linestyles=style)
        self._add(drawn)
        if within is not None:
            left, top, right, bottom = within
            drawn.set_clip_path(
                Path([(left, top), (right, top), (right, bottom), (left, bottom)]), self._axes.transData
            )

    def boxes(self, left: Numbers, top: Numbers, right: Numbers, bottom: Numbers, ink: object) -> None:
        """Filled rectangles; ink: one colour, or one for each."""
        sides = np.broadcast_arrays(*(np.asarray(side, dtype=float) for side in (left, top, right, bottom)))
        x0, y0, x1, y1 = map(np.ravel, sides)
        corners = np.stack([np.column_stack(pair) for pair in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], axis=1)
        self._add(PolyCollection(list(corners), facecolors=ink, edgecolors="none"))

    def dots(self, x: Numbers, y: Numbers, ink: str, radius: float, filled: bool = True) -> None:
        """Discs, or rings."""
        circle, disc = Path.unit_circle(), np.asarray(Path.unit_circle().vertices, dtype=float)
        places = np.column_stack((np.asarray(x, dtype=float), np.asarray(y, dtype=float)))
        discs = [Path(disc * radius + place, circle.codes) for place in places]
        self._add(PathCollection(discs, facecolors=ink if filled else "white", edgecolors=ink, linewidths=1.2))

    def image(self, pixels: NDArray[np.uint8], left: float, top: float, right: float, bottom: float) -> None:
        """Pixels (height, width, 3) stretched over this rectangle."""
        shown = AxesImage(self._axes, interpolation="nearest", extent=(left, right, bottom, top), origin="upper")
        shown.set_data(np.dstack((pixels, np.full(pixels.shape[:2], 255, np.uint8))))  # matplotlib's own form
        shown.set_clip_path(self._axes.patch)
        shown.set_zorder(self._next())
        self._axes.add_image(shown)

    def across(self, scale: Scale, ticks: Sequence[float], labels: Sequence[str], y: float, title: str) -> None:
        """Numbers below a horizontal scale at y, and its title."""
        for place, label in zip(scale(ticks), labels, strict=True):
            self.text(place, y + 28, label, align=0.5, ink=PALE_INK)
        self.text((scale.start + scale.end) / 2, y + 68, title, align=0.5)

    def along(
        self, scale: Scale, ticks: Sequence[float], labels: Sequence[str], left: float, right: float, title: str
    ) -> None:
        """Numbers left of a vertical scale, lines from left to right at each, and its title read from below."""
        places = scale(ticks)
        self.lines([np.array([(left, place), (right, place)]) for place in places], GRID)
        for place, label in zip(places, labels, strict=True):
            self.text(left - 14, place, label, align=1.0, ink=PALE_INK)
        longest = max((_outlines(label)[2] for label in labels), default=0.0) * SIZE
        self.text(left - longest - 44, (scale.start + scale.end) / 2, title, align=0.5, up=True)

    def done(self) -> Figure:
        """The figure, with its texts."""
        self._add(PathCollection(self._texts, facecolors=self._inks, linewidths=0))
        return self.figure

    def _add(self, strokes: Collection) -> None:
        strokes.set_zorder(self._next())
        self._axes.add_collection(strokes, autolim=False)

    def _next(self) -> int:
        self._strokes += 1
        return self._strokes


def plain(values: Sequence[float], unit: str = "") -> list[str]:
    """Numbers with as many digits as tell them apart, each with its unit."""
    digits = next((digits for digits in range(8) if len({f"{one:.{digits}f}" for one in values}) == len(values)), 8)
    exact = next(
        (more for more in range(digits, 8) if all(abs(one - round(one, more)) < 1e-9 for one in values)), digits
    )
    return [f"{one:.{exact}f}{unit}" for one in values]


@lru_cache(4096)
def _outlines(text: str) -> tuple[NDArray[np.float64], NDArray[np.uint8], float]:
    """Vertices (n, 2) and codes of the outlines of a text of size 1, whose base line begins at 0, and its width."""
    if not text.strip():
        return np.zeros((0, 2)), np.zeros(0, np.uint8), 0.0
    shown = TextPath((0, 0), text.replace("$", r"\$"), size=100, prop=FontProperties())
    vertices = np.asarray(shown.vertices, dtype=float).reshape(-1, 2) / 100
    return vertices, np.asarray(shown.codes, dtype=np.uint8), float(vertices[:, 0].max())


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


MAX_PREDICTIONS = 24
PREDICTION_COLUMNS = 2


@dataclass(frozen=True)
class Shown:
    """title: the file; picture: (height, width, 3) uint8; pixels: (28, 28) uint8; probabilities: (10,)."""

    title: str
    picture: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    probabilities: Sequence[float]


def predictions_figure(shown: Sequence[Shown], total: int) -> Figure:
    """The first MOST of them, two to a line; total: how many there were, which the title says."""
    shown = shown[:MAX_PREDICTIONS]
    columns = min(PREDICTION_COLUMNS, len(shown))
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


MISTAKE_COLUMNS = 8
MAX_MISTAKES = 96
"""Of more mistakes the most confident are shown, and the title says so."""
TOP, CELL = 150, 300
"""Pixels above the first row, and of a row."""
TILE, BARS, BAR, LINE = 128, 76, 13, 15
"""Pixels: side of a digit, height of a probability of one, width of its bar, height of a line of small letters."""


def mistakes(
    images: NDArray[np.uint8], truth: NDArray[np.int64], probabilities: NDArray[np.float32],
    places: NDArray[np.int64], title: str,
) -> Figure:  # fmt: skip
    """Of these images the ones that are answered wrongly, the most confident answers first.

    images: (n, 28, 28); truth and places (in the file of the split): (n,); probabilities: (n, 10).
    """
    answers = probabilities.argmax(1)
    wrong = np.flatnonzero(answers != truth)
    order = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")]
    shown = order[:MAX_MISTAKES]
    some = "" if len(shown) == len(order) else f"; the {len(shown)} most confident"
    height = TOP + CELL * max(1, -(-len(shown) // MISTAKE_COLUMNS)) + MARGIN // 2
    slide = Slide(f"{title}: {len(order):,} of {len(truth):,} images wrong{some}", height)
    slide.text(MARGIN, 100, "image's place in the file; truth → answer; probability of each digit:", 20, ink=PALE_INK)
    for x, ink, text in ((820, BLUE, "truth"), (930, ORANGE, "answer")):
        slide.boxes([x], [91], [x + 18], [109], ink)
        slide.text(x + 28, 100, text, 20, ink=PALE_INK)
    if not len(shown):
        slide.text(MARGIN, TOP + 20, "none", ink=PALE_INK)
    step = (WIDTH - 2 * MARGIN) / MISTAKE_COLUMNS
    for number, item in enumerate(shown):
        middle, top = MARGIN + step * (number % MISTAKE_COLUMNS + 0.5), TOP + CELL * (number // MISTAKE_COLUMNS)
        left = middle - TILE / 2
        shades = np.repeat(255 - images[item, :, :, None], 3, axis=2)
        slide.image(shades, left, top, left + TILE, top + TILE)
        caption = f"#{places[item]:,}: {truth[item]} → {answers[item]}"
        slide.text(middle, top + TILE + 20, caption, 20, 0.5)
        _bars(slide, middle, top + TILE + 44, probabilities[item], int(truth[item]))
    return slide.done()


def _bars(slide: Slide, middle: float, top: float, probabilities: NDArray[np.float32], truth: int) -> None:
    """The probabilities of 0 to 9, that of the truth and the highest in their colours and with their percentages."""
    answer, base = int(probabilities.argmax()), top + 20 + BARS
    left = middle - 5 * (BAR + 2)
    starts = left + (BAR + 2) * np.arange(10)
    inks = [BLUE if digit == truth else ORANGE if digit == answer else GREY for digit in range(10)]
    slide.lines([np.array([(left - 2, base), (left + 10 * (BAR + 2), base)])], GRID, 1.5)
    slide.boxes(starts, base - np.maximum(BARS * probabilities, 1), starts + BAR, np.full(10, base), inks)
    for digit, start in enumerate(starts):
        ink = inks[digit] if digit in (truth, answer) else PALE_INK
        slide.text(start + BAR / 2, base + 13, str(digit), 14, 0.5, ink)
    heights = {digit: base - BARS * float(probabilities[digit]) - 10 for digit in (truth, answer)}
    if abs(truth - answer) == 1 and abs(heights[truth] - heights[answer]) < LINE:  # or they would run into one another
        heights[answer] = heights[truth] - LINE
    for digit, above in heights.items():
        percent = f"{100 * probabilities[digit]:.0f}"
        slide.text(float(starts[digit]) + BAR / 2, above, percent, 14, 0.5, inks[digit])


SHOWN = 32


def sample_grids(
    images: NDArray[np.uint8],
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> Iterator[tuple[str, Figure]]:
    """The figures "mistakes" and "right". images (n, 28, 28), truth and predicted (n,), probabilities (n, 10)."""
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    wrong, right = order[(predicted != truth)[order]], order[(predicted == truth)[order]]
    spread = right[np.linspace(0, len(right) - 1, min(SHOWN, len(right))).astype(int)]
    for name, chosen, title in (
        ("mistakes", wrong[:SHOWN], f"Most confident mistakes ({len(wrong):,} of {len(truth):,} are wrong)"),
        ("right", spread, "Right predictions, from most to least confident"),
    ):
        captions = [
            f"{truth[item]}→{predicted[item]}  {100 * confidence[item]:.0f} %"
            if name == "mistakes"
            else f"{predicted[item]}  {100 * confidence[item]:.0f} %"
            for item in chosen
        ]
        note = "true → predicted, probability" if name == "mistakes" else "digit, probability"
        yield name, gallery(images[chosen], captions, f"{title}; {note}")
