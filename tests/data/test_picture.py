import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import STYLES, dark_on_light, ink, light_on_dark
from PIL import Image

from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.picture import prepare, read_picture
from mnist_mlp.errors import UserError

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Two test digits of each kind."""
    digits = load_digits("sample", "")
    return np.concatenate([digits.test_images[digits.test_labels == digit][:2].numpy() for digit in range(10)])


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Their correlation, at its best with one moved by up to a pixel: where the middle is, rounding decides."""
    moved = [np.roll(one, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return max(float(np.corrcoef(image.ravel(), other.ravel())[0, 1]) for image in moved)


def encoded(picture: NDArray[np.uint8], format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(options.pop("mode")) if "mode" in options else image).save(content, format, **options)
    return content.getvalue()


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_in_any_style_becomes_the_digit_that_it_shows(style: str, digits: NDArray[np.uint8]) -> None:
    random = np.random.default_rng(1)
    found = [alike(prepare(STYLES[style](digit, random)), digit) for digit in digits[::2]]
    lowest, usual = {"thin": (0.55, 0.8), "thick": (0.6, 0.8), "rotated": (0.6, 0.85)}.get(style, (0.8, 0.93))
    assert min(found) > lowest
    assert np.median(found) > usual


def test_what_is_prepared_comes_back_as_it_is(digits: NDArray[np.uint8]) -> None:
    for digit in digits:
        prepared = prepare(dark_on_light(digit, RANDOM))
        assert (prepare(prepared) == prepared).all()
        assert (prepare(digit) == digit).all()
        assert (prepare(Image.fromarray(digit)) == digit).all()


def test_every_way_to_hand_over_a_picture_gives_the_same(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    picture = dark_on_light(digits[4], RANDOM)
    expected = prepare(picture)
    content = encoded(picture, "png")
    (tmp_path / "digit.png").write_bytes(content)
    same: list[Any] = [
        *(content, io.BytesIO(content), tmp_path / "digit.png", str(tmp_path / "digit.png"), Image.fromarray(picture)),
        *(picture[..., None], np.dstack([picture] * 3), picture / 255, picture.tolist() and picture),
        *(encoded(picture, "tiff"), encoded(picture, "bmp"), encoded(picture, "webp", lossless=True)),
        *(encoded(picture, "png", mode="P"), encoded(picture, "png", mode="LA"), encoded(picture, "gif")),
    ]
    for one in same:
        assert (prepare(one) == expected).all()


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L"])
def test_jpegs_of_every_colour_space(mode: str, digits: NDArray[np.uint8]) -> None:
    content = encoded(dark_on_light(digits[6], RANDOM), "jpeg", mode=mode, quality=80)
    assert alike(prepare(content), digits[6]) > 0.9


def test_sixteen_bits_and_truth_values(digits: NDArray[np.uint8]) -> None:
    picture = light_on_dark(digits[2], RANDOM)
    content = io.BytesIO()
    Image.fromarray(picture.astype(np.uint16) * 257).save(content, "png")
    assert alike(prepare(content.getvalue()), digits[2]) > 0.95
    assert alike(prepare(picture > 127), digits[2]) > 0.9


def test_a_photograph_is_turned_upright(digits: NDArray[np.uint8]) -> None:
    turned = Image.fromarray(dark_on_light(digits[5], RANDOM)).rotate(90, expand=True)
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to see it upright
    turned.save(content, "jpeg", exif=exif)
    assert alike(prepare(content.getvalue()), digits[5]) > 0.9


def test_a_large_picture_is_reduced_and_a_tiny_one_enlarged(digits: NDArray[np.uint8]) -> None:
    assert max(read_picture(np.zeros((3000, 4000), np.uint8)).shape) == 1000
    assert max(read_picture(np.zeros((20, 40), np.uint8)).shape) == 120
    large = np.uint8(255 * (1 - ink(digits[8], 90)))
    assert alike(prepare(large), digits[8]) > 0.9


def test_specks_beside_the_digit_are_left_out(digits: NDArray[np.uint8]) -> None:
    picture = dark_on_light(digits[0], RANDOM)
    speckled = picture.copy()
    speckled[2:5, 2:5] = 0
    speckled[270:273, 260:264] = 60
    assert (prepare(speckled) == prepare(picture)).all()


def test_the_edge_of_the_sheet_is_no_digit(digits: NDArray[np.uint8]) -> None:
    page = 215 + RANDOM.normal(0, 3, (400, 400))
    page[60:340, 60:340] -= 170 * ink(digits[3])
    page[:, :30] = 50 + RANDOM.normal(0, 3, (400, 30))
    assert alike(prepare(np.uint8(np.clip(page, 0, 255))), digits[3]) > 0.85


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", "the file is empty"),
        (b"neither png nor jpeg", "no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that can be read"),
        (np.zeros((0, 5), np.uint8), "the picture is empty"),
        (np.zeros((50, 50), np.uint8), "nothing stands out"),
        (np.full((90, 90, 3), 200, np.uint8), "nothing stands out"),
        (np.zeros(784, np.uint8), r"an array of shape \(784,\) is not a picture"),
        (np.zeros((4, 28, 28), np.uint8), r"an array of shape \(4, 28, 28\) is not a picture"),
        (np.full((9, 9), 3.0), r"floats has its values in \[0, 1\]"),
        (np.zeros((9, 9), np.int64), "a picture of int64 is not understood"),
    ],
)
def test_what_is_no_picture_is_told_in_a_line(picture: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        prepare(picture)
    assert "\n" not in str(error.value)


def test_a_broken_file_is_told_in_a_line_wherever_it_is_cut(digits: NDArray[np.uint8]) -> None:
    for format in ("png", "jpeg", "gif", "tiff", "webp"):
        content = encoded(dark_on_light(digits[1], RANDOM), format)
        for part in (0.1, 0.3, 0.5):
            with pytest.raises(UserError, match=r"broken picture|no picture|nothing stands out"):
                prepare(content[: int(part * len(content))])


@pytest.mark.parametrize("width", [20, 160])
def test_a_shadow_across_the_paper_is_no_ink(width: int, digits: NDArray[np.uint8]) -> None:
    page = np.full((400, 400), 225.0)
    page[60:340, 60:340] -= 175 * ink(digits[7])
    rows, columns = np.mgrid[:400, :400]
    light = 0.55 + 0.45 / (1 + np.exp(-4 * (columns + rows / 2 - 260) / width))
    shot = page * light + np.random.default_rng(0).normal(0, 3, page.shape)
    assert alike(prepare(np.uint8(np.clip(shot, 0, 255))), digits[7]) > 0.9
