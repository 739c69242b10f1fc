"""Conversion of pictures of digits to the format of MNIST's images (LeCun et al. 1998)."""

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
"""A file, its content, a PIL image, or an array (height, width) or (height, width, 1 to 4) with channels as in PIL."""
Ink = NDArray[np.uint8]
"""(height, width), from 0 (background) to 255 (ink)."""

FIELD, BOX, CENTRE = 28, 20, 14
MAX_SIDE = 1024
"""Longer side in pixels; larger pictures are reduced."""
MIN_SIDE = 112
"""Longer side in pixels; smaller pictures are enlarged, since stroke widths are measured in whole pixels."""
MAX_PIXELS = 100_000_000
"""Larger pictures are rejected before decoding: a file of kilobytes can declare gigabytes of pixels."""
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "ICO")
"""Accepted formats. Pillow supports more, but some of them (EPS) run external programs."""


def prepare(picture: Picture) -> NDArray[np.uint8]:
    """Convert a picture of one digit to MNIST's format.

    Segments the ink, crops it, scales it to fit 20 x 20 pixels, and centers its mass. Handles dark or light ink of any
    color on a uniform or transparent background or on unevenly lit paper. Prepared images are returned unchanged.

    Args:
        picture: A file, its content, a PIL image, or an array (height, width) or (height, width, 1 to 4) of uint8,
            bool, or floats in [0, 1].

    Returns:
        (28, 28) uint8, from 0 (background) to 255 (ink).

    Raises:
        UserError: Not an image, too many pixels, or blank.
    """
    pixels = read_picture(picture)
    if _is_prepared(pixels):
        return pixels[..., 0].copy()
    if pixels.shape[:2] == (FIELD, FIELD):
        pixels = np.asarray(_enlarge(Image.fromarray(pixels)))
    ink = find_ink(pixels)
    if ink is None or not ink.any():
        raise UserError("no digit found: nothing stands out from the background")
    return frame(ink)


def fit_to_field(picture: Picture) -> NDArray[np.uint8]:
    """Convert a picture of an object, unless it has 28 x 28 pixels, as Fashion-MNIST's authors did (Xiao et al. 2017).

    A light background becomes black; the object is cropped, scaled to 28 pixels and centered. Arguments, result and
    errors are those of `prepare`.
    """
    image = Image.fromarray(read_picture(picture)).convert("L")
    if image.size != (FIELD, FIELD):
        gray = np.asarray(image)
        border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
        gray = 255 - gray if np.median(border) > 127 else gray
        if not (gray >= FAINT).any():
            raise UserError("blank: nothing stands out from the background")
        cropped = Image.fromarray(crop(np.where(gray >= FAINT, gray, 0)))
        image = ImageOps.pad(cropped, (FIELD, FIELD), Image.Resampling.BOX)
    return np.array(image)


def read_picture(picture: Picture) -> NDArray[np.uint8]:
    """Read a picture as (height, width, 3) uint8: upright, opaque, and 28 x 28 or MIN_SIDE to MAX_SIDE pixels long.

    Raises:
        UserError: Not an image, or too many pixels.
    """
    if isinstance(picture, (str, Path, bytes, Image.Image)) or hasattr(picture, "read"):
        image = _decode(picture)  # type: ignore[arg-type]
    else:
        image = _from_array(np.asarray(picture))
    if 0 in image.size:
        raise UserError("the picture is empty (0 pixels)")
    image = _fill_transparency(_to_eight_bit(image))
    longer = max(image.size)
    if longer > MAX_SIDE:
        image = image.reduce(-(-longer // MAX_SIDE))
    elif longer < MIN_SIDE and image.size != (FIELD, FIELD):
        image = _enlarge(image)
    return np.asarray(image)


def _decode(picture: str | Path | bytes | BinaryIO | Image.Image) -> Image.Image:
    if getattr(picture, "closed", False):
        raise UserError("the file is closed: use its path, or open it again")
    content = Path(picture).read_bytes() if isinstance(picture, (str, Path)) else picture
    content = content if isinstance(content, (bytes, Image.Image)) else content.read()
    if not content:
        raise UserError("the file is empty")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metadata, and Pillow's limit on pixels, which MAX_PIXELS replaces
            formats = [name for name in FORMATS if name in Image.OPEN]
            image = content if isinstance(content, Image.Image) else Image.open(io.BytesIO(content), formats=formats)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if image is not content:
                image.draft("RGB", (2 * MAX_SIDE, 2 * MAX_SIDE))  # decodes JPEG at reduced size
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise UserError("not a supported image file: use PNG, JPEG, GIF, BMP, TIFF or WebP") from None
    except Image.DecompressionBombError:
        raise UserError(f"the picture has more than {MAX_PIXELS:,} pixels: reduce it") from None
    except Exception as error:  # Pillow raises almost any type for damaged files
        if isinstance(content, Image.Image):
            raise UserError("the image is closed or damaged: call load() before closing it, or use its path") from None
        raise UserError(f"the image file is damaged ({error or type(error).__name__})") from None


def _from_array(values: NDArray[Any]) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] > 4):
        raise UserError(
            f"an array of shape {values.shape} is not a picture: expected (height, width) or (height, width, 1 to 4); "
            "use a list for several pictures"
        )
    if values.dtype == bool:
        values = values * np.uint8(255)
    elif values.dtype.kind == "f":
        if not ((values >= 0) & (values <= 1)).all():  # also catches NaN
            raise UserError("a picture of floats must have values in [0, 1]: divide by 255 or use uint8")
        values = np.floor(255 * values + 0.5).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise UserError(f"a picture of {values.dtype} is not supported: use uint8, bool, or floats in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(values))


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Rescale 16-bit and float images from their own range to 0 to 255."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = values.min(), values.max()
    return Image.fromarray(np.uint8(np.round(255 * (values - low) / (high - low or 1.0))))


def _fill_transparency(image: Image.Image) -> Image.Image:
    """Convert to RGB; transparent pixels become black or white, whichever contrasts more with the opaque ones."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    pixels = np.asarray(image.convert("RGBA"), dtype=np.float64)
    opacity = pixels[..., 3:] / 255
    mean = (pixels[..., :3] * opacity).sum() / max(3 * opacity.sum(), 1e-9)
    paper = 255.0 if mean < 128 else 0.0
    return Image.fromarray(np.uint8(np.round(pixels[..., :3] * opacity + paper * (1 - opacity))))


def _enlarge(image: Image.Image) -> Image.Image:
    factor = -(-MIN_SIDE // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _is_prepared(pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture has MNIST's format: 28 x 28, light on black, 20 pixels long, centered by mass."""
    gray = pixels[..., 0]
    if gray.shape != (FIELD, FIELD) or (gray[..., None] != pixels).any() or not gray.any():
        return False
    is_centered = max(abs(coordinate - CENTRE) for coordinate in ndimage.center_of_mass(gray)) < 0.6
    return max(crop(gray).shape) in (BOX - 1, BOX) and is_centered


FAINT = 32  # ink below this, of 255, is compression noise
SPECK = 50  # components smaller than the largest one by more than this factor are removed
MIN_CONTRAST = 12.0  # minimum difference between ink and background, of 255
SMOOTHING = 1.0  # standard deviation, in pixels, of the blur against the grain of a photograph
GRID = 128  # points along the longer side at which background and ink color are estimated
FRAME = 0.8  # fraction of the way from the center to the edges beyond which most pixels are background
EIGHT = np.ones((3, 3), dtype=int)  # 8-connectivity
LINED, THIN = 0.9, 0.1  # a frame has lines along this fraction of a side, at most this thick relative to its size
MIN_HEIGHT = 0.25  # minimum height of the digit relative to its frame; the bar of an angular 8 is lower


def find_ink(pixels: NDArray[np.uint8]) -> Ink | None:
    """Segment the ink of a picture (height, width, 3); None if it is blank.

    A picture with a uniform background is a drawing or scan. Any other is a photograph: uneven light is removed, and so
    are components that touch the edges, unless there are hardly any others.
    """
    background = _uniform_background(pixels)
    ink = _photographed_ink(pixels) if background is None else _drawn_ink(pixels, background)
    if ink is None:
        return None
    return _remove_frames(_remove_specks(ink))


def _remove_specks(ink: Ink) -> Ink:
    # `prepare.js` does the same
    return np.where(_select_components(ndimage.label(ink, EIGHT)[0]), ink, 0).astype(np.uint8)


def _uniform_background(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the color of at least half of the border and a fifth of the picture; None if there is none."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    unique, counts = np.unique(border, axis=0, return_counts=True)
    color: NDArray[np.uint8] = unique[counts.argmax()]
    fraction = np.equal(pixels, color).all(2).mean()
    return color if 2 * counts.max() >= len(border) and fraction >= 0.2 else None


def _drawn_ink(pixels: NDArray[np.uint8], background: NDArray[np.uint8]) -> Ink | None:
    intensity = _project_to_ink_color(pixels.astype(np.float64) - background)
    strong = intensity[intensity > max(MIN_CONTRAST, intensity.max() / 2)]
    if not strong.size:
        return None
    full = np.percentile(strong, 90, method="nearest")  # not the maximum: JPEG overshoots next to strokes
    ink: Ink = np.floor(np.clip(255 * intensity / full, 0, 255) + 0.5).astype(np.uint8)
    ink[ink < FAINT] = 0
    return ink


def _project_to_ink_color(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project differences from the background onto their first principal component, positive for ink."""
    if (difference[..., :1] == difference).all():
        intensity: NDArray[np.float64] = difference[..., 0]
    else:
        step = max(1, max(difference.shape) // GRID)
        flat = difference[::step, ::step].reshape(-1, 3)
        intensity = np.tensordot(difference, np.linalg.eigh(flat.T @ flat)[1][:, -1], 1)
    return intensity if (intensity**3).sum() >= 0 else -intensity


def _photographed_ink(pixels: NDArray[np.uint8]) -> Ink | None:
    smooth = ndimage.gaussian_filter(pixels.astype(np.float64), (SMOOTHING, SMOOTHING, 0))
    intensity = _project_to_ink_color(smooth - _fit_background(smooth))
    grain = 1.4826 * np.median(np.abs(intensity - np.median(intensity)))  # standard deviation, from the MAD
    strong = intensity[intensity > max(MIN_CONTRAST, 5 * grain, intensity.max() / 2)]
    if strong.size < 4:
        return None
    contrast = float(np.median(strong))
    labels, _ = ndimage.label(intensity > contrast / 2, EIGHT)
    is_digit = ndimage.binary_dilation(_select_components(labels, inside=True), EIGHT, iterations=2)
    # saturates below a quarter and above three quarters of the contrast, which hides the grain of paper and ink
    ink = np.clip(510 * (intensity / contrast - 0.25), 0, 255)
    return np.where(is_digit, ink, 0).astype(np.uint8)


def _fit_background(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit a quadratic surface per channel to the background by least squares with repeated outlier removal."""
    height, width, _ = pixels.shape
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    powers = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
    step = max(1, max(height, width) // GRID)
    terms = [np.outer(rows[::step] ** a, columns[::step] ** b).ravel() for a, b in powers]
    basis, values = np.stack(terms, 1), pixels[::step, ::step].reshape(len(terms[0]), -1)
    # begins with the frame, since a bold digit can cover more of the picture than the paper does
    radius = np.maximum(*(np.abs(basis[:, column]) for column in (1, 2)))
    is_inlier, design = radius > FRAME, basis[:, :3]
    for iteration in range(8):
        surface = np.linalg.lstsq(design[is_inlier], values[is_inlier], rcond=None)[0]
        distance = np.linalg.norm(values - design @ surface, axis=1)
        tolerance = max(3.0 * float(np.median(distance[is_inlier])), 3.0)
        is_inlier = (distance <= tolerance) & ((radius > FRAME) | (iteration >= 3))
        design = basis[:, : 3 if iteration < 3 else 6]
    factors = np.zeros((pixels.shape[2], 3, 3))
    for (a, b), coefficients in zip(powers, surface, strict=True):
        factors[:, a, b] = coefficients
    background: NDArray[np.float64] = np.vander(rows, 3, True) @ factors @ np.vander(columns, 3, True).T
    return np.moveaxis(background, 0, 2)


def _select_components(labels: NDArray[np.int32], inside: bool = False) -> NDArray[np.bool_]:
    """Mask the components except specks; `inside` also drops those at the edges unless hardly any others exist."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if inside:
        inner = sizes.copy()
        inner[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = 0
        sizes = inner if inner.max() * 20 >= sizes.max() else sizes
    is_selected: NDArray[np.bool_] = sizes * SPECK >= max(int(sizes.max()), 1)
    return is_selected[labels]


def _remove_frames(ink: Ink) -> Ink:
    """Crop ink to the inside of frames, such as the box of a form, of which the picture may cut off one side."""
    labels, count = ndimage.label(ink, EIGHT)
    if not count:
        return ink
    boxes = ndimage.find_objects(labels)
    number = int(np.argmax([labels[box].size for box in boxes]))
    rows, columns = box = boxes[number]
    outline = labels[box] == number + 1
    lines = [np.rot90(_top_line(np.rot90(outline, turns)), -turns) for turns in range(4)]
    has_line, frame_lines = [line.any() for line in lines], np.any(lines, 0)
    is_cut = [rows.start == 0, columns.stop == ink.shape[1], rows.stop == ink.shape[0], columns.start == 0]
    if sum(has_line) < 3 or not np.all(np.logical_or(has_line, is_cut)):
        return ink
    if all(is_cut) and np.median(ink[box][frame_lines]) < INKED:  # squared paper
        return ink
    inside = _remove_specks(np.where(frame_lines, 0, ink[box]))
    is_digit = inside.any() and len(crop(inside)) >= MIN_HEIGHT * len(inside)
    return _remove_frames(inside) if is_digit else ink


def _top_line(outline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask the line along the top of an outline; empty if there is none. It may be slanted or have round ends."""
    height, rows = len(outline), np.arange(len(outline))[:, None]
    start = outline.argmax(0)
    end = np.where(outline | (rows < start), height, rows).min(0)
    is_near = outline.any(0) & (start < height / 8)
    thickness = np.median((end - start)[is_near]) if is_near.mean() >= LINED else np.inf
    is_thin = bool(thickness <= THIN * min(outline.shape))
    line: NDArray[np.bool_] = is_near & (rows >= start) & (rows < start + 1.5 * thickness + 1)
    return line & is_thin


WORK = 120
"""Ink at least twice as long, in pixels, is first reduced by an integer factor; 20 x 20 pixels hold no more detail."""
INKED = 128
"""Threshold between background and stroke."""
THINNEST, THICKEST = 2.2, 3.7
"""Range of stroke widths, in pixels of the 20 x 20 box, that are left unchanged: slightly more than the middle half of
MNIST's (the middle 95 % have 1.6 to 4.7). `tests/data/test_picture_accuracy.py` measures the effect."""


def frame(ink: Ink) -> NDArray[np.uint8]:
    """Scale ink of any size, with a pixel above 0, to fit 20 x 20 pixels and center its mass in (28, 28)."""
    ink = crop(ink)
    if (factor := max(ink.shape) // WORK) > 1:
        ink = np.pad(ink, [(0, -side % factor) for side in ink.shape])
        ink = crop(_resample(ink, ink.shape[0] // factor, ink.shape[1] // factor))
    ink = crop(_normalize_stroke_width(ink))
    longer = max(ink.shape)
    rows, columns = (max(1, (2 * BOX * side + longer) // (2 * longer)) for side in ink.shape)
    ink = _resample(ink, rows, columns)
    # moves the center of mass to pixel (14, 14), if the digit then fits into the image
    mass = ink.astype(np.int64)
    total = max(int(mass.sum()), 1)
    corner = []
    for axis, side in enumerate(ink.shape):
        moment = int((mass.sum(1 - axis) * np.arange(side)).sum())
        corner.append(min(max(CENTRE - (2 * moment + total) // (2 * total), 0), FIELD - side))
    return np.pad(ink, [(start, FIELD - side - start) for start, side in zip(corner, ink.shape, strict=True)])


def crop(ink: Ink) -> Ink:
    """Return the bounding box of the pixels above 0."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def stroke_width(ink: Ink) -> float:
    """Estimate the mean stroke width in pixels: a bar of width w has a mean distance to the background of w / 4."""
    inside = np.pad(ink >= INKED, 1)
    if not inside.any():
        return 0.0
    distance = ndimage.distance_transform_edt(inside)[inside]
    return float(4 * distance.mean() - 2)  # distances to pixel centers are half a pixel longer than to the edge


def _normalize_stroke_width(ink: Ink) -> Ink:
    """Dilate or erode strokes whose width in the 20 x 20 box would be outside THINNEST to THICKEST."""
    longer, width = max(ink.shape), stroke_width(ink)
    target = min(max(width * BOX / longer, THINNEST), THICKEST)
    # dilation by r adds 2 r to both stroke width and size: (width + 2 r) / (longer + 2 r) = target / BOX
    radius = (target * longer - BOX * width) / (2 * (BOX - target))
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


def _resample(ink: Ink, rows: int, columns: int) -> Ink:
    """Resample to (rows, columns) by area averaging, rounded."""
    total = _overlaps(ink.shape[0], rows) @ ink.astype(np.float64) @ _overlaps(ink.shape[1], columns).T
    mean: Ink = ((2 * total + ink.size) // (2 * ink.size)).astype(np.uint8)
    return mean


def _overlaps(size: int, count: int) -> NDArray[np.float64]:
    """Return (count, size): overlap of `count` equal intervals with each pixel, in exact units of 1 / count pixel."""
    pixel, interval = np.arange(size)[None] * count, np.arange(count)[:, None] * size
    overlaps = np.maximum(np.minimum(pixel + count, interval + size) - np.maximum(pixel, interval), 0)
    return np.asarray(overlaps, np.float64)
