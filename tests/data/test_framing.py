import numpy as np
import pytest
from PIL import Image

from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.picture import BOX, CENTRE, THICKEST, THINNEST, Ink, _resample, crop, frame, stroke_width


def bar(height: int, width: int) -> Ink:
    """A filled rectangle surrounded by background."""
    ink = np.zeros((height + 40, width + 60), np.uint8)
    ink[15 : 15 + height, 30 : 30 + width] = 255
    return ink


def center_of_mass(image: Ink) -> list[float]:
    mass = image.astype(float)
    return [float((mass.sum(1 - axis) * np.arange(28)).sum() / mass.sum()) for axis in (0, 1)]


@pytest.mark.parametrize("size", [(200, 40), (40, 200), (100, 100), (333, 61), (37, 12), (900, 150)])
def test_the_longer_side_fills_the_box_and_the_mass_is_centered(size: tuple[int, int]) -> None:
    framed = frame(bar(*size))
    assert max(crop(framed).shape) == BOX
    assert max(abs(coordinate - CENTRE) for coordinate in center_of_mass(framed)) <= 0.5


def test_an_enlarged_mnist_digit_is_restored_almost_exactly() -> None:
    differences = []
    for digit in load_digits("sample", "").test_images.numpy()[::25]:
        large = np.asarray(Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC))
        differences.append(np.abs(frame(np.where(large < 32, 0, large)).astype(int) - digit).mean())
    assert len(differences) == 40
    assert np.median(differences) < 8  # of 255; a shift by one pixel gives 25


def test_area_averaging_is_exact() -> None:
    ink = np.random.default_rng(0).integers(0, 256, (93, 41)).astype(np.uint8)
    fine = ink.repeat(20, 0).repeat(9, 1).astype(float)
    assert (_resample(ink, 20, 9) == np.floor(fine.reshape(20, 93, 9, 41).mean((1, 3)) + 0.5)).all()
    assert _resample(ink, 1, 1)[0, 0] == int(np.floor(ink.mean() + 0.5))
    exact = np.repeat(np.repeat(ink, 3, 0), 2, 1)
    assert (_resample(exact, 93, 41) == ink).all()


@pytest.mark.parametrize("width", [8, 15, 30])
def test_stroke_width_is_that_of_a_bar(width: int) -> None:
    assert stroke_width(bar(240, width)) == pytest.approx(width, rel=0.1)


@pytest.mark.parametrize("width", [3, 6, 12, 24, 60, 100])
def test_strokes_of_any_width_are_normalized_to_the_range_of_mnist(width: int) -> None:
    ink = np.zeros((400, 400), np.uint8)
    rows, columns = np.mgrid[:400, :400]
    distance = np.abs(np.hypot(rows - 200, columns - 200) - 130)
    ink[distance <= width / 2] = 255
    large = np.asarray(Image.fromarray(frame(ink)).resize((280, 280), Image.Resampling.BICUBIC))
    assert THINNEST - 0.6 < stroke_width(large) / 10 < THICKEST + 0.6


def test_a_single_pixel_is_framed() -> None:
    assert frame(np.array([[40]], np.uint8)).max() > 0
