"""Figures of one run: what is on them, where, and in which size."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_mlp.plots import run as plots
from mnist_mlp.plots.run import Figure, Scale, Slide, plain

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet([0.2] * 10, 60)
DIGITS = RANDOM.integers(0, 256, (40, 28, 28)).astype(np.uint8)


def ink(figure: Figure, colour: str) -> np.ndarray[Any, Any]:
    """Rows and columns (n, 2) of the pixels of this colour."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return np.argwhere((plots.pixels(figure) == wanted).all(2))


@pytest.mark.parametrize(("align", "up"), [(0.0, False), (0.5, False), (1.0, False), (0.5, True)])
def test_a_text_stands_where_it_was_put(align: float, up: bool) -> None:
    slide = Slide("")
    slide.text(800, 450, "0000000", 100, align, "#ff0000", up)
    found = ink(slide.done(), "#ff0000")[:, ::-1]
    left, right = found[:, 0].min(), found[:, 0].max() + 1
    top, bottom = found[:, 1].min(), found[:, 1].max() + 1
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(
        (800, 450) if align == 0.5 else (800 + (0.5 - align) * (right - left), 450), abs=7
    )
    assert ((bottom - top) if not up else (right - left)) == pytest.approx(76, abs=3)  # digits are 0.73 high, and round
    assert (bottom - top > right - left) == up


@pytest.mark.parametrize(
    "figure",
    [
        plots.learning_curves({"epoch": [1.0], "train/accuracy": [0.9], "train/loss": [0.3]}, 1),
        plots.learning_curves({"epoch": [1.0, 2.0], "train/accuracy": [0.1, np.nan], "train/loss": [np.nan] * 2}, 2),
        plots.learning_curves({}, None),
        plots.confusion(np.zeros((10, 10), int), "no images"),
        plots.class_bars([0.0] * 10, "never right"),
        plots.calibration(np.arange(60) % 10, PROBABILITIES, "few"),
        plots.calibration(np.zeros(0, int), np.zeros((0, 10)), "none"),
        plots.gallery(DIGITS[:0], [], "no digits"),
        plots.gallery(DIGITS[:1], ["0"], "one"),
        plots.gallery(DIGITS[:32], list("0123456789012345678901234567890_"), "$ many"),
        plots.gallery(DIGITS[:1], ["0"], r"$\frac$ is no formula"),
        plots.first_layer(RANDOM.normal(size=(1, 784)), "one unit"),
        plots.first_layer(np.zeros((300, 784)), "zeros"),
    ],
)
def test_every_figure_fills_a_slide_whatever_it_is_given(figure: Figure) -> None:
    drawn = plots.pixels(figure)
    assert drawn.shape == (900, 1600, 3)
    assert (drawn[[0, -1]] == 255).all()
    assert (drawn[:, [0, -1]] == 255).all()
    assert (drawn < 128).any()


def test_digits_of_a_page_make_the_figure_as_high_as_they_need() -> None:
    rows = [plots.pixels(plots.gallery(DIGITS[:count], ["x"] * count, "digits", 10)).shape[0] for count in (10, 11, 20)]
    assert rows[0] < rows[1] == rows[2]


def test_learning_curves_show_the_differences_and_mark_the_chosen_epoch() -> None:
    curves = {
        "epoch": [1.0, 2.0, 3.0, 4.0, 5.0],
        "train/accuracy": [0.2, 0.97, 0.975, 0.98, 0.985],
        "train/loss": [50.0, 0.1, 0.08, 0.07, 0.06],
        "val/accuracy": [0.5, 0.97, 0.972, 0.974, 0.973],
        "val/loss": [9.0, 0.1, 0.09, 0.1, 0.11],
    }
    figure = plots.learning_curves(curves, 4)
    training = ink(figure, plots.BLUE)
    left = training[(training[:, 1] > 190) & (training[:, 1] < 760) & (training[:, 0] > 150)]
    assert np.ptp(left[left[:, 1] > 350, 0]) > 400  # from the second epoch on, though the first is far below
    assert left[:, 0].max() <= 772  # and cut off at the frame
    first, last = left[:, 1].min(), left[:, 1].max()
    column = 210 + 3 / 4 * 530
    dashed = ink(figure, "#5a5a5a")
    chosen = dashed[(np.abs(dashed[:, 1] - column) < 3) & (dashed[:, 0] > 150)]
    assert len(chosen) > 100
    assert first < column < last


def test_the_confusion_matrix_is_dark_where_the_counts_are() -> None:
    matrix = 900 * np.eye(10, dtype=int)
    matrix[3, 5] = 100
    light = plots.pixels(plots.confusion(matrix, "matrix")).mean(2)
    cells = light[96:756, 150:1530].reshape(10, 66, 10, 138).mean(axis=(1, 3))
    dark = {(int(row), int(column)) for row, column in np.argwhere(cells < 200)}
    assert dark == {(digit, digit) for digit in range(10)} | {(3, 5)}


def test_the_png_file_is_the_figure_in_few_colours_where_those_are_enough() -> None:
    for figure, mode in (
        (plots.class_bars([0.9] * 10, "bars"), "P"),
        (plots.first_layer(np.random.default_rng(1).normal(size=(66, 784)), "units"), "RGB"),
    ):
        drawn = plots.pixels(figure)
        with Image.open(io.BytesIO(plots.png(drawn))) as image:
            assert image.mode == mode
            read = np.asarray(image.convert("RGB"))
        assert (read[0] == 255).all()
        assert np.abs(read.astype(int) - drawn).mean() < 0.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], ["0.0", "0.5", "1.0"]),
        ([0.02, 0.04], ["0.02", "0.04"]),
        ([0.0, 0.025, 0.05], ["0.000", "0.025", "0.050"]),
        ([97.0, 98.0], ["97", "98"]),
        ([0.975], ["0.975"]),
        ([], []),
    ],
)
def test_numbers_have_the_digits_they_need(values: list[float], expected: list[str]) -> None:
    assert plain(values) == expected


def test_a_scale_has_round_numbers_inside_it() -> None:
    assert Scale(0.013, 0.118, 770, 150).ticks(6) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert Scale(1, 3, 0, 100).ticks(8, whole=True) == [1, 2, 3]
    assert Scale(0, 10, 100, 0)([0, 5]).tolist() == [100, 50]
