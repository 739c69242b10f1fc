"""Names of a run's scalars in TensorBoard, whose tabs show groups (the part before the slash) by the alphabet.

So that accuracies and losses come first, nothing has a group before "train" but a curve over test images that was asked
for. Imports no torch.
"""

TAGS = {
    "lr": "train/lr",
    "epoch_seconds": "wall_time/epoch_seconds",
    "images_per_second": "wall_time/images_per_second",
}
"""Of columns of metrics.csv; others are named as their columns."""
FIGURES = "visual_test"
"""Group of the figures of the test."""
FINAL = "whole_run"
"""Group of the figures that the HPARAMS tab shows."""


def tag_of(column: str) -> str:
    """A column of metrics.csv in TensorBoard."""
    return TAGS.get(column, column)
