"""Digits written in a row, cut apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_mlp.data.framing import Ink
from mnist_mlp.data.ink import EIGHT

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
    pieces = _whole(_pieces(labels))
    row = max(piece.height for piece in pieces)
    for piece in pieces:
        alone = np.where(np.isin(labels, piece.labels), ink, 0).astype(np.uint8)
        parts += _cut(alone, piece, row)
    return parts


def _pieces(labels: NDArray[np.int32]) -> list[_Piece]:
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
