"""What the figures of a sweep decide by themselves: colours, scales, what is left out."""

import pytest

from mnist_mlp.plots.sweep import PALETTE, Group, Spread, colors_of, costs, learning_curves, main_effects, svg


def group(label: str, *losses: float) -> Group:
    columns = {"train/loss": losses, "val/loss": losses, "train/accuracy": [0.5] * len(losses)}
    return Group(label, [columns], [50.0], [float(len(label))], [1000.0])


@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_every_coloured_group_has_a_colour_of_its_own(count: int) -> None:
    shown = colors_of(count)
    used = [colour for colour in shown if colour]
    assert len(shown) == count
    assert len(used) == len(set(used)) == min(count, len(PALETTE) if count <= len(PALETTE) else 7)
    assert shown[0] == PALETTE[0]
    assert shown[-1]


def test_the_legend_names_the_coloured_groups_and_counts_the_others() -> None:
    figure = learning_curves([group(f"lr={n}", 2.0, 1.0) for n in range(20)])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [
        *(f"lr={n}" for n in (0, 1, 2, 3, 4, 18, 19)),
        *("13 groups in between", "validation", "training"),
    ]


def test_an_exploded_loss_does_not_flatten_the_others() -> None:
    figure = learning_curves([group("a", 2.0, 1.0), group("b", 2.0, 1e12), group("c", float("nan"))])
    loss = figure.axes[1]
    assert loss.get_ylim()[1] <= 10
    assert loss.get_title() == "Loss (exploded losses are cut off)"


def test_what_learnt_nothing_is_marked_below_and_leaves_the_mean_alone() -> None:
    levels = [Spread("0.1", 0.1, [90.0, 92.0, 10.0], 91.0), Spread("0.2", 0.2, [94.0], 94.0)]
    (axes,) = main_effects([("lr", levels)], "validation accuracy").axes
    assert axes.get_ylim()[0] > 80
    means = next(line for line in axes.lines if list(line.get_xdata()) == pytest.approx([0.14, 1.14]))
    assert list(means.get_ydata()) == pytest.approx([91.0, 94.0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "validation accuracy (%)")


def test_where_nothing_learnt_anything_all_is_shown() -> None:
    (axes,) = main_effects([("lr", [Spread("1", 1.0, [9.0, 11.0])])], "test accuracy").axes
    assert axes.get_ylim()[0] < 9


def test_numbers_that_hardly_repeat_get_a_scale_of_numbers_without_means() -> None:
    levels = [Spread(str(n), 10.0**-n, [90.0 + n]) for n in range(13)]
    (axes,) = main_effects([("lr", levels)], "validation accuracy").axes
    assert axes.get_xscale() == "log"
    (dots,) = [line for line in axes.lines if len(line.get_xdata()) == 13]
    assert list(dots.get_xdata()) == pytest.approx([10.0**-n for n in range(13)])


def test_levels_that_cannot_be_compared_show_runs_and_no_means() -> None:
    levels = [Spread("0.1", 0.1, [90.0, 92.0]), Spread("0.2", 0.2, [94.0])]
    (axes,) = main_effects([("lr", levels)], "validation accuracy").axes
    assert sorted(number for line in axes.lines for number in line.get_ydata()) == [90.0, 92.0, 94.0]


def test_a_size_that_all_share_has_no_panel() -> None:
    one_size = [group("a", 1.0), group("bb", 1.0)]
    assert [axes.get_xlabel() for axes in costs(one_size, "test accuracy").axes] == ["fit time (s)"]
    sizes = [*one_size, Group("c", [], [60.0], [2.0], [50.0])]
    assert len(costs(sizes, "test accuracy").axes) == 2


@pytest.mark.parametrize("text", [r"$\frac$", "$", r"\$a$", "_hidden", "line\nbreak", "数字", "\x00"])
def test_text_from_settings_is_shown_as_text(text: str) -> None:
    group = Group(text, [{"train/loss": [1.0, 0.5], "train/accuracy": [0.5, 0.9]}], [90.0, 91.0], [1.0, 2.0], [10, 20])
    levels = [Spread(text, None, [90.0, 91.0]), Spread(f"{text} 2", None, [92.0])]
    for figure in (
        learning_curves([group]),
        main_effects([(text, levels)], "accuracy"),
        costs([group], "accuracy"),
    ):
        assert b"<svg" in svg(figure)
