"""What the intervals, the correction and the plans of a comparison are worth, on made-up sweeps whose truth is known.

`python tests/simulations.py` prints the tables of docs/statistics.md (about half an hour of one core; each row has a
stream of random numbers of its own, so that `--only coverage` gives the same rows); tests/compare/test_simulations.py
runs the same functions on fewer images.
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
    """How often each interval of a difference of 0.2 points holds the true one.

    resampled: of how many sweeps, the first ones, the bootstrap is tried too, which takes long.
    """
    held: dict[str, list[bool]] = {"seeds": [], "images": [], "pigeonhole": []}
    wanted, own = 0.002, np.random.default_rng(seeds)
    for sweep in range(sweeps):
        right, here, _ = population.draw(random, [ACCURACY, ACCURACY - wanted], seeds, images)
        found = crossed_difference(right[0], right[1])
        held["seeds"].append(_holds(found.seeds, float(here[0] - here[1])))
        held["images"].append(_holds(found.images, wanted))
        if sweep < resampled:
            low, high = pigeonhole(right[0].astype(np.int8) - right[1], own)
            held["pigeonhole"].append(low <= wanted <= high)
    return {name: fmean(values) for name, values in held.items() if values}


def pigeonhole(gaps: NDArray[np.int8], random: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % percentile interval of Owen's pigeonhole bootstrap (2007): seeds and images drawn again, each by itself.

    gaps: (seeds, images) of -1, 0, 1. Images with the same gaps are drawn together, which changes nothing but the time.
    """
    seeds, images = gaps.shape
    patterns, counts = np.unique(gaps, axis=1, return_counts=True)
    drawn_seeds = random.multinomial(seeds, [1 / seeds] * seeds, size=resamples)
    drawn_images = random.multinomial(images, counts / images, size=resamples)
    means = ((drawn_seeds @ patterns) * drawn_images).sum(1) / gaps.size
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def false_claims(
    population: Population, settings: int, seeds: int, images: int, sweeps: int, random: np.random.Generator
) -> dict[str, float]:
    """How many sweeps of equal settings claim any difference to the best, by correction; the best chosen by
    validation, and in "chosen on test" by the very images it is judged on."""
    claims: dict[str, list[bool]] = {name: [] for name in ("none", "settings - 1", "pairs", "chosen on test")}
    for _ in range(sweeps):
        right, _, validation = population.draw(random, [ACCURACY] * settings, seeds, images, images // 2)
        by_validation = _p_values(right, int(validation.argmax()))
        by_test = _p_values(right, int(right.mean((1, 2)).argmax()))
        claims["none"].append(min(by_validation) < SIGNIFICANCE)
        claims["settings - 1"].append(min(holm(by_validation, settings - 1)) < SIGNIFICANCE)
        claims["pairs"].append(min(holm(by_validation, math.comb(settings, 2))) < SIGNIFICANCE)
        claims["chosen on test"].append(min(holm(by_test, math.comb(settings, 2))) < SIGNIFICANCE)
    return {name: fmean(values) for name, values in claims.items()}


def power_reached(
    population: Population, seeds: int, images: int, comparisons: int, sweeps: int, random: np.random.Generator
) -> tuple[float, float, float]:
    """The difference that should be resolved with power 0.8, the power that `power` promises, and how often it is
    found."""
    gap = 0.0
    for _ in range(3):  # nets of another accuracy have another spread
        variance = population.variance(_apart(gap))
        gap = detectable_difference(variance, images, seeds, comparisons)
    found = 0
    for _ in range(sweeps):
        right, _, _ = population.draw(random, _apart(gap), seeds, images)
        p_value = crossed_difference(right[0], right[1]).images.p_value
        found += p_value is not None and p_value * comparisons < SIGNIFICANCE
    return gap, power(gap, variance, images, seeds, comparisons), found / sweeps


def _apart(gap: float) -> list[float]:
    return [ACCURACY + gap / 2, ACCURACY - gap / 2]


def _p_values(right: NDArray[np.bool_], best: int) -> list[float]:
    found = [crossed_difference(one, right[best]).images.p_value for place, one in enumerate(right) if place != best]
    return [1.0 if p_value is None else p_value for p_value in found]


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low is None or interval.high is None or interval.low <= truth <= interval.high


def coverage_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """Single intervals."""
    yield from _row("single 95 % intervals: coverage", "seeds", "over seeds", "over seeds and images", "pigeonhole")
    for name, population in POPULATIONS.items():
        for seeds in (2, 3, 5, 10):
            random = np.random.default_rng([seed, seeds])
            held = coverage(population, seeds, images, sweeps, random, resampled=sweeps // 10)
            yield from _row(name, str(seeds), *_percent(held))


def claims_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """False claims, of a tenth of the sweeps, since each has many nets."""
    columns = ("no correction", "Holm over settings - 1", "Holm over all pairs", "the same, best chosen on test")
    yield from _row("equal settings: sweeps that claim anything", "settings x seeds", *columns)
    for name, population in POPULATIONS.items():
        for settings, seeds in ((4, 5), (8, 3), (4, 10)):
            random = np.random.default_rng([seed + 2, settings, seeds])
            claims = false_claims(population, settings, seeds, images, sweeps // 10, random)
            yield from _row(name, f"{settings} x {seeds}", *_percent(claims))


def power_table(sweeps: int, images: int, seed: int) -> Iterator[str]:
    """Power, promised and reached."""
    columns = ("comparisons", "resolvable, points", "power promised", "power reached")
    yield from _row("power", "seeds", *columns)
    for name, population in POPULATIONS.items():
        for seeds, comparisons in ((3, 1), (5, 1), (5, 6), (10, 6)):
            random = np.random.default_rng([seed + 1, seeds])
            gap, promised, reached = power_reached(population, seeds, images, comparisons, sweeps, random)
            figures = _percent({"promised": promised, "reached": reached})
            yield from _row(name, str(seeds), str(comparisons), f"{100 * gap:.2f}", *figures)


TABLES = {"coverage": coverage_table, "claims": claims_table, "power": power_table}


def _row(*cells: str) -> Iterator[str]:
    yield "| " + " | ".join(cells) + " |"
    if cells[1].startswith(("seeds", "settings")):
        yield "|" + " --- |" * len(cells)


def _percent(parts: Mapping[str, float]) -> list[str]:
    return [f"{100 * part:.1f}" for part in parts.values()]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweeps", type=int, default=10_000, help="made-up sweeps behind each row (default: 10000)")
    parser.add_argument("--images", type=int, default=10_000, help="test images of each (default: 10000)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", choices=TABLES, action="append", help="this table alone")
    given = parser.parse_args()
    for name in given.only or TABLES:
        for line in TABLES[name](given.sweeps, given.images, given.seed):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
