"""How many seeds a sweep needs to resolve a difference, from the spread of the runs that are there, in words."""

from collections.abc import Iterator

from mnist_mlp.analysis.collect import Summary, row_label
from mnist_mlp.analysis.comparison import Comparison
from mnist_mlp.analysis.crossed import Variance
from mnist_mlp.analysis.power import Plan, plan
from mnist_mlp.errors import UserError


def planned(summary: Summary, points: float) -> Iterator[str]:
    """Lines on how many seeds each setting needs, for a difference in points of test accuracy to be found.

    UserError where the difference is out of range, or no two settings share two seeds with a spread.
    """
    if not 0 < points < 100:
        raise UserError(
            f"--plan {points:g} is out of range: give a difference in points of accuracy, above 0, below 100"
        )
    compared = [(row, row.comparison) for row in summary.rows if row.comparison is not None]
    known = [(row, one) for row, one in compared if one.decisive.error is not None]
    if not known:
        raise UserError("nothing to plan by: it takes two settings that were run with the same two seeds or more")
    family = known[0][1].comparisons
    many = f", corrected for {family} comparisons" if family > 1 else ""
    yield f"To find a difference of {points:g} points to the best with power 0.8 at the 5 % level{many}:"
    needs = [(row, one, plan(points / 100, one.variance, one.decisive.images, family)) for row, one in known]
    for row, one, found in needs:
        yield f"  {row_label(summary, row)}: {_need(one, found)}"
    yield _conclusion([(one, found) for _, one, found in needs], points, family)
    least = min(one.decisive.n for _, one, _ in needs)
    if least < 10:
        yield f"The spread comes from {least} seeds, so it is only roughly known: plan again when there are more."


def _need(one: Comparison, found: Plan) -> str:
    resolved = one.resolvable or 1.0
    now = f"now {one.decisive.n}, which resolve " + (f"{100 * resolved:.2f} points" if resolved < 1 else "nothing")
    state = "already told apart" if one.distinct else now
    spread = f"standard deviation of the difference over seeds {100 * one.variance.seed**0.5:.2f} points"
    seeds = f"{found.seeds} seeds" if found.seeds else f"images are the limit, at {100 * found.limit:.2f} points"
    return f"{seeds} ({state}; {spread})"


def _conclusion(needs: list[tuple[Comparison, Plan]], points: float, family: int) -> str:
    """For the settings that are not told apart yet, or for all where there is none."""
    open_ones = [(one, found) for one, found in needs if not one.distinct] or needs
    limited = [(one, found) for one, found in open_ones if found.seeds is None]
    if not limited:
        return f"Take {max(found.seeds or 0 for _, found in open_ones)} seeds per setting."
    one, found = max(limited, key=lambda pair: pair[1].limit)
    images = one.decisive.images
    if not images or found.limit < points / 100:
        return f"More than 10,000 seeds per setting: a difference of {points:g} points is out of reach."
    here = plan(points / 100, Variance(one.variance.seed + one.variance.rest / images, 0.0, 0.0), 0, family).seeds
    text = (
        f"Images, not seeds, are the limit: with any number of seeds, {images:,} test images resolve no less than "
        f"{100 * found.limit:.2f} points; {points:g} points take at least {found.images:,} images."
    )
    return text if here is None else f"{text} On these very images alone, {here} seeds per setting would do."
