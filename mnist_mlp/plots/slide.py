"""Figures of the size of a slide, drawn in few strokes.

matplotlib takes a tenth of a second and more for a figure of ordinary axes, nearly all of it for ticks and texts and
their layout. Here all texts of a figure are one collection of outlines and places are pixels: 15 to 50 ms.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

WIDTH, HEIGHT, DPI = 1600, 900, 150
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
        self.figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
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
        drawn = LineCollection(list(points), colors=ink, linewidths=72 / DPI * width, linestyles=style)
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
