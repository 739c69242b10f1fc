"""Coverage, family-wise error and power of the comparison, on simulated sweeps with known true accuracies.

`python tests/simulations.py` prints the tables of docs/statistics.md (half an hour on one core). Each row has its own
random stream, so `--only coverage` prints the same rows. tests/compare/test_simulations.py uses fewer images.
"""

import argparse
import math
from collections.abc import Iterator, Mapping
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from simulated_sweeps import POPULATIONS, Population

from mnist_mlp.compare.statistics import (
    SIGNIFICANCE,
    Interval,
    crossed_difference,
    detectable_difference,
    holm,
    power,
)

ACCURACY = 0.97
RESAMPLES = 400


def coverage(
    population: Population, seeds: int, images: int, sweeps: int, random: np.random.Generator, resampled: int = 0
) -> dict[str, float]:
    """Estimate the coverage of each interval for a true difference of 0.2 points.

    resampled: number of sweeps for which the (slow) bootstrap is computed, too.
    """
    covered: dict[str, list[bool]] = {"seeds": [], "images": [], "pigeonhole": []}
    truth, bootstrap_random = 0.002, np.random.default_rng(seeds)
    for sweep in range(sweeps):
        correct, on_images, _ = population.draw(random, [ACCURACY, ACCURACY - truth], seeds, images)
        comparison = crossed_difference(correct[0], correct[1])
        covered["seeds"].append(_covers(comparison.seeds, float(on_images[0] - on_images[1])))
        covered["images"].append(_covers(comparison.images, truth))
        if sweep < resampled:
            low, high = pigeonhole(correct[0].astype(np.int8) - correct[1], bootstrap_random)
            covered["pigeonhole"].append(low <= truth <= high)
    return {name: fmean(values) for name, values in covered.items() if values}


def pigeonhole(
    differences: NDArray[np.int8], random: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % percentile interval of Owen's pigeonhole bootstrap (2007), which resamples seeds and images separately.

    differences: (seeds, images) in {-1, 0, 1}. Images with equal columns are drawn together, only to save time.
    """
    seeds, images = differences.shape
    patterns, counts = np.unique(differences, axis=1, return_counts=True)
    drawn_seeds = random.multinomial(seeds, [1 / seeds] * seeds, size=resamples)
    drawn_images = random.multinomial(images, counts / images, size=resamples)
    means = ((drawn_seeds @ patterns) * drawn_images).sum(1) / differences.size
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def family_wise_errors(
    population: Population, settings: int, seeds: int, images: int, sweeps: int, random: np.random.Generator
) -> dict[str, float]:
    """Estimate the family-wise error of comparing equal settings with the best, by adjustment; the best is selected
    by validation, or by the images on which it is compared ("selected on test")."""
    errors: dict[str, list[bool]] = {name: [] for name in ("none", "settings - 1", "pairs", "selected on test")}
    for _ in range(sweeps):
        correct, _, validation = population.draw(random, [ACCURACY] * settings, seeds, images, images // 2)
        by_validation = _p_values(correct, int(validation.argmax()))
        by_test = _p_values(correct, int(correct.mean((1, 2)).argmax()))
        errors["none"].append(min(by_validation) < SIGNIFICANCE)
        errors["settings - 1"].append(min(holm(by_validation, settings - 1)) < SIGNIFICANCE)
        errors["pairs"].append(min(holm(by_validation, math.comb(settings, 2))) < SIGNIFICANCE)
        errors["selected on test"].append(min(holm(by_test, math.comb(settings, 2))) < SIGNIFICANCE)
    return {name: fmean(values) for name, values in errors.items()}


def factor_effects(
    population: Population, grid: tuple[int, ...], seeds: int, images: int, gain: float, sweeps: int,
    random: np.random.Generator,
) -> dict[str, float]:  # fmt: skip
    """Estimate how often effects of factors are claimed in a full grid whose first factor's first value gains `gain`.

    The best setting is selected by validation. Each effect compares its value with another one, averaged over the other
    factors, Holm-adjusted for all pairs of values of each factor.

    Returns:
        coverage: of the unadjusted interval of the first factor's first two values; false: of any claim on a factor
        without effect; if the best setting has the gain, effect: of a claim on the same two values, and pair: between
        the best row of the table and the one that differs from it in these values only.
    """
    cells = np.array(list(np.ndindex(*grid)))
    accuracies = [ACCURACY + gain * (cell[0] == 0) for cell in cells]
    family = sum(math.comb(levels, 2) for levels in grid)
    counts: dict[str, list[bool]] = {name: [] for name in ("coverage", "false", "effect", "pair")}
    for _ in range(sweeps):
        correct, _, validation = population.draw(random, accuracies, seeds, images, images // 2)
        best = cells[validation.argmax()]
        effects = {
            (factor, level): crossed_difference(*(
                correct[cells[:, factor] == value].astype(float).mean(0) for value in (best[factor], level)
            ))
            for factor, levels in enumerate(grid)
            for level in range(levels)
            if level != best[factor]
        }  # fmt: skip
        p_values = dict(zip(effects, _adjusted([pair.images for pair in effects.values()], family), strict=True))
        rows = [n for n in range(len(cells)) if n != validation.argmax()]
        table = [crossed_difference(correct[validation.argmax()], correct[n]).images for n in rows]
        of_rows = dict(zip(rows, _adjusted(table, math.comb(len(cells), 2)), strict=True))
        fixed = crossed_difference(*(correct[cells[:, 0] == level].astype(float).mean(0) for level in (0, 1)))
        counts["coverage"].append(_covers(fixed.images, gain))
        counts["false"].append(any(p < SIGNIFICANCE for (factor, _), p in p_values.items() if factor or not gain))
        if gain and best[0] == 0:
            counts["effect"].append(p_values[0, 1] < SIGNIFICANCE)
            counts["pair"].append(of_rows[int(np.ravel_multi_index((1, *best[1:]), grid))] < SIGNIFICANCE)
    return {name: fmean(values) for name, values in counts.items() if values}


def _adjusted(intervals: list[Interval], family: int) -> list[float]:
    return holm([1.0 if (p_value := own.p_value) is None else p_value for own in intervals], family)


def simulated_power(
    population: Population, seeds: int, images: int, comparisons: int, sweeps: int, random: np.random.Generator
) -> tuple[float, float, float]:
    """The detectable difference at power 0.8, its nominal power by `power`, and its simulated power."""
    difference = 0.0
    for _ in range(3):  # variances depend on the accuracies, and so on the difference
        variance = population.variance(_accuracies(difference))
        difference = detectable_difference(variance, images, seeds, comparisons)
    detected = 0
    for _ in range(sweeps):
        correct, _, _ = population.draw(random, _accuracies(difference), seeds, images)
        p_value = crossed_difference(correct[0], correct[1]).images.p_value
        detected += p_value is not None and p_value * comparisons < SIGNIFICANCE
    return difference, power(difference, variance, images, seeds, comparisons), detected / sweeps


def _accuracies(difference: float) -> list[float]:
    return [ACCURACY + difference / 2, ACCURACY - difference / 2]


def _p_values(correct: NDArray[np.bool_], best: int) -> list[float]:
    comparisons = [crossed_difference(setting, correct[best]) for n, setting in enumerate(correct) if n != best]
    return [1.0 if (p_value := pair.images.p_value) is None else p_value for pair in comparisons]


def _covers(interval: Interval, truth: float) -> bool:
    return interval.low is None or interval.high is None or interval.low <= truth <= interval.high


def coverage_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """Coverage of unadjusted intervals."""
    yield from _row("unadjusted 95 % intervals: coverage", "seeds", "over seeds", "over seeds and images", "pigeonhole")
    for name, population in POPULATIONS.items():
        for seeds in (2, 3, 5, 10):
            random = np.random.default_rng([seed, seeds])
            covered = coverage(population, seeds, images, sweeps, random, resampled=sweeps // 10)
            yield from _row(name, str(seeds), *_percent(covered))


def fwer_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """Family-wise error, from a tenth of the sweeps, since each has many nets."""
    columns = ("unadjusted", "Holm over settings - 1", "Holm over all pairs", "the same, best selected on test")
    yield from _row("equal settings: family-wise error", "settings x seeds", *columns)
    for name, population in POPULATIONS.items():
        for settings, seeds in ((4, 5), (8, 3), (4, 10)):
            random = np.random.default_rng([seed + 2, settings, seeds])
            errors = family_wise_errors(population, settings, seeds, images, sweeps // 10, random)
            yield from _row(name, f"{settings} x {seeds}", *_percent(errors))


def power_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """Nominal and simulated power."""
    columns = ("comparisons", "detectable, points", "nominal power", "simulated power")
    yield from _row("power", "seeds", *columns)
    for name, population in POPULATIONS.items():
        for seeds, comparisons in ((3, 1), (5, 1), (5, 6), (10, 6)):
            random = np.random.default_rng([seed + 1, seeds])
            difference, nominal, simulated = simulated_power(population, seeds, images, comparisons, sweeps, random)
            powers = _percent({"nominal": nominal, "simulated": simulated})
            yield from _row(name, str(seeds), str(comparisons), f"{100 * difference:.2f}", *powers)


def effects_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """Effects of factors, from a tenth of the sweeps: without any effect, and if one value of a factor is better."""
    columns = ("gain, points", "coverage", "false claims", "power of the effect", "power between two settings")
    yield from _row("effects of factors", "settings x seeds", *columns)
    for name, population in POPULATIONS.items():
        for grid in ((2, 2), (3, 3)):
            for gain in (0.0, 0.003):
                random = np.random.default_rng([seed + 3, *grid])
                rates = factor_effects(population, grid, 5, images, gain, sweeps // 10, random)
                yield from _row(name, f"{grid[0]} x {grid[1]} x 5", f"{100 * gain:.1f}", *_percent(rates))


TABLES = {"coverage": coverage_table, "fwer": fwer_table, "power": power_table, "effects": effects_table}


def _row(*cells: str) -> Iterator[str]:
    yield "| " + " | ".join(cells) + " |"
    if cells[1].startswith(("seeds", "settings")):
        yield "|" + " --- |" * len(cells)


def _percent(fractions: Mapping[str, float]) -> list[str]:
    return [f"{100 * fraction:.1f}" for fraction in fractions.values()]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweeps", type=int, default=10_000, help="simulated sweeps per row (default: 10000)")
    parser.add_argument("--images", type=int, default=10_000, help="test images per sweep (default: 10000)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", choices=TABLES, action="append", help="print only this table")
    options = parser.parse_args()
    for name in options.only or TABLES:
        for line in TABLES[name](options.sweeps, options.images, options.seed):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
