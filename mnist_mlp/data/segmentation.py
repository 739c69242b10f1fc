"""Digits written in a row, cut apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
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


FAINT = 32
"""Ink below this, of 255, is compression noise."""
SPECK = 50
"""A piece with less than one part in so many of the largest piece's pixels is a speck."""
LEAST_CONTRAST = 12.0
"""Of 255: what differs less from the background is no ink."""
SMOOTHING = 1.0
"""Standard deviation, in pixels, of the blur that takes the grain off a photograph."""
GRID = 128
"""The light is fitted, and the colour of ink found, on so many points along the longer side."""
FRAME = 0.8
"""Further out than this part of the way from the centre to the edges, a picture is mostly background."""
EIGHT = np.ones((3, 3), dtype=int)
"""Pixels that touch at a corner belong together."""


def find_ink(colours: NDArray[np.uint8]) -> Ink | None:
    """How inked each pixel is; None where the picture is blank. colours: (height, width, 3).

    A drawing or scan has a background of one colour; it is taken as it is. Anything else is taken for a photograph:
    the light is evened out, and what runs off its edges is left out where there is something else.
    """
    background = _flat_background(colours)
    ink = _photographed(colours) if background is None else _drawn(colours, background)
    return None if ink is None else without_specks(ink)


def without_specks(ink: Ink) -> Ink:
    """Without pieces that are tiny beside the largest. `prepare.js` does the same."""
    labels, count = ndimage.label(ink, EIGHT)
    if count < 2:
        return ink
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = sizes * SPECK >= sizes.max()
    return np.where(kept[labels], ink, 0).astype(np.uint8)


def _flat_background(colours: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The one colour of at least half of the border and a fifth of the picture, where there is one."""
    border = np.concatenate([colours[0], colours[-1], colours[1:-1, 0], colours[1:-1, -1]])
    found, counts = np.unique(border, axis=0, return_counts=True)
    colour: NDArray[np.uint8] = found[counts.argmax()]
    share = np.equal(colours, colour).all(2).mean()
    return colour if 2 * counts.max() >= len(border) and share >= 0.2 else None


def _drawn(colours: NDArray[np.uint8], background: NDArray[np.uint8]) -> Ink | None:
    difference = colours.astype(np.float64) - background
    along = _along_the_ink(difference)
    inked = along[along > max(LEAST_CONTRAST, along.max() / 2)]
    if not inked.size:
        return None
    full = np.percentile(inked, 90, method="nearest")  # not the highest: JPEG overshoots beside strokes
    ink: Ink = np.floor(np.clip(255 * along / full, 0, 255) + 0.5).astype(np.uint8)
    ink[ink < FAINT] = 0
    return ink


def _along_the_ink(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(height, width): differences from the background, in the direction of colour in which they are largest."""
    if (difference[..., :1] == difference).all():
        along: NDArray[np.float64] = difference[..., 0]
    else:
        step = max(1, max(difference.shape) // GRID)
        flat = difference[::step, ::step].reshape(-1, 3)
        along = np.tensordot(difference, np.linalg.eigh(flat.T @ flat)[1][:, -1], 1)
    return along if (along**3).sum() >= 0 else -along


def _photographed(colours: NDArray[np.uint8]) -> Ink | None:
    smooth = ndimage.gaussian_filter(colours.astype(np.float64), (SMOOTHING, SMOOTHING, 0))
    along = _along_the_ink(smooth - _surface_of_light(smooth))
    grain = 1.4826 * np.median(np.abs(along - np.median(along)))
    strong = along[along > max(LEAST_CONTRAST, 5 * grain, along.max() / 2)]
    if strong.size < 4:
        return None
    contrast = float(np.median(strong))
    labels, _ = ndimage.label(along > contrast / 2, EIGHT)
    chosen = ndimage.binary_dilation(_pieces(labels), EIGHT, iterations=2)
    # from a quarter to three quarters of the contrast: paper keeps its grain below, ink above
    ink = np.clip(510 * (along / contrast - 0.25), 0, 255)
    return np.where(chosen, ink, 0).astype(np.uint8)


def _surface_of_light(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """A quadratic surface per channel through the background, fitted again and again without what is far from it."""
    height, width, _ = colours.shape
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    powers = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
    step = max(1, max(height, width) // GRID)
    few = [np.outer(rows[::step] ** a, columns[::step] ** b).ravel() for a, b in powers]
    basis, known = np.stack(few, 1), colours[::step, ::step].reshape(len(few[0]), -1)
    # from the frame inwards: a heavy digit may cover more of the picture than its paper does
    inner = np.maximum(*(np.abs(basis[:, place]) for place in (1, 2)))
    kept, used = inner > FRAME, basis[:, :3]
    for turn in range(8):
        surface = np.linalg.lstsq(used[kept], known[kept], rcond=None)[0]
        distance = np.linalg.norm(known - used @ surface, axis=1)
        kept = (distance <= max(3.0 * float(np.median(distance[kept])), 3.0)) & ((inner > FRAME) | (turn >= 3))
        used = basis[:, : 3 if turn < 3 else 6]
    factors = np.zeros((colours.shape[2], 3, 3))
    for (a, b), coefficients in zip(powers, surface, strict=True):
        factors[:, a, b] = coefficients
    light: NDArray[np.float64] = np.vander(rows, 3, True) @ factors @ np.vander(columns, 3, True).T
    return np.moveaxis(light, 0, 2)


def _pieces(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The pieces that belong to the digit: no specks, and nothing that runs off the picture if there is more."""
    count = int(labels.max())
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    off = np.zeros(count + 1, bool)
    off[border] = True
    inner = np.where(off, 0, sizes)
    if inner.max() * 20 >= sizes.max():
        sizes = inner
    kept: NDArray[np.bool_] = sizes * SPECK >= max(sizes.max(), 1)
    kept[0] = False
    mask: NDArray[np.bool_] = kept[labels]
    return mask


SHARED = 0.5
"""Pieces that share at least this part of the narrower one's width belong to one digit: the bar of a 5 and its body."""
LOW = 0.3
"""A piece lower than this part of the row is part of its neighbour, or a full stop."""
WIDE, USUAL = 1.35, 0.75
"""Wider than this times the row's height are digits that touch; a digit is usually as wide as this times it."""


@dataclass
class _Piece:
    labels: list[int]
    left: int
    right: int
    top: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def join(self, other: "_Piece") -> None:
        self.labels += other.labels
        self.left, self.right = min(self.left, other.left), max(self.right, other.right)
        self.top, self.bottom = min(self.top, other.top), max(self.bottom, other.bottom)


def cut_apart(ink: Ink) -> list[Ink]:
    """The ink of each digit, from left to right; each as large as `ink`.

    Pieces one above the other are one digit, low marks belong to their neighbour, and what is too wide for one digit
    is cut where it has least ink.
    """
    labels, _ = ndimage.label(ink, EIGHT)
    parts = []
    pieces = _whole(_row_pieces(labels))
    row = max(piece.height for piece in pieces)
    for piece in pieces:
        alone = np.where(np.isin(labels, piece.labels), ink, 0).astype(np.uint8)
        parts += _cut(alone, piece, row)
    return parts


def _row_pieces(labels: NDArray[np.int32]) -> list[_Piece]:
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        found.append(_Piece([number], columns.start, columns.stop, rows.start, rows.stop))
    return sorted(found, key=lambda piece: piece.left)


def _whole(pieces: list[_Piece]) -> list[_Piece]:
    """Pieces joined into digits."""
    digits: list[_Piece] = []
    for piece in pieces:
        over = [digit for digit in digits if _shared(digit, piece) >= SHARED]
        if over:
            over[-1].join(piece)
        else:
            digits.append(piece)
    row = max(digit.height for digit in digits)
    for low in [digit for digit in digits if digit.height < LOW * row and digit.width < row / 2]:
        digits.remove(low)
        nearest = min(digits, key=lambda digit: max(digit.left - low.right, low.left - digit.right))
        if max(nearest.left - low.right, low.left - nearest.right) < row / 8:
            nearest.join(low)
    return sorted(digits, key=lambda digit: digit.left)


def _shared(one: _Piece, other: _Piece) -> float:
    """The part of the narrower one's width that both have."""
    return (min(one.right, other.right) - max(one.left, other.left)) / min(one.width, other.width)


def _cut(ink: Ink, piece: _Piece, row: int) -> list[Ink]:
    """A piece that is as wide as several digits, in so many parts."""
    if piece.width <= WIDE * row:
        return [ink]
    count = max(2, round(piece.width / (USUAL * row)))
    columns = ink[:, piece.left : piece.right].sum(0, dtype=np.int64)
    step = piece.width / count
    cuts = [piece.left]
    for number in range(1, count):
        start, stop = (round((number + shift) * step) for shift in (-0.3, 0.3))
        cuts.append(piece.left + start + int(columns[start:stop].argmin()))
    parts = []
    for left, right in zip(cuts, [*cuts[1:], piece.right], strict=True):
        part = np.zeros_like(ink)
        part[:, left:right] = ink[:, left:right]
        if part.any():
            parts.append(part)
    return parts
