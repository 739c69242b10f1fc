"""Figures of a sweep choose colors and scales, and omit what does not fit."""

import pytest

from mnist_mlp.plots.sweep import PALETTE, differences, group_colors, learning_curves, svg
from mnist_mlp.runs.predictions import Curves


def group(label: str, *losses: float) -> tuple[str, list[Curves]]:
    return label, [{"train/loss": losses, "val/loss": losses, "train/accuracy": [0.5] * len(losses)}]


@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_every_colored_group_has_its_own_color(count: int) -> None:
    shown = group_colors(count)
    used = [color for color in shown if color]
    assert len(shown) == count
    assert len(used) == len(set(used)) == min(count, len(PALETTE) if count <= len(PALETTE) else 7)
    assert shown[0] == PALETTE[0]
    assert shown[-1]


def test_the_legend_names_the_colored_groups_and_counts_the_others() -> None:
    figure = learning_curves([group(f"lr={n}", 2.0, 1.0) for n in range(20)])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [
        *(f"lr={n}" for n in (0, 1, 2, 3, 4, 18, 19)),
        *("13 groups in between", "validation", "training (mean over the steps of the epoch)"),
    ]


def test_an_exploded_loss_does_not_flatten_the_others() -> None:
    figure = learning_curves([group("a", 2.0, 1.0), group("b", 2.0, 1e12), group("c", float("nan"))])
    loss = figure.axes[1]
    assert loss.get_ylim()[1] <= 10
    assert loss.get_title() == "Loss (exploded losses are cut off)"


@pytest.mark.parametrize("text", [r"$\frac$", "$", r"\$a$", "_hidden", "line\nbreak", "数字", "\x00"])
def test_labels_are_shown_literally(text: str) -> None:
    curves = {"train/loss": [1.0, 0.5], "train/accuracy": [0.5, 0.9]}
    assert b"<svg" in svg(learning_curves([(text, [curves])]))
    assert b"<svg" in svg(differences([text], [-1.0], [None], [None], -1.0))


def test_a_mean_over_fewer_runs_is_not_joined_to_the_mean_of_all() -> None:
    """Three of five runs, at 75 %, end after two epochs; the other two are at 98 %."""
    runs = [{"val/accuracy": [0.98] * (4 if run < 2 else 0) or [0.6] * 2, "val/loss": [1.0]} for run in range(5)]
    figure = learning_curves([("lr=0.2", runs)])
    shared, fewer = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in (shared, fewer)] == [[1, 2], [3, 4]]
    assert [line.get_linestyle() for line in (shared, fewer)] == ["-", ":"]
    assert "mean over fewer runs, as others ended" in [text.get_text() for text in figure.legends[0].texts]
    complete = learning_curves([group("a", 2.0, 1.0)])
    assert "mean over fewer runs, as others ended" not in [text.get_text() for text in complete.legends[0].texts]
