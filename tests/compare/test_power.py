"""Resolution and seeds against scipy's noncentral t and published tables."""

import pytest
from scipy import stats

from mnist_mlp.compare.statistics import Variance, detectable_difference, plan, power


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (5, 1), (5, 6), (10, 66)])
def test_over_seeds_alone_it_is_students_noncentral_t(seeds: int, comparisons: int) -> None:
    variance = Variance(4e-6, 0.0, 0.0)
    gap = detectable_difference(variance, 0, seeds, comparisons)
    critical = stats.t.isf(0.025 / comparisons, seeds - 1)
    assert stats.nct.sf(critical, seeds - 1, gap / (0.002 / seeds**0.5)) == pytest.approx(0.8, abs=0.005)


def test_the_detectable_difference_has_power_eighty_percent() -> None:
    variance = Variance(2e-6, 1e-3, 3e-2)
    assert power(detectable_difference(variance, 10_000, 5, 6), variance, 10_000, 5, 6) == pytest.approx(0.8)


@pytest.mark.parametrize(("deviation", "seeds"), [(0.10, 10), (0.14, 18), (0.17, 25)])
def test_seeds_for_a_tenth_of_a_point_are_those_of_the_paired_t_test(deviation: float, seeds: int) -> None:
    found = plan(0.001, Variance((deviation / 100) ** 2, 0.0, 0.0), 0, 1)
    assert (found.seeds, found.limit) == (seeds, 0.0)  # the figures of any table of the paired t test


def test_a_plan_is_the_fewest_seeds_that_are_enough() -> None:
    variance = Variance(2e-6, 1e-3, 3e-2)
    found = plan(0.002, variance, 10_000, 6)
    assert found.seeds is not None
    assert power(0.002, variance, 10_000, found.seeds, 6) >= 0.8
    assert power(0.002, variance, 10_000, found.seeds - 1, 6) < 0.8


def test_where_images_are_the_limit_no_number_of_seeds_is_enough() -> None:
    variance = Variance(2e-6, 1e-3, 3e-2)
    found = plan(0.001, variance, 10_000, 1)
    assert found.seeds is not None
    tight = plan(0.0009 * found.limit / 0.001, variance, 10_000, 1)
    assert tight.seeds is None
    assert tight.images > 10_000
    assert power(found.limit * 1.01, variance, 10_000, 10**6, 1) > 0.8
    assert power(found.limit * 0.99, variance, 10_000, 10**6, 1) < 0.8


def test_a_plan_for_no_difference_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        plan(0.0, Variance(1.0, 0.0, 0.0), 0, 1)
