"""Intervals, tests and power against scipy, textbooks and published tables."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import binomtest

from mnist_mlp.compare.statistics import (
    Variance,
    crossed_difference,
    detectable_difference,
    holm,
    mcnemar,
    paired_difference,
    plan,
    power,
    wilson,
)


def test_a_paired_difference_is_students_t_interval_over_common_seeds() -> None:
    one, other = {0: 0.97, 1: 0.975, 2: 0.968, 9: 0.5}, {0: 0.972, 1: 0.976, 2: 0.973, 7: 0.1}
    gaps = [one[seed] - other[seed] for seed in (0, 1, 2)]
    expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    got = paired_difference(one, other)
    assert got is not None
    assert (got.n, got.mean) == (3, pytest.approx(sum(gaps) / 3))
    assert (got.low, got.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_seeds_with_the_very_same_difference_tell_no_error() -> None:
    same = paired_difference({0: 0.9, 1: 0.8}, {0: 0.95, 1: 0.85})
    assert same is not None
    assert (same.mean, same.low, same.high, same.p_value) == (pytest.approx(-0.05), None, None, None)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 9), (9, 3), (40, 12), (5, 5)])
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    first = [True] * only_first + [False] * only_second + [True] * 30 + [False] * 4
    second = [False] * only_first + [True] * only_second + [True] * 30 + [False] * 4
    got = mcnemar(first, second)
    assert (got.only_first, got.only_second) == (only_first, only_second)
    total = only_first + only_second
    assert got.p_value == pytest.approx(stats.binomtest(only_first, total).pvalue if total else 1.0)


def nets(seeds: int, images: int, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    hard = random.random(images)
    return tuple(random.random((seeds, images)) < 0.3 + 0.6 * hard for _ in range(2))  # type: ignore[return-value]


def mean_squares(gaps: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of seeds, images and the rest, by the textbook: residuals after both means."""
    seeds, images = gaps.shape
    mean, rows, columns = gaps.mean(), gaps.mean(1), gaps.mean(0)
    rest = gaps - rows[:, None] - columns + mean
    return (
        images * ((rows - mean) ** 2).sum() / (seeds - 1),
        seeds * ((columns - mean) ** 2).sum() / (images - 1),
        (rest**2).sum() / ((seeds - 1) * (images - 1)),
    )


def test_the_error_over_seeds_and_images_is_that_of_the_analysis_of_variance() -> None:
    first, second = nets(6, 400)
    by_seed, by_image, rest = mean_squares(first.astype(float) - second)
    found = crossed_difference(first, second).images
    assert by_seed > rest * stats.chi2.ppf(0.38, 5) / 5  # nothing had to be raised
    both = by_seed + max(by_image - rest, 0)
    assert found.error is not None
    assert found.error**2 * first.size == pytest.approx(both)
    assert found.degrees == pytest.approx(both**2 / (by_seed**2 / 5))
    assert (found.n, found.images) == (6, 400)
    half = stats.t.ppf(0.975, found.degrees) * found.error
    assert (found.low, found.high) == (pytest.approx(found.mean - half), pytest.approx(found.mean + half))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.mean) / found.error, found.degrees))


def test_the_interval_over_seeds_is_students_on_the_differences() -> None:
    first, second = nets(6, 400)
    gaps = first.mean(1) - second.mean(1)
    found, expected = crossed_difference(first, second).seeds, stats.ttest_1samp(gaps, 0)
    limits = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(limits.low), pytest.approx(limits.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_variances_add_up_to_the_squared_error() -> None:
    first, second = nets(8, 300)
    first[:4] &= np.random.default_rng(1).random((4, 300)) < 0.7  # seeds that were unlucky
    found = crossed_difference(first, second)
    assert found.images.error is not None
    assert found.variance.seed > 0
    variance = found.variance
    of_mean = variance.seed / 8 + variance.image / 300 + variance.rest / (8 * 300)
    assert of_mean == pytest.approx(found.images.error**2)


def test_two_seeds_with_the_same_difference_have_an_interval_with_a_width() -> None:
    first, second = np.ones((2, 100), dtype=bool), np.ones((2, 100), dtype=bool)
    second[0, :5] = second[1, 3:8] = False  # 5 points worse with either seed, on images that differ
    found = crossed_difference(first, second)
    for interval in (found.seeds, found.images):
        assert interval.mean == pytest.approx(0.05)
        assert interval.low is not None
        assert interval.high is not None
        assert 0.01 < interval.high - interval.low < 1


def test_where_nothing_differs_nothing_is_claimed() -> None:
    same = np.ones((3, 50), dtype=bool)
    found = crossed_difference(same, same)
    assert (found.images.error, found.images.p_value, found.images.low) == (None, None, None)


def test_one_seed_tells_no_error() -> None:
    first, second = nets(1, 100)
    found = crossed_difference(first, second)
    assert (found.seeds.error, found.images.error) == (None, None)
    assert found.images.mean == pytest.approx(first.mean() - second.mean())


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 100\) and \(3, 100\)"):
        crossed_difference(nets(2, 100)[0], nets(3, 100)[0])


def test_holms_example_is_corrected_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(..., "holm")


def test_comparisons_that_are_not_given_count_as_the_largest() -> None:
    assert holm([0.01, 0.002], 6) == pytest.approx([0.05, 0.012])
    rest = np.random.default_rng(0).uniform(0.5, 1, 4).tolist()
    assert holm([0.01, 0.002], 6) == pytest.approx(holm([0.01, 0.002, *rest], 6)[:2])


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


@pytest.mark.parametrize(("hits", "n"), [(9811, 10_000), (0, 100), (100, 100), (1, 3), (37, 100)])
def test_the_interval_is_the_one_that_scipy_gives(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_no_images_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
