"""A quick version of tests/simulations.py: coverage, family-wise error and power on fewer images.

Bounds are 93 to 97 % for coverage, 77 to 83 % for power and 5.5 % for the family-wise error. The interval over seeds
and images is conservative for few images, so its upper bound has two standard errors of the simulation on top.
"""

import math

import numpy as np
import pytest
from simulated_sweeps import POPULATIONS, Population
from simulations import coverage, factor_effects, family_wise_errors, simulated_power

SWEEPS = 1000
POPULATION = POPULATIONS["both"]


@pytest.mark.integration
@pytest.mark.parametrize(("name", "seeds"), [("images dominate", 3), ("both", 5), ("seeds dominate", 3)])
def test_unadjusted_intervals_have_nominal_coverage(name: str, seeds: int) -> None:
    covered = coverage(POPULATIONS[name], seeds, 4000, SWEEPS, np.random.default_rng(seeds))
    assert 0.93 <= covered["seeds"] <= 0.97
    assert 0.93 <= covered["images"] <= 0.97 + 2 * math.sqrt(0.97 * 0.03 / SWEEPS)


def test_the_family_wise_error_of_equal_settings_is_controlled() -> None:
    strong = Population(seed=0.2, setting_image=0.3)  # validation and test accuracy are strongly correlated
    errors = family_wise_errors(strong, 4, 5, 1000, SWEEPS, np.random.default_rng(0))
    assert errors["pairs"] <= 0.055
    assert errors["selected on test"] <= 0.055
    assert errors["settings - 1"] > 0.055  # so the package adjusts for all pairs
    assert errors["none"] > 0.1


@pytest.mark.parametrize(("seeds", "comparisons"), [(4, 1), (8, 6)])
def test_the_detectable_difference_is_detected_with_power_eighty_percent(seeds: int, comparisons: int) -> None:
    random = np.random.default_rng(seeds)
    difference, nominal, simulated = simulated_power(POPULATION, seeds, 1000, comparisons, SWEEPS, random)
    assert nominal == pytest.approx(0.8, abs=1e-3)
    assert 0.77 <= simulated <= 0.83
    assert difference > 0


@pytest.mark.parametrize("grid", [(2, 2), (3, 3)])
def test_effects_of_factors_are_covered_rarely_false_and_more_often_detected_than_pairs(grid: tuple[int, ...]) -> None:
    random = np.random.default_rng(grid)
    none = factor_effects(POPULATION, grid, 5, 500, 0.0, 200, random)
    assert none["coverage"] >= 0.93
    assert none["false"] <= 0.055 + 2 * math.sqrt(0.05 * 0.95 / 200)
    one = factor_effects(POPULATION, grid, 5, 500, 0.015, 80, random)
    assert one["effect"] > one["pair"] + 0.2
