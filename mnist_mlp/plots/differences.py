"""The figure of differences to the best setting, with their intervals. Arrays in, Figure out."""

from collections.abc import Sequence

from mnist_mlp.plots.run import BLUE, GREY, ORANGE, Figure, sized_figure

Reach = tuple[float, float] | None
"""Lower and upper end of an interval, in points."""


def differences(
    names: Sequence[str], means: Sequence[float], seeds: Sequence[Reach], images: Sequence[Reach], lowest: float
) -> Figure:
    """Differences in points of test accuracy, first at the top; a thick line over seeds, a thin one over images too.

    A mean below `lowest` would flatten all others: it becomes a triangle at the edge, with its number.
    """
    figure = sized_figure(7.0, 1.3 + 0.42 * len(names))
    axes = figure.subplots()
    reached = [
        low for mean, *both in zip(means, seeds, images, strict=True) if mean >= lowest for low, _ in filter(None, both)
    ]
    edge = min([mean for mean in means if mean >= lowest] + reached + [0.0])
    far = edge - 0.04 * max(-edge, 0.1)
    for place, (mean, inner, outer) in enumerate(zip(means, seeds, images, strict=True)):
        if mean < lowest:
            axes.plot(far, -place, "<", color=ORANGE, markersize=8, clip_on=False, zorder=3)
            axes.annotate(f"{mean:.1f}", (far, -place), (8, 0), textcoords="offset points", va="center", fontsize=8)
            continue
        for reach, shift, colour, width in ((inner, 0.1, GREY, 4.0), (outer, -0.1, BLUE, 1.6)):
            if reach is not None:
                axes.plot(reach, [-place + shift] * 2, color=colour, linewidth=width, solid_capstyle="butt")
        axes.plot(mean, -place, "o", color="black", markersize=5, zorder=3)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks([-place for place in range(len(names))], names)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_xlabel("difference to the best, points of test accuracy")
    axes.plot([], [], color=GREY, linewidth=4.0, label="95 %, other seeds")
    axes.plot([], [], color=BLUE, linewidth=1.6, label="95 %, other seeds and images")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=9, frameon=False)
    axes.grid(axis="x", alpha=0.3)
    return figure
