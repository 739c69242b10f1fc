"""The figure of the digits that a net gets wrong."""

import numpy as np
import pytest

from mnist_mlp.plots import run as plots
from mnist_mlp.plots.run import BAR, BARS, BLUE, CELL, ORANGE, TOP, Slide, mistakes
from mnist_mlp.plots.run import MAX_MISTAKES as MOST


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that a figure shows."""
    seen: list[str] = []
    write = Slide.text

    def text(self: Slide, x: float, y: float, text: str, *rest: object, **options: object) -> None:
        seen.append(text)
        write(self, x, y, text, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Slide, "text", text)
    return seen


def some(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images of truth 3, all answered with 7: the first most confidently."""
    probabilities = np.full((count, 10), 0.01, np.float32)
    probabilities[:, 7] = np.linspace(0.7, 0.5, count)
    probabilities[:, 3] = 0.92 - probabilities[:, 7]
    return np.zeros((count, 28, 28), np.uint8), np.full(count, 3), probabilities, np.arange(count) + 1000


def test_each_mistake_has_its_place_truth_answer_and_probabilities(texts: list[str]) -> None:
    images, truth, probabilities, places = some(4)
    truth[1] = 7  # this one is right
    figure = mistakes(images, truth, probabilities, places, "mine, test")
    assert "mine, test: 3 of 4 images wrong" in texts
    assert [text for text in texts if "→" in text][1:] == ["#1,000: 3 → 7", "#1,002: 3 → 7", "#1,003: 3 → 7"]
    assert texts.count("70") == 1
    assert texts.count("22") == 1
    drawn = plots.pixels(figure)[TOP : TOP + CELL]
    bars = [np.count_nonzero((drawn == plain(ink)).all(2)) for ink in (ORANGE, BLUE)]
    expected = [BAR * BARS * float(probabilities[[0, 2, 3], digit].sum()) for digit in (7, 3)]
    assert bars == pytest.approx(expected, rel=0.35)  # letters in the same colour, edges in none


def test_the_most_confident_are_shown_of_many_and_the_title_says_so(texts: list[str]) -> None:
    mistakes(*some(MOST + 5), "mine")
    assert f"mine: {MOST + 5} of {MOST + 5} images wrong; the {MOST} most confident" in texts
    assert "#1,000: 3 → 7" in texts
    assert f"#{1000 + MOST:,}: 3 → 7" not in texts


def test_a_net_without_mistakes_has_a_figure_that_says_none(texts: list[str]) -> None:
    images, _, probabilities, places = some(2)
    mistakes(images, np.full(2, 7), probabilities, places, "mine")
    assert "mine: 0 of 2 images wrong" in texts
    assert "none" in texts


def plain(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
