"""MNIST digits rendered like typical user pictures: large, colored, on paper, photographed."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Rendered = NDArray[np.uint8]
"""uint8, (height, width) or (height, width, 3 or 4)."""
SCALE = 10
PALETTE = (
    ((20, 30, 120), (250, 244, 220)), ((200, 30, 30), (255, 255, 255)), ((250, 230, 90), (70, 20, 90)),
    ((255, 255, 255), (20, 90, 60)), ((230, 120, 20), (30, 60, 120)),
)  # fmt: skip
"""(ink, background): lighter and darker than the background, and one pair of similar lightness."""


def ink(digit: NDArray[np.uint8], scale: int = SCALE) -> NDArray[np.float64]:
    """The digit enlarged smoothly with sharp edges, (28 scale, 28 scale) in [0, 1]."""
    image = Image.fromarray(digit).resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC)
    soft = np.asarray(image, dtype=float) / 255
    return np.clip(0.5 + 2 * (soft - 0.5), 0, 1)


def on(paper: tuple[int, ...], pen: tuple[int, ...], ink_map: NDArray[np.float64]) -> Rendered:
    mixed = np.array(paper) * (1 - ink_map[..., None]) + np.array(pen) * ink_map[..., None]
    return np.uint8(np.round(mixed))


def light_on_dark(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    return np.uint8(np.round(255 * ink(digit)))


def dark_on_light(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    return 255 - light_on_dark(digit, random)


def colored(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    pen, paper = PALETTE[random.integers(len(PALETTE))]
    return on(paper, pen, ink(digit))


def margins(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """A small digit at a random position on a large page."""
    ink_map = ink(digit, 6)
    page = np.zeros((420, 600))
    top, left = random.integers(0, 420 - 168), random.integers(0, 600 - 168)
    page[top : top + 168, left : left + 168] = ink_map
    return on((255, 255, 255), (0, 0, 0), page)


def cropped(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """Almost no margin."""
    ink_map = ink(digit)
    rows, columns = np.flatnonzero((ink_map > 0.5).any(1)), np.flatnonzero((ink_map > 0.5).any(0))
    crop = ink_map[max(rows[0] - 12, 0) : rows[-1] + 12, max(columns[0] - 12, 0) : columns[-1] + 12]
    return on((255, 255, 255), (30, 30, 30), crop)


def rotated(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    image = Image.fromarray(np.uint8(np.round(255 * ink(digit))))
    return 255 - np.asarray(image.rotate(random.uniform(-5, 5), Image.Resampling.BICUBIC))


def noisy_paper(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """Paper with grain and fibers."""
    page = on((236, 230, 214), (40, 40, 60), ink(digit)).astype(float)
    fibers = np.asarray(
        Image.fromarray(np.uint8(random.integers(0, 256, (40, 40)))).resize((280, 280), Image.Resampling.BICUBIC), float
    )
    page += random.normal(0, 14, page.shape) + (fibers[..., None] - 128) / 14
    return np.uint8(np.clip(np.round(page), 0, 255))


def _thickness(digit: NDArray[np.uint8], size: int, filtered: Callable[[int], ImageFilter.Filter]) -> Rendered:
    image = Image.fromarray(np.uint8(np.round(255 * ink(digit))))
    return 255 - np.asarray(image.filter(filtered(size)))


def thin(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """Strokes thinner by 0.8 MNIST pixels."""
    return _thickness(digit, 9, ImageFilter.MinFilter)


def thick(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """Strokes thicker by 0.8 MNIST pixels."""
    return _thickness(digit, 9, ImageFilter.MaxFilter)


def jpeg(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    content = io.BytesIO()
    Image.fromarray(on((255, 255, 255), (30, 40, 130), ink(digit))).save(content, "jpeg", quality=30)
    return np.asarray(Image.open(content))


def transparent(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """A uniform color, dark or light; the shape is only in the alpha channel."""
    color = (15, 15, 15) if random.random() < 0.5 else (240, 240, 255)
    alpha = np.uint8(np.round(255 * ink(digit)))
    return np.dstack([np.broadcast_to(np.uint8(color), (*alpha.shape, 3)), alpha])


def small(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """Slightly larger than MNIST, dark on light."""
    size = int(random.integers(34, 60))
    return 255 - np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC))


def photograph(digit: NDArray[np.uint8], random: np.random.Generator) -> Rendered:
    """Ink on unevenly lit paper, slightly out of focus, with grain, as JPEG."""
    page = np.zeros((480, 640))
    ink_map = ink(digit, 8)
    top, left = random.integers(20, 236), random.integers(20, 396)
    page[top : top + 224, left : left + 224] = ink_map
    image = Image.fromarray(on((228, 226, 218), (45, 48, 80), page)).filter(ImageFilter.GaussianBlur(1.5))
    rows, columns = np.mgrid[-1:1:480j, -1:1:640j]
    angle = random.uniform(0, 2 * np.pi)
    light = 0.72 + 0.25 * (np.cos(angle) * rows + np.sin(angle) * columns) - 0.08 * (rows**2 + columns**2)
    shot = np.asarray(image, float) * light[..., None] + random.normal(0, 4, (480, 640, 1))
    content = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(np.round(shot), 0, 255))).save(content, "jpeg", quality=70)
    return np.asarray(Image.open(content))


STYLES: dict[str, Callable[[NDArray[np.uint8], np.random.Generator], Rendered]] = {
    style.__name__: style
    for style in (
        *(light_on_dark, dark_on_light, colored, margins, cropped, rotated, noisy_paper, thin, thick, jpeg),
        *(transparent, small, photograph),
    )
}
