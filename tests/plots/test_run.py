"""Figures of one run show their arrays, and can be drawn for any content."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.calibration import calibration_curve

from mnist_mlp.datasets import DATASETS
from mnist_mlp.plots import run as plots

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet([0.2] * 10, 60).astype(np.float32)
TRUTH = np.arange(60) % 10
IMAGES = RANDOM.integers(0, 256, (60, 28, 28)).astype(np.uint8)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]  # type: ignore[attr-defined]


def drawn(figure: Figure) -> np.ndarray[Any, Any]:
    """The pixels of its PNG file, (height, width, 3)."""
    with Image.open(io.BytesIO(plots.png(figure))) as image:
        return np.asarray(image.convert("RGB"))


def digit_grids(count: int) -> Figure:
    return plots.digit_grids(IMAGES[:count], TRUTH[:count], PROBABILITIES[:count].argmax(1), PROBABILITIES[:count])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.learning_curves({"epoch": [1.0], "train/accuracy": [0.9], "train/loss": [0.3]}, 1),
        lambda: plots.learning_curves({"epoch": [1.0, 2.0], "train/loss": [np.nan] * 2}, 2),
        lambda: plots.learning_curves({}, None),
        lambda: plots.confusion(np.zeros((10, 10), int), r"$\frac$ without images"),
        lambda: plots.class_bars([0.0] * 10, "never correct"),
        lambda: plots.calibration(TRUTH, PROBABILITIES, "few"),
        lambda: plots.calibration(np.zeros(0, int), np.zeros((0, 10)), "none"),
        lambda: digit_grids(60),
        lambda: digit_grids(1),
        lambda: plots.digit_grids(IMAGES[:0], TRUTH[:0], TRUTH[:0], PROBABILITIES[:0]),
    ],
)
def test_every_figure_is_16_to_9_and_nothing_is_clipped(draw: Callable[[], Figure]) -> None:
    pixels = drawn(draw())
    height, width, _ = pixels.shape
    assert width / height == pytest.approx(16 / 9, rel=0.01)
    border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 255).all() for edge in border)
    assert (pixels < 128).any()


def test_learning_curves_zoom_in_on_later_epochs_and_mark_the_selected_one() -> None:
    curves = {
        "epoch": [1.0, 2.0, 3.0, 4.0, 5.0],
        "train/accuracy": [0.2, 0.97, 0.975, 0.98, 0.985],
        "train/loss": [50.0, 0.1, 0.08, 0.07, 0.06],
        "val/accuracy": [0.5, 0.97, 0.972, 0.974, 0.973],
        "val/loss": [9.0, 0.1, 0.09, 0.1, 0.11],
    }
    figure = plots.learning_curves(curves, 4)
    accuracy, loss = figure.axes
    assert 90 < accuracy.get_ylim()[0] < 97 < 98.5 < accuracy.get_ylim()[1]  # the first epoch is far below
    assert 0 <= loss.get_ylim()[0] < 0.06 < 0.11 < loss.get_ylim()[1] < 1
    lines = {str(line.get_label()): line for line in loss.lines}
    assert list(lines["training"].get_ydata()) == curves["train/loss"]
    assert list(lines["validation"].get_ydata()) == curves["val/loss"]
    assert [list(line.get_xdata()) for label, line in lines.items() if "epoch 4" in label] == [[4, 4]]
    assert "test (not for selection)" not in lines


def test_learning_curves_of_many_epochs_are_drawn_without_markers_and_warnings() -> None:
    for count, marker in ((3, "."), (100, "")):
        curves = {"epoch": list(range(1, count + 1)), "train/loss": [0.1] * count}
        lines = plots.learning_curves(curves, None).axes[1].lines
        assert [line.get_marker() for line in lines] == [marker]


def test_the_confusion_matrix_shows_counts_as_colors_with_recall_and_precision() -> None:
    matrix = 900 * np.eye(10, dtype=int)
    matrix[3, 5] = 100
    figure = plots.confusion(matrix, "matrix")
    shown = texts(figure)
    assert shown.count("900") == 10
    assert "100" in shown
    assert any("90.0 %" in text and "3" in text for text in shown), "recall of 3: 900 of 1000"
    assert any("90.0 %" in text and "5" in text for text in shown), "precision of 5: 900 of 1000"
    box = figure.axes[0].get_window_extent()
    pixels = drawn(figure).mean(2)
    left, top = round(box.x0), pixels.shape[0] - round(box.y1)
    cells = pixels[top : top + round(box.height), left : left + round(box.width)]
    means = np.array([[cell.mean() for cell in np.array_split(row, 10, 1)] for row in np.array_split(cells, 10)])
    assert {tuple(cell) for cell in np.argwhere(means < 200)} == {*((digit, digit) for digit in range(10)), (3, 5)}
    assert "100" not in texts(plots.confusion(matrix, "matrix", min_fraction=0.2))


def test_bars_are_the_scores() -> None:
    scores = np.linspace(0.91, 0.99, 10)
    (axes,) = plots.class_bars(list(scores), "F1").axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(scores)  # type: ignore[attr-defined]
    assert axes.get_ylim()[0] < 0.91
    assert f"{scores.mean():.4f}" in axes.get_title()


def test_calibration_agrees_with_scikit_learn() -> None:
    truth, probabilities = RANDOM.integers(0, 10, 3000), RANDOM.dirichlet([0.3] * 10, 3000)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == truth
    expected, mean = calibration_curve(correct, confidence, n_bins=15)
    upper, lower = plots.calibration(truth, probabilities, "synthetic").axes
    lines = [line.get_xydata() for line in upper.lines if line.get_marker() == "o"]
    points = np.array(sorted(np.concatenate(lines).tolist()))
    np.testing.assert_allclose(points, np.column_stack((mean, expected)), atol=1e-9)
    counts = np.histogram(confidence, bins=15, range=(0, 1))[0]
    assert [bar.get_height() for bar in lower.patches] == counts.tolist()  # type: ignore[attr-defined]
    weights = counts[counts > 0] / 3000
    assert f" {np.abs(expected - mean) @ weights:.4f}" in upper.get_title()


def test_digit_grids_show_the_most_confident_mistakes_and_correct_predictions_of_every_confidence() -> None:
    truth = np.zeros(100, int)
    predicted = np.where(np.arange(100) < 50, 7, 0)
    probabilities = np.full((100, 10), 0.01, np.float32)
    probabilities[np.arange(100), predicted] = np.linspace(0.5, 0.9, 100)
    figure = plots.digit_grids(np.zeros((100, 28, 28), np.uint8), truth, predicted, probabilities)
    wrong, correct = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert len(wrong) == len(correct) == plots.GRID_COLUMNS * plots.GRID_ROWS
    assert wrong[0] == f"0→7 {100 * probabilities[49, 7]:.0f} %"
    assert (correct[0], correct[-1]) == ("0 90 %", f"0 {100 * probabilities[50, 0]:.0f} %")
    assert "50 of 100" in figure.axes[0].get_title()


def mistaken(count: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Images of a 3, all predicted as 7, the first most confidently; their indices begin at 1000."""
    probabilities = np.full((count, 10), 0.01, np.float32)
    probabilities[:, 7] = np.linspace(0.7, 0.5, count)
    probabilities[:, 3] = 0.92 - probabilities[:, 7]
    return np.zeros((count, 28, 28), np.uint8), np.full(count, 3), probabilities, np.arange(count) + 1000


def test_each_mistake_has_its_index_digits_and_probabilities() -> None:
    images, truth, probabilities, indices = mistaken(4)
    truth[1] = 7  # correct
    figure = plots.mistakes(images, truth, probabilities, indices, "mine, test")
    shown = texts(figure)
    assert any("3 of 4" in text for text in shown)
    assert [text.split(":")[0] for text in shown if text.startswith("#")] == ["#1,000", "#1,002", "#1,003"]
    assert "#1,000: 3 → 7\n22 % → 70 %" in shown
    (bars,) = figure.axes[0].collections
    heights = np.array([np.ptp(np.asarray(path.vertices)[:, 1]) for path in bars.get_paths()]).reshape(3, 10)
    np.testing.assert_allclose(heights / heights.sum(1, keepdims=True), probabilities[[0, 2, 3]], atol=1e-6)
    colors = [to_hex(color) for color in bars.get_colors()[:10]]  # type: ignore[attr-defined]
    assert colors[3].upper() == plots.BLUE.upper()
    assert colors[7].upper() == plots.ORANGE.upper()


def test_of_many_mistakes_the_most_confident_are_shown_and_the_title_says_so() -> None:
    shown = texts(plots.mistakes(*mistaken(plots.MAX_MISTAKES + 5), "mine"))
    assert any(f"the {plots.MAX_MISTAKES} most confident" in text for text in shown)
    assert sum(text.startswith("#") for text in shown) == plots.MAX_MISTAKES
    assert not any(f"#{1000 + plots.MAX_MISTAKES:,}" in text for text in shown)


def test_a_net_without_mistakes_has_an_empty_figure() -> None:
    images, _, probabilities, indices = mistaken(2)
    assert "none" in texts(plots.mistakes(images, np.full(2, 7), probabilities, indices, "mine"))


def test_predictions_are_drawn_with_their_picture_and_the_others_are_counted() -> None:
    count = plots.MAX_PREDICTIONS + 3
    titles = [f"{'x' * 80}{n}.png: 3" for n in range(count)]
    pictures = np.zeros((count, 40, 30, 3), np.uint8)
    figure = plots.predictions_figure(titles, pictures, IMAGES[:count], PROBABILITIES[:count])
    assert f"({plots.MAX_PREDICTIONS} of {count})" in texts(figure)[0]
    assert len(figure.axes) == 3 * plots.MAX_PREDICTIONS
    assert drawn(plots.predictions_figure(titles[:1], pictures[:1], IMAGES[:1], PROBABILITIES[:1])).size


@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(DATASETS["fashion_mnist"].classes, id="clothes"),
        pytest.param(DATASETS["kmnist"].classes, id="syllables"),
        pytest.param(DATASETS["emnist_balanced"].classes, id="letters", marks=pytest.mark.integration),
        pytest.param([f"a class with the long name {n}" for n in range(47)], id="long", marks=pytest.mark.integration),
        pytest.param([f"$class_{n}$" for n in range(255)], id="255", marks=pytest.mark.integration),
    ],
)
def test_names_of_any_number_of_classes_do_not_overlap(classes: Sequence[str]) -> None:
    count = len(classes)
    truth = np.arange(2 * count) % count
    probabilities = np.roll(np.eye(count), 1, axis=0)[truth] * 0.9 + 0.1 / count
    probabilities[::2, :] = np.eye(count)[truth[::2]]
    images = RANDOM.integers(0, 256, (len(truth), 28, 28)).astype(np.uint8)
    predicted = probabilities.argmax(1)
    figures = [
        plots.confusion(np.eye(count, dtype=int) * 1000, "matrix", classes=classes),
        plots.class_bars(list(np.linspace(0.8, 1, count)), "test", range(count), classes),
        plots.digit_grids(images, truth, predicted, probabilities, classes),
        plots.mistakes(images, truth, probabilities, np.arange(len(truth)) + 8000, "run, test", classes),
        plots.predictions_figure(["a", "b"], images[:2], images[:2], probabilities[:2], classes),
    ]
    for figure in figures:
        pixels = drawn(figure)
        artists = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]  # type: ignore[attr-defined]
        boxes = np.array([text.get_window_extent().extents for text in artists])
        x0, y0, x1, y1 = boxes.T
        width = np.minimum(x1, x1[:, None]) - np.maximum(x0, x0[:, None])
        height = np.minimum(y1, y1[:, None]) - np.maximum(y0, y0[:, None])
        overlap = np.triu((width > 1) & (height > 3), 1)  # boxes of lines include the space above letters
        assert not [(artists[a].get_text(), artists[b].get_text()) for a, b in np.argwhere(overlap)][:5]
        assert all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
