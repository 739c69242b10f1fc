import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import STYLES, dark_on_light, ink, light_on_dark
from PIL import Image, ImageDraw

from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.picture import prepare, read_picture
from mnist_mlp.errors import UserError

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Two test images of each digit."""
    digits = load_digits("sample", "")
    return np.concatenate([digits.test_images[digits.test_labels == digit][:2].numpy() for digit in range(10)])


def correlation(actual: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    """The maximum correlation over shifts by up to a pixel, since rounding decides on the center."""
    shifted = [np.roll(actual, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return max(float(np.corrcoef(image.ravel(), expected.ravel())[0, 1]) for image in shifted)


def encode(picture: NDArray[np.uint8], format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(options.pop("mode")) if "mode" in options else image).save(content, format, **options)
    return content.getvalue()


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_in_any_style_is_prepared_close_to_the_mnist_digit(style: str, digits: NDArray[np.uint8]) -> None:
    random = np.random.default_rng(1)
    correlations = [correlation(prepare(STYLES[style](digit, random)), digit) for digit in digits[::2]]
    minimum, median = {"thin": (0.55, 0.8), "thick": (0.6, 0.8), "rotated": (0.6, 0.85)}.get(style, (0.8, 0.93))
    assert min(correlations) > minimum
    assert np.median(correlations) > median


def test_prepared_images_are_returned_unchanged(digits: NDArray[np.uint8]) -> None:
    for digit in digits:
        prepared = prepare(dark_on_light(digit, RANDOM))
        assert (prepare(prepared) == prepared).all()
        assert (prepare(digit) == digit).all()
        assert (prepare(Image.fromarray(digit)) == digit).all()


def test_all_input_types_of_a_picture_give_the_same_result(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    picture = dark_on_light(digits[4], RANDOM)
    expected = prepare(picture)
    content = encode(picture, "png")
    (tmp_path / "digit.png").write_bytes(content)
    inputs: list[Any] = [
        *(content, io.BytesIO(content), tmp_path / "digit.png", str(tmp_path / "digit.png"), Image.fromarray(picture)),
        *(picture[..., None], np.dstack([picture] * 3), picture / 255, picture.tolist() and picture),
        *(encode(picture, "tiff"), encode(picture, "bmp"), encode(picture, "webp", lossless=True)),
        *(encode(picture, "png", mode="P"), encode(picture, "png", mode="LA"), encode(picture, "gif")),
    ]
    for same in inputs:
        assert (prepare(same) == expected).all()


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L"])
def test_jpegs_of_every_color_space_are_prepared(mode: str, digits: NDArray[np.uint8]) -> None:
    content = encode(dark_on_light(digits[6], RANDOM), "jpeg", mode=mode, quality=80)
    assert correlation(prepare(content), digits[6]) > 0.9


def test_16_bit_images_and_boolean_arrays_are_prepared(digits: NDArray[np.uint8]) -> None:
    picture = light_on_dark(digits[2], RANDOM)
    content = io.BytesIO()
    Image.fromarray(picture.astype(np.uint16) * 257).save(content, "png")
    assert correlation(prepare(content.getvalue()), digits[2]) > 0.95
    assert correlation(prepare(picture > 127), digits[2]) > 0.9


def test_the_exif_orientation_is_applied(digits: NDArray[np.uint8]) -> None:
    rotated = Image.fromarray(dark_on_light(digits[5], RANDOM)).rotate(90, expand=True)
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # rotate clockwise for display
    rotated.save(content, "jpeg", exif=exif)
    assert correlation(prepare(content.getvalue()), digits[5]) > 0.9
    assert correlation(prepare(Image.open(content)), digits[5]) > 0.9
    assert correlation(prepare(Image.open(content).convert("L")), digits[5]) > 0.9


@pytest.mark.parametrize("box", [(10, 10, 330, 350), (-9, 10, 330, 350)])
@pytest.mark.parametrize(("color", "width"), [("black", 2), ("black", 9), ((60, 90, 200), 3), ((150, 150, 150), 3)])
def test_the_box_of_a_form_is_not_part_of_the_digit(
    box: tuple[int, ...], color: str, width: int, digits: NDArray[np.uint8]
) -> None:
    for digit in digits[::5]:
        page = Image.new("RGB", (360, 360), "white")
        page.paste(Image.fromarray(dark_on_light(digit, RANDOM)), (35, 40))
        expected = prepare(page)
        ImageDraw.Draw(page).rectangle(box, outline=color, width=width)
        assert correlation(prepare(page), expected) > 0.9
        assert correlation(prepare(page.rotate(2, fillcolor="white")), digit) > 0.6


def test_an_angular_digit_is_not_a_box(digits: NDArray[np.uint8]) -> None:
    page = Image.new("L", (300, 300), 255)
    pen = ImageDraw.Draw(page)
    pen.rectangle((90, 40, 210, 260), outline=0, width=10)
    zero = prepare(page)
    pen.line((90, 150, 210, 150), fill=0, width=10)
    eight = prepare(page)
    assert zero[14, 8:20].max() > 0
    assert (zero[5:23].max(1) > 0).all()
    assert (eight[5:23].max(1) > 0).all()


def test_a_large_picture_is_reduced_and_a_tiny_one_enlarged(digits: NDArray[np.uint8]) -> None:
    assert max(read_picture(np.zeros((3000, 4000), np.uint8)).shape) == 1000
    assert max(read_picture(np.zeros((20, 40), np.uint8)).shape) == 120
    large = np.uint8(255 * (1 - ink(digits[8], 90)))
    assert correlation(prepare(large), digits[8]) > 0.9


def test_specks_are_removed(digits: NDArray[np.uint8]) -> None:
    picture = dark_on_light(digits[0], RANDOM)
    speckled = picture.copy()
    speckled[2:5, 2:5] = 0
    speckled[270:273, 260:264] = 60
    assert (prepare(speckled) == prepare(picture)).all()


def test_the_edge_of_the_paper_is_removed(digits: NDArray[np.uint8]) -> None:
    page = 215 + RANDOM.normal(0, 3, (400, 400))
    page[60:340, 60:340] -= 170 * ink(digits[3])
    page[:, :30] = 50 + RANDOM.normal(0, 3, (400, 30))
    assert correlation(prepare(np.uint8(np.clip(page, 0, 255))), digits[3]) > 0.85


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", "the file is empty"),
        (b"neither png nor jpeg", "not a supported image file: use PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a supported image file: use PNG"),
        (np.zeros((0, 5), np.uint8), "the picture is empty"),
        (np.zeros((50, 50), np.uint8), "nothing stands out"),
        (np.full((90, 90, 3), 200, np.uint8), "nothing stands out"),
        (np.zeros(784, np.uint8), r"an array of shape \(784,\) is not a picture"),
        (np.zeros((4, 28, 28), np.uint8), r"an array of shape \(4, 28, 28\) is not a picture"),
        (np.full((9, 9), 3.0), r"floats must have values in \[0, 1\]"),
        (np.zeros((9, 9), np.int64), "a picture of int64 is not supported"),
    ],
)
def test_an_invalid_picture_is_a_one_line_error(picture: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        prepare(picture)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_an_error(digits: NDArray[np.uint8]) -> None:
    for format in ("png", "jpeg", "gif", "tiff", "webp"):
        content = encode(dark_on_light(digits[1], RANDOM), format)
        for fraction in (0.1, 0.3, 0.5):
            with pytest.raises(UserError, match=r"damaged|not a supported image file|nothing stands out"):
                prepare(content[: int(fraction * len(content))])


@pytest.mark.parametrize("width", [20, 160])
def test_a_shadow_across_the_paper_is_not_ink(width: int, digits: NDArray[np.uint8]) -> None:
    page = np.full((400, 400), 225.0)
    page[60:340, 60:340] -= 175 * ink(digits[7])
    rows, columns = np.mgrid[:400, :400]
    light = 0.55 + 0.45 / (1 + np.exp(-4 * (columns + rows / 2 - 260) / width))
    photo = page * light + np.random.default_rng(0).normal(0, 3, page.shape)
    assert correlation(prepare(np.uint8(np.clip(photo, 0, 255))), digits[7]) > 0.9
