"""Simulations of five promises: power, claims that hold at any look, loops that keep what is better, the best setting's
figure, a run's interval.

`python tests/promises.py` prints the tables of docs/statistics.md; tests/compare/test_promises.py runs the same
functions on fewer sweeps.
"""

import argparse
import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from scipy import optimize, special, stats
from scipy.stats import binomtest
from simulated_sweeps import POPULATIONS, Population

from mnist_mlp.compare.difference import BETTER, decide, exceeding
from mnist_mlp.compare.sequential import IMAGE_SHARE, critical_value
from mnist_mlp.compare.statistics import (
    POWER,
    SIGNIFICANCE,
    PairedComparison,
    accuracy_interval,
    adjust_for_all_pairs,
    cross_fitted_accuracy,
    crossed_difference,
    detectable_difference,
    power,
)

ACCURACY = 0.97
PLACE = 300
TRIES, SEEDS = 20, (4, 8, 16)
"""Changes that a loop tries, and numbers of seeds at which it looks."""
FILES = {
    "independent": ((0.02,), 1, 0.0, 0.0),
    "halves": ((0.037, 0.016), 1, 0.0, 0.0),
    "halves, writers": ((0.037, 0.016), 40, 1.0, 0.0),
    "halves, writers, places": ((0.037, 0.016), 40, 0.8, 0.4),
}
"""Test files: error rates of the parts in file order, consecutive images of a writer, and standard deviations of the
log-odds of an error over writers and over places (PLACE images). MNIST's is like the last: runs with 1.5 to 8 % errors
have 1.4, 2.0 and 3.3 times the variance of independent errors between 100, 50 and 20 blocks."""
IMAGE_DEVIATION = 3.0
"""Standard deviation of the log-odds of an error over images, shared by seeds; two runs share 40 % of errors."""
SEED_DEVIATIONS = {"as on MNIST": 0.05, "seeds differ": 0.2}
"""Of the log-odds of an error over seeds."""


def power_of_promises(
    population: Population, seeds: int, images: int, sweeps: int, random: np.random.Generator
) -> np.ndarray:
    """Return the true power (sweeps,) at the difference that each sweep calls detectable with power 0.8."""
    truth = population.variance([ACCURACY, ACCURACY])
    powers = np.empty(sweeps)
    for sweep in range(sweeps):
        correct, _, _ = population.draw(random, [ACCURACY, ACCURACY], seeds, images)
        estimated = crossed_difference(correct[0], correct[1]).variance
        powers[sweep] = power(detectable_difference(estimated, images, seeds, 1), truth, images, seeds, 1)
    return powers


@cache
def _critical_values(looks: int) -> np.ndarray:
    return np.array([critical_value(seeds, SIGNIFICANCE) for seeds in range(2, looks + 1)])


def first_claims(
    difference: float, image_error: float, looks: int, sweeps: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of seeds at the first claim (sweeps,), by anytime-valid tests and by repeated t-tests.

    One look after each seed from the second to `looks`; looks + 1 stands for no claim. In units of the standard
    deviation of a seed's difference. image_error: of the test images, the same at each look.
    """
    gaps = random.normal(difference, 1, (sweeps, looks)) + image_error * random.standard_normal((sweeps, 1))
    number = np.arange(1, looks + 1)
    means = gaps.cumsum(1) / number
    squares = np.maximum((gaps**2).cumsum(1) - number * means**2, 0)[:, 1:]
    errors = np.sqrt(squares / (number[1:] - 1) / number[1:])
    of_images = -special.ndtri(np.array([IMAGE_SHARE, 1]) * SIGNIFICANCE / 2) * image_error
    bounds = (
        np.hypot(_critical_values(looks) * errors, of_images[0]),
        np.hypot(stats.t.isf(SIGNIFICANCE / 2, number[1:] - 1) * errors, of_images[1]),
    )
    claims = [np.abs(means[:, 1:]) > bound for bound in bounds]
    anytime, repeated = (np.where(claim.any(1), claim.argmax(1) + 2, looks + 1) for claim in claims)
    return anytime, repeated


def _is_kept(above: PairedComparison) -> bool:
    (adjusted,) = adjust_for_all_pairs([above], TRIES)
    return adjusted is not None and decide(adjusted) == BETTER


def loops_that_keep(
    population: Population, gain: float, images: int, loops: int, random: np.random.Generator, margin: float = 0.0
) -> tuple[float, float, float]:
    """Return the fractions of loops that keep a change, by the decisions of mnist_mlp.compare and by repeated tests.

    A loop tries TRIES changes of the same true effect `gain` on one setting, on the same test images, and ends at the
    first that it keeps. Each try has a look at each number of seeds of SEEDS. Repeated tests: unadjusted p < 0.05 at
    any look. Third: the fraction of single tries that are kept.
    """
    kept, repeated, tries = 0, 0, []
    for _ in range(loops):
        accuracies = [ACCURACY, *[ACCURACY + gain] * TRIES]
        correct, _, _ = population.draw(random, accuracies, SEEDS[-1], images)
        looks = [[crossed_difference(own[:n], correct[0][:n]) for n in SEEDS] for own in correct[1:]]
        tries += [any(_is_kept(exceeding(pair, margin)) for pair in pairs) for pairs in looks]
        kept += any(tries[-TRIES:])
        repeated += any(pair.is_significant and pair.decisive.mean > margin for pairs in looks for pair in pairs)
    return kept / loops, repeated / loops, float(np.mean(tries))


def planned_seeds(difference: float) -> int:
    """Return how many seeds a t-test that is planned in advance needs for power 0.8."""
    for seeds in range(2, 10_000):
        critical, shift = stats.t.isf(SIGNIFICANCE / 2, seeds - 1), difference * math.sqrt(seeds)
        with np.errstate(divide="ignore"):  # scipy 1.13
            if stats.nct.sf(critical, seeds - 1, shift) >= POWER:
                return seeds
    raise ValueError(f"{difference} is too small")


def seeds_until_claim(difference: float, sweeps: int, random: np.random.Generator) -> tuple[float, int]:
    """Return the mean number of seeds until a claim, and the number by which 80 % of the sweeps have one."""
    anytime, _ = first_claims(difference, 0.0, 10 * planned_seeds(difference), sweeps, random)
    by = int(np.sort(anytime)[math.ceil(POWER * sweeps) - 1])
    return float(np.minimum(anytime, by).mean()), by


def flattery(settings: int, seeds: int, spread: float, sweeps: int, random: np.random.Generator) -> tuple[float, float]:
    """Return by how much the best setting's mean test accuracy exceeds its true one, and the cross-fitted figure.

    In points. Settings have true accuracies of standard deviation `spread`; a seed's luck of 0.4 points is shared by
    validation (0.25 points of noise by its images) and test (0.15).
    """
    excess, fitted = [], []
    for _ in range(sweeps):
        truth = random.normal(0, spread, settings)
        nets = truth[:, None] + random.normal(0, 0.4, (settings, seeds))
        validation, test = (nets + random.normal(0, noise, nets.shape) for noise in (0.25, 0.15))
        best = validation.mean(1).argmax()
        scores = [dict(enumerate(zip(*pair, strict=True))) for pair in zip(validation, test, strict=True)]
        excess.append(test[best].mean() - truth[best])
        fitted.append((cross_fitted_accuracy(scores) or 0.0) - truth[best])
    return float(np.mean(excess)), float(np.mean(fitted))


@cache
def _log_odds(rate: float, deviation: float) -> float:
    """The mean log-odds of an error for this error rate, if log-odds vary with this standard deviation."""
    normal = stats.norm.isf((np.arange(2000) + 0.5) / 2000)
    return float(optimize.brentq(lambda mean: special.expit(mean + deviation * normal).mean() - rate, -15, 5))


def errors_in_file(
    name: str, images: int, random: np.random.Generator, seeds: int = 1, deviation_of_seeds: float = 0.0
) -> np.ndarray:
    """Draw whether the nets of some seeds err on each image of a test file of `FILES`, (seeds, images)."""
    rates, writer, *deviations = FILES[name]
    of_nets = (IMAGE_DEVIATION, deviation_of_seeds) if seeds > 1 else (0.0, 0.0)
    odds = np.repeat([_log_odds(rate, math.hypot(*deviations, *of_nets)) for rate in rates], images // len(rates))
    for length, deviation in zip((writer, PLACE), deviations, strict=True):
        odds = odds + np.repeat(random.normal(0, deviation, -(-len(odds) // length)), length)[: len(odds)]
    if seeds > 1:
        odds = odds + random.normal(0, of_nets[0], len(odds)) + random.normal(0, of_nets[1], (seeds, 1))
    return np.asarray(random.random((seeds, odds.shape[-1])) < special.expit(odds))


def coverage_over_seeds(
    name: str, images: int, seeds: int, deviation: float, files: int, random: np.random.Generator
) -> tuple[float, float]:
    """Return the coverage of the interval over seeds and images, and of the crossed one that takes images as
    independent."""
    truth, covered = 1 - float(np.mean(FILES[name][0])), []
    for _ in range(files):
        correct = ~errors_in_file(name, images, random, seeds, deviation)
        crossed = crossed_difference(correct, np.zeros_like(correct)).images
        assert crossed is not None
        intervals = np.array([accuracy_interval(correct), (crossed.low, crossed.high)])
        covered.append((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    clustered, independent = np.mean(covered, axis=0)
    return float(clustered), float(independent)


def coverage_of_accuracy(name: str, images: int, files: int, random: np.random.Generator) -> tuple[float, float, float]:
    """Return the coverage of a run's interval and of Wilson's, and the ratio of their mean widths."""
    truth, covered, widths = 1 - float(np.mean(FILES[name][0])), [], []
    for _ in range(files):
        (correct,) = ~errors_in_file(name, images, random)
        score = binomtest(int(correct.sum()), images).proportion_ci(0.95, "wilson")
        intervals = np.array([accuracy_interval(correct), (score.low, score.high)])
        covered.append((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
        widths.append(intervals[:, 1] - intervals[:, 0])
    clustered, wilson = np.mean(covered, axis=0)
    return float(clustered), float(wilson), float(np.divide(*np.mean(widths, axis=0)))


def power_table(sweeps: int) -> Iterator[str]:
    yield "| power at the difference called detectable with 0.8 | seeds | mean | worst tenth |"
    yield "| --- | --- | --- | --- |"
    for name, population in POPULATIONS.items():
        for seeds in (3, 5, 10):
            powers = power_of_promises(population, seeds, 10_000, sweeps // 20, np.random.default_rng(seeds))
            yield f"| {name} | {seeds} | {powers.mean():.2f} | {np.quantile(powers, 0.1):.2f} |"


def looks_table(sweeps: int) -> Iterator[str]:
    yield "| equal settings, a look after each seed: false claims, % | looks up to | anytime | repeated t-tests |"
    yield "| --- | --- | --- | --- |"
    for ratio in (0.0, 0.5, 1.0, 3.0):
        for looks in (10, 20, 100):
            claims = first_claims(0.0, ratio / math.sqrt(5), looks, sweeps, np.random.default_rng(looks))
            shown = " | ".join(f"{100 * np.mean(claim <= looks):.1f}" for claim in claims)
            yield f"| error of images / of five seeds {ratio:g} | {looks} | {shown} |"
    yield ""
    yield "| difference / deviation of a seed | seeds if planned | mean until a claim | 80 % have one by |"
    yield "| --- | --- | --- | --- |"
    for difference in (0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0):
        mean, by = seeds_until_claim(difference, sweeps // 4, np.random.default_rng(1))
        planned = planned_seeds(difference)
        yield f"| {difference:g} | {planned} | {mean:.1f} ({mean / planned:.2f}) | {by} ({by / planned:.2f}) |"


def loops_table(sweeps: int) -> Iterator[str]:
    yield f"| loops that keep one of {TRIES} changes, % | true gain, margin, points | kept | repeated tests | per try |"
    yield "| --- | --- | --- | --- | --- |"
    for name, population in POPULATIONS.items():
        for gain, margin in ((0.0, 0.0), (0.5, 0.1)):
            random = np.random.default_rng(TRIES)
            fractions = loops_that_keep(population, gain / 100, 10_000, sweeps // 20, random, margin / 100)
            yield f"| {name} | {gain:g}, {margin:g} | {' | '.join(f'{100 * value:.1f}' for value in fractions)} |"


def flattery_table(sweeps: int) -> Iterator[str]:
    yield "| best of | spread of settings, points | its mean, excess in points | cross-fitted, excess |"
    yield "| --- | --- | --- | --- |"
    for settings, seeds in ((8, 3), (20, 3), (8, 5), (4, 10)):
        for spread in (0.0, 0.2, 0.5, 2.0):
            excess, fitted = flattery(settings, seeds, spread, sweeps // 4, np.random.default_rng(settings))
            yield f"| {settings} x {seeds} seeds | {spread:g} | {excess:+.2f} | {fitted:+.2f} |"


def accuracy_table(sweeps: int) -> Iterator[str]:
    yield "| coverage of a run's interval, %, and its width over Wilson's | images | coverage | Wilson's | width |"
    yield "| --- | --- | --- | --- | --- |"
    for name in FILES:
        for images in (1_000, 10_000):
            clustered, wilson, width = coverage_of_accuracy(name, images, sweeps // 2, np.random.default_rng(images))
            yield f"| {name} | {images:,} | {100 * clustered:.1f} | {100 * wilson:.1f} | {width:.2f} |"


def seeds_table(sweeps: int) -> Iterator[str]:
    yield "| coverage over seeds and images, % | images | seeds | blocks | independent images |"
    yield "| --- | --- | --- | --- | --- |"
    for name in FILES:
        for (label, deviation), seeds in itertools.product(SEED_DEVIATIONS.items(), (2, 3, 5)):
            for images in (10_000, 60_000):
                random = np.random.default_rng([images, seeds])
                covered = coverage_over_seeds(name, images, seeds, deviation, sweeps // 10, random)
                shown = " | ".join(f"{100 * value:.1f}" for value in covered)
                yield f"| {name}; {label} | {images:,} | {seeds} | {shown} |"


TABLES = {
    "power": power_table,
    "looks": looks_table,
    "loops": loops_table,
    "flattery": flattery_table,
    "accuracy": accuracy_table,
    "seeds": seeds_table,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweeps", type=int, default=20_000)
    parser.add_argument("--only", choices=TABLES, action="append")
    args = parser.parse_args()
    for name in args.only or TABLES:
        print(*TABLES[name](args.sweeps), sep="\n", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
