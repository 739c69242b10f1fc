"""The figure of the digits that a net gets wrong: each with its truth, the answer and the ten probabilities."""

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.plots.run import BLUE, GREY, ORANGE, Figure
from mnist_mlp.plots.slide import GRID, MARGIN, PALE_INK, WIDTH, Slide

COLUMNS = 8
MOST = 96
"""Of more mistakes the most confident are shown, and the title says so."""
TOP, CELL = 150, 300
"""Pixels above the first row, and of a row."""
TILE, BARS, BAR, LINE = 128, 76, 13, 15
"""Pixels: side of a digit, height of a probability of one, width of its bar, height of a line of small letters."""


def mistakes(
    images: NDArray[np.uint8], truth: NDArray[np.int64], probabilities: NDArray[np.float32],
    places: NDArray[np.int64], title: str,
) -> Figure:  # fmt: skip
    """Of these images the ones that are answered wrongly, the most confident answers first.

    images: (n, 28, 28); truth and places (in the file of the split): (n,); probabilities: (n, 10).
    """
    answers = probabilities.argmax(1)
    wrong = np.flatnonzero(answers != truth)
    order = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")]
    shown = order[:MOST]
    some = "" if len(shown) == len(order) else f"; the {len(shown)} most confident"
    height = TOP + CELL * max(1, -(-len(shown) // COLUMNS)) + MARGIN // 2
    slide = Slide(f"{title}: {len(order):,} of {len(truth):,} images wrong{some}", height)
    slide.text(MARGIN, 100, "image's place in the file; truth → answer; probability of each digit:", 20, ink=PALE_INK)
    for x, ink, text in ((820, BLUE, "truth"), (930, ORANGE, "answer")):
        slide.boxes([x], [91], [x + 18], [109], ink)
        slide.text(x + 28, 100, text, 20, ink=PALE_INK)
    if not len(shown):
        slide.text(MARGIN, TOP + 20, "none", ink=PALE_INK)
    step = (WIDTH - 2 * MARGIN) / COLUMNS
    for number, item in enumerate(shown):
        middle, top = MARGIN + step * (number % COLUMNS + 0.5), TOP + CELL * (number // COLUMNS)
        left = middle - TILE / 2
        shades = np.repeat(255 - images[item, :, :, None], 3, axis=2)
        slide.image(shades, left, top, left + TILE, top + TILE)
        caption = f"#{places[item]:,}: {truth[item]} → {answers[item]}"
        slide.text(middle, top + TILE + 20, caption, 20, 0.5)
        _bars(slide, middle, top + TILE + 44, probabilities[item], int(truth[item]))
    return slide.done()


def _bars(slide: Slide, middle: float, top: float, probabilities: NDArray[np.float32], truth: int) -> None:
    """The probabilities of 0 to 9, that of the truth and the highest in their colours and with their percentages."""
    answer, base = int(probabilities.argmax()), top + 20 + BARS
    left = middle - 5 * (BAR + 2)
    starts = left + (BAR + 2) * np.arange(10)
    inks = [BLUE if digit == truth else ORANGE if digit == answer else GREY for digit in range(10)]
    slide.lines([np.array([(left - 2, base), (left + 10 * (BAR + 2), base)])], GRID, 1.5)
    slide.boxes(starts, base - np.maximum(BARS * probabilities, 1), starts + BAR, np.full(10, base), inks)
    for digit, start in enumerate(starts):
        ink = inks[digit] if digit in (truth, answer) else PALE_INK
        slide.text(start + BAR / 2, base + 13, str(digit), 14, 0.5, ink)
    heights = {digit: base - BARS * float(probabilities[digit]) - 10 for digit in (truth, answer)}
    if abs(truth - answer) == 1 and abs(heights[truth] - heights[answer]) < LINE:  # or they would run into one another
        heights[answer] = heights[truth] - LINE
    for digit, above in heights.items():
        percent = f"{100 * probabilities[digit]:.0f}"
        slide.text(float(starts[digit]) + BAR / 2, above, percent, 14, 0.5, inks[digit])
