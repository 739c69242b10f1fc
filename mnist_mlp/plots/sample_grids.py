"""Grids of test digits: mistakes, right predictions, and those on which two runs differ."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.plots.run import Figure, gallery

SHOWN = 32
MOST_DISAGREEMENTS, DISAGREEMENT_COLUMNS = 30, 10


def sample_grids(
    images: NDArray[np.uint8],
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> Iterator[tuple[str, Figure]]:
    """The figures "mistakes" and "right". images (n, 28, 28), truth and predicted (n,), probabilities (n, 10)."""
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    wrong, right = order[(predicted != truth)[order]], order[(predicted == truth)[order]]
    spread = right[np.linspace(0, len(right) - 1, min(SHOWN, len(right))).astype(int)]
    for name, chosen, title in (
        ("mistakes", wrong[:SHOWN], f"Most confident mistakes ({len(wrong):,} of {len(truth):,} are wrong)"),
        ("right", spread, "Right predictions, from most to least confident"),
    ):
        captions = [
            f"{truth[item]}→{predicted[item]}  {100 * confidence[item]:.0f} %"
            if name == "mistakes"
            else f"{predicted[item]}  {100 * confidence[item]:.0f} %"
            for item in chosen
        ]
        note = "true → predicted, probability" if name == "mistakes" else "digit, probability"
        yield name, gallery(images[chosen], captions, f"{title}; {note}")


def disagreements(
    images: NDArray[np.uint8], truth: NDArray[np.int64], predicted: Sequence[NDArray[np.int64]], title: str
) -> Figure:
    """At most MOST_DISAGREEMENTS digits, captioned true → first / second. predicted: two arrays of (n,)."""
    chosen = np.linspace(0, len(truth) - 1, min(MOST_DISAGREEMENTS, len(truth))).astype(int)
    shown = zip(truth[chosen], *(one[chosen] for one in predicted), strict=True)
    captions = [f"{digit}→{first} / {second}" for digit, first, second in shown]
    return gallery(images[chosen], captions, title, DISAGREEMENT_COLUMNS)


def digit_grid(images: NDArray[np.uint8], captions: Sequence[str], title: str) -> Figure:
    """Digits (n, 28, 28) with a caption under each."""
    return gallery(images, captions, title, DISAGREEMENT_COLUMNS)
