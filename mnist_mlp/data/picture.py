"""A picture of a digit, of any kind, prepared the way MNIST was made."""

import io
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from mnist_mlp.errors import UserError

Picture = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]
"""A file, its content, a PIL image, or an array: (height, width), or (height, width, 1 to 4) as PIL orders channels."""
Ink = NDArray[np.uint8]
"""(height, width): 0 is background, 255 is fully inked."""

FIELD, BOX, CENTRE = 28, 20, 14
MAX_SIDE = 1024
"""Longer side, in pixels, to which larger pictures are reduced."""
MIN_SIDE = 112
"""Longer side, in pixels, to which smaller pictures are enlarged: strokes must be some pixels wide to be measured."""
MAX_PIXELS = 100_000_000
"""A picture with more is refused before it is decoded: a few kilobytes can claim to be gigabytes."""
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "ICO")
"""What is read. Pillow knows more, some of which (EPS) it hands to another program."""


def prepare(picture: Picture) -> NDArray[np.uint8]:
    """Prepare a picture of one digit as MNIST would hold it: (28, 28) uint8, light on black.

    Its ink is located, cropped, scaled into 20 x 20 keeping its shape, and centred by mass. Ink may be darker or
    lighter than its background, grey or coloured; the background may be transparent, or paper in uneven light. A
    prepared picture comes back as it is. Arrays of floats are in [0, 1].

    Raises:
        UserError: it is not a picture, too large, or blank.
    """
    pixels = read_picture(picture)
    if _is_prepared(pixels):
        return pixels[..., 0].copy()
    if pixels.shape[:2] == (FIELD, FIELD):
        pixels = np.asarray(_enlarged(Image.fromarray(pixels)))
    ink = find_ink(pixels)
    if ink is None or not ink.any():
        raise UserError("no digit found: nothing stands out from the background")
    return frame(ink)


def read_picture(picture: Picture) -> NDArray[np.uint8]:
    """Read a picture as (height, width, 3) uint8, turned upright, its transparent pixels filled.

    Its longer side is brought between MIN_SIDE and MAX_SIDE pixels, unless it is 28 x 28.

    Raises:
        UserError: it is not a picture.
    """
    if isinstance(picture, Image.Image):
        image = picture
    elif isinstance(picture, (str, Path, bytes)) or hasattr(picture, "read"):
        image = _decoded(picture)  # type: ignore[arg-type]
    else:
        image = _from_array(np.asarray(picture))
    if 0 in image.size:
        raise UserError("the picture is empty (0 pixels)")
    image = _filled(_eight_bit(image))
    longer = max(image.size)
    if longer > MAX_SIDE:
        image = image.reduce(-(-longer // MAX_SIDE))
    elif longer < MIN_SIDE and image.size != (FIELD, FIELD):
        image = _enlarged(image)
    return np.asarray(image)


def _decoded(file: str | Path | bytes | BinaryIO) -> Image.Image:
    content = Path(file).read_bytes() if isinstance(file, (str, Path)) else file
    content = content if isinstance(content, bytes) else content.read()
    if not content:
        raise UserError("the file is empty")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit and remarks on metadata; ours is the next line
            image = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft("RGB", (2 * MAX_SIDE, 2 * MAX_SIDE))  # JPEG alone can be decoded smaller
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise UserError("no picture that can be read: PNG, JPEG, GIF, BMP, TIFF, WEBP and some others can") from None
    except Image.DecompressionBombError:
        raise UserError(f"more than {MAX_PIXELS:,} pixels, which is more than any picture of a digit needs") from None
    except Exception as error:  # a broken file makes Pillow's decoders raise almost anything
        raise UserError(f"a broken picture ({error or type(error).__name__})") from None


def _from_array(values: NDArray[Any]) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] > 4):
        raise UserError(
            f"an array of shape {values.shape} is not a picture: give (height, width) or (height, width, 1 to 4), "
            "and several pictures as a list"
        )
    if values.dtype == bool:
        values = values * np.uint8(255)
    elif values.dtype.kind == "f":
        if not ((values >= 0) & (values <= 1)).all():  # NaN is outside, too
            raise UserError("a picture of floats has its values in [0, 1]: divide by 255, or give uint8")
        values = np.floor(255 * values + 0.5).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise UserError(f"a picture of {values.dtype} is not understood: give uint8, bool, or floats in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(values))


def _eight_bit(image: Image.Image) -> Image.Image:
    """In a mode of 8 bits a channel; 16-bit and float pictures are stretched over their own range."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = values.min(), values.max()
    return Image.fromarray(np.uint8(np.round(255 * (values - low) / (high - low or 1.0))))


def _filled(image: Image.Image) -> Image.Image:
    """RGB; transparent pixels become black or white, whichever the opaque ones differ from more."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    pixels = np.asarray(image.convert("RGBA"), dtype=np.float64)
    opacity = pixels[..., 3:] / 255
    mean = (pixels[..., :3] * opacity).sum() / max(3 * opacity.sum(), 1e-9)
    paper = 255.0 if mean < 128 else 0.0
    return Image.fromarray(np.uint8(np.round(pixels[..., :3] * opacity + paper * (1 - opacity))))


def _enlarged(image: Image.Image) -> Image.Image:
    factor = -(-MIN_SIDE // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _is_prepared(pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture is already as MNIST's are: 28 x 28, on black, 20 pixels long, centred by mass."""
    grey = pixels[..., 0]
    if grey.shape != (FIELD, FIELD) or (grey[..., None] != pixels).any() or not grey.any():
        return False
    is_centred = max(abs(middle - CENTRE) for middle in ndimage.center_of_mass(grey)) < 0.6
    return max(crop(grey).shape) in (BOX - 1, BOX) and is_centred


FAINT = 32  # ink below this, of 255, is compression noise
SPECK = 50  # a piece with fewer pixels than the largest piece has, divided by this, is a speck
MIN_CONTRAST = 12.0  # of 255: a pixel that differs less from the background is not ink
SMOOTHING = 1.0  # standard deviation, in pixels, of the blur that takes the grain off a photograph
GRID = 128  # the light and the colour of the ink are estimated on so many points along the longer side
FRAME = 0.8  # beyond this fraction of the way from the centre to the edges, a picture is mostly background
EIGHT = np.ones((3, 3), dtype=int)  # pixels that touch at a corner belong together


def find_ink(colours: NDArray[np.uint8]) -> Ink | None:
    """How inked each pixel is; None if the picture is blank. colours: (height, width, 3).

    A drawing or scan has a background of one colour; it is taken as it is. Anything else is taken for a photograph:
    the light is evened out, and what runs off its edges is left out if there is anything else.
    """
    background = _flat_background(colours)
    ink = _photographed(colours) if background is None else _drawn(colours, background)
    if ink is None:
        return None
    # without pieces that are tiny next to the largest, as in `prepare.js`
    return np.where(_pieces(ndimage.label(ink, EIGHT)[0]), ink, 0).astype(np.uint8)


def _flat_background(colours: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The one colour of at least half of the border and a fifth of the picture; None if there is none."""
    border = np.concatenate([colours[0], colours[-1], colours[1:-1, 0], colours[1:-1, -1]])
    unique, counts = np.unique(border, axis=0, return_counts=True)
    colour: NDArray[np.uint8] = unique[counts.argmax()]
    share = np.equal(colours, colour).all(2).mean()
    return colour if 2 * counts.max() >= len(border) and share >= 0.2 else None


def _drawn(colours: NDArray[np.uint8], background: NDArray[np.uint8]) -> Ink | None:
    difference = colours.astype(np.float64) - background
    along = _along_the_ink(difference)
    inked = along[along > max(MIN_CONTRAST, along.max() / 2)]
    if not inked.size:
        return None
    full = np.percentile(inked, 90, method="nearest")  # not the highest: JPEG overshoots next to strokes
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
    strong = along[along > max(MIN_CONTRAST, 5 * grain, along.max() / 2)]
    if strong.size < 4:
        return None
    contrast = float(np.median(strong))
    labels, _ = ndimage.label(along > contrast / 2, EIGHT)
    chosen = ndimage.binary_dilation(_pieces(labels, whole=True), EIGHT, iterations=2)
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
    inner = np.maximum(*(np.abs(basis[:, column]) for column in (1, 2)))
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


def _pieces(labels: NDArray[np.int32], whole: bool = False) -> NDArray[np.bool_]:
    """The pieces that are no specks; with `whole`, without those that run off the picture if there is more."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if whole:
        inner = sizes.copy()
        inner[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = 0
        sizes = inner if inner.max() * 20 >= sizes.max() else sizes
    kept: NDArray[np.bool_] = sizes * SPECK >= max(sizes.max(), 1)
    return kept[labels]


WORK = 120
"""Ink at least twice as large, in pixels, is first reduced by a whole factor: 20 x 20 can show no more detail."""
INKED = 128
"""From here on a pixel counts as stroke, if there are only strokes and background."""
THINNEST, THICKEST = 2.2, 3.7
"""Stroke widths, in pixels of the 20 x 20 box, that are left alone: those of the middle half of MNIST, and some more
(the middle 95 % have 1.6 to 4.7). A narrower band makes thin and thick pens more alike, at no cost:
`tests/data/test_picture_accuracy.py` measures it."""


def frame(ink: Ink) -> NDArray[np.uint8]:
    """The digit as MNIST would hold it: (28, 28) uint8. ink: any size, with at least one pixel above 0."""
    ink = crop(ink)
    if (factor := max(ink.shape) // WORK) > 1:  # means over whole blocks; the last ones are filled with background
        ink = np.pad(ink, [(0, -side % factor) for side in ink.shape])
        ink = crop(_resampled(ink, ink.shape[0] // factor, ink.shape[1] // factor))
    ink = crop(_normalize_stroke_width(ink))
    longer = max(ink.shape)
    rows, columns = (max(1, (2 * BOX * side + longer) // (2 * longer)) for side in ink.shape)
    ink = _resampled(ink, rows, columns)
    # the centre of mass goes to pixel (14, 14), as far as there is room
    mass = ink.astype(np.int64)
    total = max(int(mass.sum()), 1)
    corner = []
    for axis, side in enumerate(ink.shape):
        moment = int((mass.sum(1 - axis) * np.arange(side)).sum())
        corner.append(min(max(CENTRE - (2 * moment + total) // (2 * total), 0), FIELD - side))
    return np.pad(ink, [(start, FIELD - side - start) for start, side in zip(corner, ink.shape, strict=True)])


def crop(ink: Ink) -> Ink:
    """The smallest rectangle with all that is above 0."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def stroke_width(ink: Ink) -> float:
    """Mean width of the strokes in pixels of `ink`.

    Over a bar of width w the distance to the nearest background pixel is w / 4 on average.
    """
    inside = np.pad(ink >= INKED, 1)
    if not inside.any():
        return 0.0
    distance = ndimage.distance_transform_edt(inside)[inside]
    return float(4 * distance.mean() - 2)  # distances run to pixel centres: half a pixel more than to the edge


def _normalize_stroke_width(ink: Ink) -> Ink:
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
    stroke = np.pad(ink >= INKED, steps)
    if radius > 0:
        stroke = ndimage.distance_transform_edt(~stroke) <= steps
    else:
        thin = ndimage.distance_transform_edt(stroke) > steps
        stroke = thin if thin.any() else stroke
    return np.where(stroke, 255, 0).astype(np.uint8)


def _resampled(ink: Ink, rows: int, columns: int) -> Ink:
    """Means over equal areas, (rows, columns), rounded; a pixel on a border counts by the fraction inside."""
    total = _overlaps(ink.shape[0], rows) @ ink.astype(np.float64) @ _overlaps(ink.shape[1], columns).T
    mean: Ink = ((2 * total + ink.size) // (2 * ink.size)).astype(np.uint8)
    return mean


def _overlaps(size: int, parts: int) -> NDArray[np.float64]:
    """(parts, size): how much of each pixel lies in each of `parts` equal stretches, in units of 1 / parts pixel.

    Whole numbers: their products and sums are exact.
    """
    pixel, part = np.arange(size)[None] * parts, np.arange(parts)[:, None] * size
    overlaps = np.maximum(np.minimum(pixel + parts, part + size) - np.maximum(pixel, part), 0)
    return np.asarray(overlaps, np.float64)
