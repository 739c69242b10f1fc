"""A picture of a digit, of any kind, prepared the way MNIST was made; and several digits in a row, cut apart."""

import io
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mnist_mlp.data.segmentation import BOX, CENTRE, FIELD, Ink, crop, cut_apart, find_ink, frame
from mnist_mlp.errors import UserError

FORMS = "give uint8 in 0..255 or floats in [0, 1], one image (28, 28) or many (n, 28, 28), with or without a channel"


def as_pixels(images: Any) -> Tensor:
    """Pixels of one image or many as (n, 28, 28), uint8 or float32, both on the scale 0 to 255, light ink on dark.

    images: torch or numpy, uint8 in 0..255 or floats in [0, 1] (what torchvision's ToTensor gives); (28, 28),
    (n, 28, 28), (n, 1, 28, 28) or (n, 28, 28, 1). UserError where that could be something else: integers of other
    types, floats outside [0, 1], uint8 that are only 0 and 1, several channels.
    """
    if isinstance(images, (list, tuple)):
        raise UserError(f"images is a {type(images).__name__}: give one array, by torch.stack or numpy.stack")
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor):
        raise UserError(f"images is a {type(images).__name__}: give a torch tensor or a numpy array")
    return _scaled(_without_channel(images))


def _without_channel(images: Tensor) -> Tensor:
    shape = tuple(images.shape)
    if shape == (28, 28):
        return images[None]
    if len(shape) == 4 and shape[1:] == (1, 28, 28):
        return images[:, 0]
    if len(shape) in (3, 4) and shape[-3:] == (28, 28, 1):
        return images[..., 0].reshape(-1, 28, 28)
    if len(shape) == 3 and shape[1:] == (28, 28):
        return images
    raise UserError(f"images have the shape {shape}: {FORMS}")


def _scaled(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        if images.numel() and int(images.max()) == 1:
            raise UserError("images are uint8 of 0 and 1 alone, which may be a mask: multiply by 255 if 1 is full ink")
        return images
    if not images.is_floating_point():
        raise UserError(f"images are {str(images.dtype).removeprefix('torch.')}: {FORMS}")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):  # NaN is outside, too
        low, high = images.min().item(), images.max().item()
        raise UserError(
            f"images are floats from {low:.4g} to {high:.4g}: {FORMS}; not normalised, the classifier does that itself"
        )
    return images.float() * 255


Picture = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]
"""A file, its content, a PIL image, or an array: (height, width), or (height, width, 1 to 4) as PIL orders channels."""

LARGEST = 1024
"""Longer side, in pixels, to which larger pictures are reduced."""
SMALLEST = 112
"""Longer side, in pixels, to which smaller pictures are enlarged: strokes must be some pixels wide to be measured."""
MOST_PIXELS = 100_000_000
"""A picture with more is refused before it is decoded: a few kilobytes can claim to be gigabytes."""
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "ICO")
"""What is read. Pillow knows more, some of which (EPS) it hands to another program."""


def prepare(picture: Picture) -> NDArray[np.uint8]:
    """The digit as MNIST would hold it: (28, 28) uint8, light on black.

    Its ink is found, cropped, scaled into 20 x 20 keeping its shape, and centred by mass. Ink may be darker or lighter
    than its background, grey or coloured; the background may be transparent, or paper in uneven light. What is
    prepared already comes back as it is. UserError where it is no picture, too large a one, or blank. Arrays of floats
    are in [0, 1].
    """
    pixels = read_picture(picture)
    done = _prepared(pixels)
    return frame(_ink(pixels)) if done is None else done


def prepare_row(picture: Picture) -> list[NDArray[np.uint8]]:
    """Several digits side by side in one picture, from left to right, each as `prepare` returns it."""
    return [frame(part) for part in cut_apart(_ink(read_picture(picture)))]


def read_picture(picture: Picture) -> NDArray[np.uint8]:
    """The picture as (height, width, 3) uint8, turned upright, what is transparent filled.

    Its longer side is brought between SMALLEST and LARGEST pixels, unless it is 28 x 28. UserError where it is no
    picture.
    """
    if isinstance(picture, Image.Image):
        image = picture
    elif isinstance(picture, (str, Path, bytes)) or hasattr(picture, "read"):
        image = _opened(picture)  # type: ignore[arg-type]
    else:
        image = _from_array(np.asarray(picture))
    if 0 in image.size:
        raise UserError("the picture is empty (0 pixels)")
    image = _filled(_eight_bit(image))
    longer = max(image.size)
    if longer > LARGEST:
        image = image.reduce(-(-longer // LARGEST))
    elif longer < SMALLEST and image.size != (FIELD, FIELD):
        image = _enlarged(image)
    return np.asarray(image)


def _opened(file: str | Path | bytes | BinaryIO) -> Image.Image:
    """A picture file, decoded. UserError where it cannot be."""
    content = (
        file if isinstance(file, bytes) else Path(file).read_bytes() if isinstance(file, (str, Path)) else file.read()
    )
    if not content:
        raise UserError("the file is empty")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit and remarks on metadata; ours is the next line
            image = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
            _check_size(image)
            image.draft("RGB", (2 * LARGEST, 2 * LARGEST))  # JPEG alone can be decoded smaller
            image.load()
            return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError("no picture that can be read: PNG, JPEG, GIF, BMP, TIFF, WEBP and some others can") from None
    except Image.DecompressionBombError:
        raise _too_large() from None
    except Exception as error:  # a broken file makes Pillow's decoders raise almost anything
        raise UserError(f"a broken picture ({error or type(error).__name__})") from None


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large()


def _too_large() -> UserError:
    return UserError(f"more than {MOST_PIXELS:,} pixels, which is more than any picture of a digit needs")


def _from_array(values: NDArray[Any]) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] > 4):
        raise UserError(
            f"an array of shape {values.shape} is no picture: give (height, width) or (height, width, 1 to 4), "
            "and several pictures as a list"
        )
    if 0 in values.shape:
        raise UserError("the picture is empty (0 pixels)")
    if values.dtype == bool:
        values = values * np.uint8(255)
    elif values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
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
    """RGB; where it is transparent, filled with black or white, whichever the opaque part differs from more."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    pixels = np.asarray(image.convert("RGBA"), dtype=np.float64)
    opacity = pixels[..., 3:] / 255
    mean = (pixels[..., :3] * opacity).sum() / max(3 * opacity.sum(), 1e-9)
    paper = 255.0 if mean < 128 else 0.0
    return Image.fromarray(np.uint8(np.round(pixels[..., :3] * opacity + paper * (1 - opacity))))


def _enlarged(image: Image.Image) -> Image.Image:
    factor = -(-SMALLEST // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _ink(pixels: NDArray[np.uint8]) -> Ink:
    if pixels.shape[:2] == (FIELD, FIELD):
        pixels = np.asarray(_enlarged(Image.fromarray(pixels)))
    ink = find_ink(pixels)
    if ink is None or not ink.any():
        raise UserError("no digit found: nothing stands out from the background")
    return ink


def _prepared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A picture that is already as MNIST's are: 28 x 28, on black, 20 pixels long, its centre of mass in the middle."""
    grey = pixels[..., 0]
    if grey.shape != (FIELD, FIELD) or (grey[..., None] != pixels).any() or not grey.any():
        return None
    mass = grey.astype(float)
    centre = [(mass.sum(1 - axis) * np.arange(FIELD)).sum() / mass.sum() for axis in (0, 1)]
    fits = max(crop(grey).shape) in (BOX - 1, BOX) and max(abs(place - CENTRE) for place in centre) < 0.6
    return grey.copy() if fits else None
