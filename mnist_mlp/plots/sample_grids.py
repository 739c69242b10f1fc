"""Grids of test digits: mistakes and right predictions."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.plots.run import Figure, gallery

SHOWN = 32


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
