"""How MNIST framed its digits: ink scaled into 20 x 20 keeping its shape, centred by mass in 28 x 28.

LeCun et al., Gradient-based learning applied to document recognition (1998), section III.A. All arithmetic is on
integers, and what is rounded is rounded half up, so that `prepare.js` of the draw page comes to the same pixels;
change both together.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Ink = NDArray[np.uint8]
"""(height, width): 0 is background, 255 is fully inked."""

FIELD, BOX, CENTRE = 28, 20, 14
WORK = 120
"""Ink at least twice as large, in pixels, is first reduced by a whole factor: 20 x 20 can show no more detail."""
INKED = 128
"""From here on a pixel counts as stroke where there are only strokes and background."""
THINNEST, THICKEST = 2.2, 3.7
"""Stroke widths, in pixels of the 20 x 20 box, that are left alone: those of the middle half of MNIST, and some more.

The middle 95 % of its first 1,500 training digits have 1.6 to 4.7, median 2.5. A narrower band costs nothing on digits
as they are, and makes thin and thick pens more alike: `tests/data/test_picture_accuracy.py` measures it.
"""


def frame(ink: Ink) -> NDArray[np.uint8]:
    """The digit as MNIST would hold it: (28, 28) uint8. ink: any size, with at least one pixel above 0."""
    ink = crop(ink)
    ink = crop(_reduced(ink, max(1, max(ink.shape) // WORK)))
    ink = crop(_evened(ink))
    height, width = ink.shape
    longer = max(height, width)
    rows, columns = ((2 * BOX * side + longer) // (2 * longer) for side in (height, width))
    return _centred(_resampled(ink, max(1, rows), max(1, columns)))


def crop(ink: Ink) -> Ink:
    """The smallest part with all that is above 0."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def stroke_width(ink: Ink) -> float:
    """Mean width of the strokes in pixels of `ink`.

    Over a bar of width w the distance to the nearest background pixel is w / 4 on average.
    """
    inside = np.pad(ink >= INKED, 1)
    if not inside.any():
        return 0.0
    distance = distance_transform_edt(inside)[inside]
    return float(4 * distance.mean() - 2)  # distances run to pixel centres: half a pixel more than to the edge


def _evened(ink: Ink) -> Ink:
    """Strokes far thinner or thicker than MNIST's, brought to the nearest width that MNIST has.

    A ballpoint's line would vanish in 20 x 20 pixels, a marker's would fill them.
    """
    longer, width = max(ink.shape), stroke_width(ink)
    wanted = min(max(width * BOX / longer, THINNEST), THICKEST)
    # with strokes wider by 2 r the whole is larger by 2 r: (width + 2 r) / (longer + 2 r) = wanted / BOX
    radius = (wanted * longer - BOX * width) / (2 * (BOX - wanted))
    steps = int(np.floor(abs(radius) + 0.5))
    if steps == 0 or width == 0:
        return ink
    if radius > 0:
        room = np.pad(ink >= INKED, steps)
        return np.where(distance_transform_edt(~room) <= steps, 255, 0).astype(np.uint8)
    room = np.pad(ink >= INKED, 1)
    thin = distance_transform_edt(room) > steps
    return np.where(thin if thin.any() else room, 255, 0).astype(np.uint8)


def _reduced(ink: Ink, factor: int) -> Ink:
    """Means over blocks of factor x factor pixels, rounded; the last blocks are filled up with background."""
    if factor == 1:
        return ink
    height, width = (-(-side // factor) for side in ink.shape)
    room = np.zeros((height * factor, width * factor), np.int64)
    room[: ink.shape[0], : ink.shape[1]] = ink
    total = room.reshape(height, factor, width, factor).sum((1, 3))
    return _rounded(total, factor**2)


def _resampled(ink: Ink, rows: int, columns: int) -> Ink:
    """Means over equal areas, (rows, columns), rounded; a pixel on a border counts by its part."""
    height, width = ink.shape
    total = _overlaps(height, rows) @ ink.astype(np.int64) @ _overlaps(width, columns).T
    area = height * width
    return _rounded(total, area)


def _rounded(total: NDArray[np.int64], count: int) -> Ink:
    mean: Ink = ((2 * total + count) // (2 * count)).astype(np.uint8)
    return mean


def _overlaps(size: int, parts: int) -> NDArray[np.int64]:
    """(parts, size): how much of each pixel lies in each of `parts` equal stretches, in units of 1 / parts pixel."""
    pixel, part = np.arange(size)[None] * parts, np.arange(parts)[:, None] * size
    overlaps: NDArray[np.int64] = np.maximum(np.minimum(pixel + parts, part + size) - np.maximum(pixel, part), 0)
    return overlaps


def _centred(ink: Ink) -> NDArray[np.uint8]:
    """In a field of 28 x 28 with the centre of mass at pixel (14, 14), as far as there is room."""
    mass = ink.astype(np.int64)
    total = max(int(mass.sum()), 1)
    corner = []
    for axis, side in enumerate(ink.shape):
        moment = int((mass.sum(1 - axis) * np.arange(side)).sum())
        middle = (2 * moment + total) // (2 * total)
        corner.append(min(max(CENTRE - middle, 0), FIELD - side))
    field = np.zeros((FIELD, FIELD), np.uint8)
    field[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return field
