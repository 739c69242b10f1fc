"""The quick version of tests/promises.py: the same functions on fewer sweeps, so that what is promised stays true."""

import math

import numpy as np
import pytest
from promises import (
    coverage_of_accuracy,
    coverage_over_seeds,
    first_claims,
    flattery,
    loops_that_keep,
    planned_seeds,
    power_of_promises,
    seeds_until_claim,
)
from simulated_sweeps import POPULATIONS

from mnist_mlp.compare.sequential import SPREAD, anytime_p_value, critical_value
from mnist_mlp.compare.statistics import SIGNIFICANCE, cross_fitted_accuracy

SWEEPS = 4000


@pytest.mark.integration
@pytest.mark.parametrize("seeds", [3, pytest.param(5, marks=pytest.mark.integration)])
def test_a_difference_called_detectable_has_the_promised_power_on_average(seeds: int) -> None:
    powers = power_of_promises(POPULATIONS["seeds dominate"], seeds, 1000, 400, np.random.default_rng(seeds))
    error = powers.std(ddof=1) / math.sqrt(len(powers))
    assert 0.8 - 2 * error <= powers.mean() <= 0.9


@pytest.mark.parametrize(("image_error", "looks"), [(0.0, 20), (0.2, 100), (0.5, 100), (1.5, 20)])
def test_looking_after_each_seed_claims_falsely_in_at_most_five_and_a_half_percent(
    image_error: float, looks: int
) -> None:
    anytime, repeated = first_claims(0.0, image_error, looks, SWEEPS, np.random.default_rng(looks))
    assert np.mean(anytime <= looks) <= 0.055
    assert np.mean(repeated <= looks) > 0.055  # why repeated t-tests are not enough


@pytest.mark.parametrize("difference", [0.6, 1.0, 2.0])
def test_a_claim_at_any_look_takes_at_most_1_6_times_the_planned_seeds(difference: float) -> None:
    mean, _ = seeds_until_claim(difference, 1000, np.random.default_rng(1))
    assert mean <= 1.6 * planned_seeds(difference)


def test_loops_keep_a_change_that_helps_and_rarely_one_that_does_nothing() -> None:
    random = np.random.default_rng(0)
    kept, repeated, _ = loops_that_keep(POPULATIONS["seeds dominate"], 0.0, 500, 30, random)
    assert kept <= 0.1  # 3 of 30
    assert repeated > 0.2  # why repeated tests without adjustment are not enough
    assert loops_that_keep(POPULATIONS["seeds dominate"], 0.02, 500, 3, random)[2] > 0.8


@pytest.mark.integration
@pytest.mark.parametrize("name", POPULATIONS)
def test_of_a_thousand_loops_of_twenty_changes_that_do_nothing_at_most_five_percent_keep_one(name: str) -> None:
    assert loops_that_keep(POPULATIONS[name], 0.0, 1000, 1000, np.random.default_rng(1))[0] <= 0.05


@pytest.mark.parametrize("seeds", [5, 8, 30])
def test_the_bayes_factor_of_the_critical_value_is_the_inverse_level(seeds: int) -> None:
    """Against the integral over effect and deviation that defines it, with numpy's own quadrature."""
    t = critical_value(seeds, SIGNIFICANCE)
    data = np.linspace(-1, 1, seeds)
    data += t * data.std(ddof=1) / math.sqrt(seeds)
    deviations, effects = np.exp(np.linspace(-6, 6, 2000))[:, None], np.linspace(-12, 12, 4000)[None]
    squares = ((data - data.mean()) ** 2).sum()

    def likelihood(effect: np.ndarray) -> np.ndarray:  # of standardized effects; d deviation / deviation is Haar's
        residual = squares / deviations**2 + seeds * (data.mean() / deviations - effect) ** 2
        return np.exp(-residual / 2) * deviations ** (-float(seeds))

    prior = np.exp(-(effects**2) / (2 * SPREAD)) / math.sqrt(2 * math.pi * SPREAD)
    with_effect = (likelihood(effects) * prior).sum() * (effects[0, 1] - effects[0, 0])
    assert with_effect / likelihood(np.zeros((1, 1))).sum() == pytest.approx(1 / SIGNIFICANCE, rel=1e-3)


def test_the_anytime_p_value_is_the_level_at_which_the_difference_becomes_critical() -> None:
    p_value = anytime_p_value(0.01, 0.001, 8)
    assert critical_value(8, p_value) == pytest.approx(10.0, rel=1e-6)
    assert anytime_p_value(0.01, 0.001, 8, image_error=0.002) > p_value
    assert anytime_p_value(0.0, 0.001, 8) == 1.0
    assert anytime_p_value(0.01, 0.001, 2) > SIGNIFICANCE


def test_the_cross_fitted_figure_of_the_best_of_equal_settings_is_not_flattered() -> None:
    excess, fitted = flattery(8, 3, 0.0, SWEEPS, np.random.default_rng(0))
    assert excess > 0.2
    assert abs(fitted) < 0.02


def test_each_seed_judges_the_setting_that_the_others_chose() -> None:
    first = {0: (0.9, 0.5), 1: (0.1, 0.6), 2: (0.9, 0.7)}
    second = {0: (0.5, 0.1), 1: (0.5, 0.2), 2: (0.5, 0.3), 3: (1.0, 1.0)}
    # without seed 0: 0.5 and 0.5, the first of equals; without 1: 0.9 and 0.5; without 2: 0.5 and 0.5
    assert cross_fitted_accuracy([first, second]) == pytest.approx((0.5 + 0.6 + 0.7) / 3)
    assert cross_fitted_accuracy([first]) is None
    assert cross_fitted_accuracy([first, {3: (1.0, 1.0)}]) is None


@pytest.mark.parametrize("name", ["halves", "halves, writers, places"])
def test_the_interval_of_an_accuracy_covers_what_it_promises_even_if_errors_cluster(name: str) -> None:
    clustered, wilson, _ = coverage_of_accuracy(name, 10_000, 400, np.random.default_rng(1))
    assert 0.93 <= clustered <= 0.99
    assert (wilson < 0.85) == ("writers" in name)  # why the score interval is not enough


@pytest.mark.parametrize(
    ("name", "seeds", "deviation"), [("independent", 2, 0.2), ("halves, writers, places", 5, 0.05)]
)
def test_the_interval_over_seeds_and_images_covers_what_it_promises(name: str, seeds: int, deviation: float) -> None:
    covered, independent = coverage_over_seeds(name, 10_000, seeds, deviation, 250, np.random.default_rng(1))
    assert 0.93 <= covered <= 0.99
    assert independent < 0.9  # why the crossed interval is not enough
