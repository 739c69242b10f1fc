"""Where the ink is in a picture: background and light taken away, specks and edges left out."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_mlp.data.framing import Ink

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
