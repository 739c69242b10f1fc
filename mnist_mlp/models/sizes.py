"""The sizes of a network's layers, from its settings. Imports no torch."""

from collections.abc import Sequence

PIXELS, CLASSES = 28 * 28, 10


def layer_sizes(hidden_layers: int, hidden_units: Sequence[int]) -> list[int]:
    """Sizes from input to output; one width serves every hidden layer."""
    widths = list(hidden_units) * hidden_layers if len(hidden_units) == 1 else list(hidden_units)
    if hidden_layers == 0:
        widths = []
    if len(widths) != hidden_layers:
        raise ValueError(f"Expected 1 or {hidden_layers} hidden_units, but got {len(hidden_units)}")
    return [PIXELS, *widths, CLASSES]
