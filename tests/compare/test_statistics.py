"""Intervals, tests and power against scipy, textbooks and published tables."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import binomtest

from mnist_mlp.compare.statistics import (
    MIN_BLOCKS,
    Variance,
    accuracy_interval,
    crossed_difference,
    detectable_difference,
    holm,
    mcnemar,
    paired_difference,
    plan,
    power,
)


def test_a_paired_difference_is_students_t_interval_over_common_seeds() -> None:
    first, second = {0: 0.97, 1: 0.975, 2: 0.968, 9: 0.5}, {0: 0.972, 1: 0.976, 2: 0.973, 7: 0.1}
    differences = [first[seed] - second[seed] for seed in (0, 1, 2)]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    interval = paired_difference(first, second)
    assert interval is not None
    assert (interval.n, interval.mean) == (3, pytest.approx(sum(differences) / 3))
    assert (interval.low, interval.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_identical_differences_have_no_standard_error() -> None:
    same = paired_difference({0: 0.9, 1: 0.8}, {0: 0.95, 1: 0.85})
    assert same is not None
    assert (same.mean, same.low, same.high, same.p_value) == (pytest.approx(-0.05), None, None, None)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 9), (9, 3), (40, 12), (5, 5)])
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    first = [True] * only_first + [False] * only_second + [True] * 30 + [False] * 4
    second = [False] * only_first + [True] * only_second + [True] * 30 + [False] * 4
    test = mcnemar(first, second)
    assert (test.only_first, test.only_second) == (only_first, only_second)
    total = only_first + only_second
    assert test.p_value == pytest.approx(stats.binomtest(only_first, total).pvalue if total else 1.0)


def nets(seeds: int, images: int, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    hard = random.random(images)
    return tuple(random.random((seeds, images)) < 0.3 + 0.6 * hard for _ in range(2))  # type: ignore[return-value]


def mean_squares(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares of seeds, images and residuals, computed as in textbooks."""
    seeds, images = differences.shape
    mean, rows, columns = differences.mean(), differences.mean(1), differences.mean(0)
    residual = differences - rows[:, None] - columns + mean
    return (
        images * ((rows - mean) ** 2).sum() / (seeds - 1),
        seeds * ((columns - mean) ** 2).sum() / (images - 1),
        (residual**2).sum() / ((seeds - 1) * (images - 1)),
    )


def test_the_standard_error_over_seeds_and_images_follows_from_the_anova() -> None:
    first, second = nets(6, 400)
    ms_seed, ms_image, residual = mean_squares(first.astype(float) - second)
    interval = crossed_difference(first, second).images
    assert ms_seed > residual * stats.chi2.ppf(0.38, 5) / 5  # above the lower bound
    both = ms_seed + max(ms_image - residual, 0)
    assert interval.error is not None
    assert interval.error**2 * first.size == pytest.approx(both)
    assert interval.degrees == pytest.approx(both**2 / (ms_seed**2 / 5))
    assert (interval.n, interval.images) == (6, 400)
    half = stats.t.ppf(0.975, interval.degrees) * interval.error
    assert (interval.low, interval.high) == (pytest.approx(interval.mean - half), pytest.approx(interval.mean + half))
    assert interval.p_value == pytest.approx(2 * stats.t.sf(abs(interval.mean) / interval.error, interval.degrees))


def test_the_interval_over_seeds_is_that_of_the_paired_t_test() -> None:
    first, second = nets(6, 400)
    differences = first.mean(1) - second.mean(1)
    interval, expected = crossed_difference(first, second).seeds, stats.ttest_1samp(differences, 0)
    limits = expected.confidence_interval(0.95)
    assert (interval.low, interval.high) == (pytest.approx(limits.low), pytest.approx(limits.high))
    assert interval.p_value == pytest.approx(expected.pvalue)


def test_variance_components_add_up_to_the_squared_standard_error() -> None:
    first, second = nets(8, 300)
    first[:4] &= np.random.default_rng(1).random((4, 300)) < 0.7  # four worse seeds
    comparison = crossed_difference(first, second)
    assert comparison.images.error is not None
    assert comparison.variance.seed > 0
    variance = comparison.variance
    of_mean = variance.seed / 8 + variance.image / 300 + variance.residual / (8 * 300)
    assert of_mean == pytest.approx(comparison.images.error**2)


def test_two_seeds_with_the_same_difference_have_an_interval_of_positive_width() -> None:
    first, second = np.ones((2, 100), dtype=bool), np.ones((2, 100), dtype=bool)
    second[0, :5] = second[1, 3:8] = False  # 5 points worse with both seeds, on different images
    comparison = crossed_difference(first, second)
    for interval in (comparison.seeds, comparison.images):
        assert interval.mean == pytest.approx(0.05)
        assert interval.low is not None
        assert interval.high is not None
        assert 0.01 < interval.high - interval.low < 1


def test_identical_nets_have_no_standard_error() -> None:
    same = np.ones((3, 50), dtype=bool)
    comparison = crossed_difference(same, same)
    assert (comparison.images.error, comparison.images.p_value, comparison.images.low) == (None, None, None)


def test_one_seed_has_no_standard_error() -> None:
    first, second = nets(1, 100)
    comparison = crossed_difference(first, second)
    assert (comparison.seeds.error, comparison.images.error) == (None, None)
    assert comparison.images.mean == pytest.approx(first.mean() - second.mean())


def test_mismatched_shapes_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 100\) and \(3, 100\)"):
        crossed_difference(nets(2, 100)[0], nets(3, 100)[0])


def test_holm_adjustment_equals_that_of_r() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(..., "holm")


def test_missing_p_values_count_as_the_largest() -> None:
    assert holm([0.01, 0.002], 6) == pytest.approx([0.05, 0.012])
    missing = np.random.default_rng(0).uniform(0.5, 1, 4).tolist()
    assert holm([0.01, 0.002], 6) == pytest.approx(holm([0.01, 0.002, *missing], 6)[:2])


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (5, 1), (5, 6), (10, 66)])
def test_power_over_seeds_follows_the_noncentral_t_distribution(seeds: int, comparisons: int) -> None:
    variance = Variance(4e-6, 0.0, 0.0)
    gap = detectable_difference(variance, 0, seeds, comparisons)
    critical = stats.t.isf(0.025 / comparisons, seeds - 1)
    assert stats.nct.sf(critical, seeds - 1, gap / (0.002 / seeds**0.5)) == pytest.approx(0.8, abs=0.005)


def test_the_detectable_difference_has_power_eighty_percent() -> None:
    variance = Variance(2e-6, 1e-3, 3e-2)
    assert power(detectable_difference(variance, 10_000, 5, 6), variance, 10_000, 5, 6) == pytest.approx(0.8)


@pytest.mark.parametrize(("deviation", "seeds"), [(0.10, 10), (0.14, 18), (0.17, 25)])
def test_sample_sizes_equal_those_of_the_paired_t_test(deviation: float, seeds: int) -> None:
    required = plan(0.001, Variance((deviation / 100) ** 2, 0.0, 0.0), 0, 1)
    assert (required.seeds, required.limit) == (seeds, 0.0)  # as in tables for the paired t test


def test_a_plan_is_the_smallest_sufficient_number_of_seeds() -> None:
    variance = Variance(2e-6, 1e-3, 3e-2)
    required = plan(0.002, variance, 10_000, 6)
    assert required.seeds is not None
    assert power(0.002, variance, 10_000, required.seeds, 6) >= 0.8
    assert power(0.002, variance, 10_000, required.seeds - 1, 6) < 0.8


def test_beyond_the_limit_of_the_images_no_number_of_seeds_suffices() -> None:
    variance = Variance(2e-6, 1e-3, 3e-2)
    required = plan(0.001, variance, 10_000, 1)
    assert required.seeds is not None
    tight = plan(0.0009 * required.limit / 0.001, variance, 10_000, 1)
    assert tight.seeds is None
    assert tight.images > 10_000
    assert power(required.limit * 1.01, variance, 10_000, 10**6, 1) > 0.8
    assert power(required.limit * 0.99, variance, 10_000, 10**6, 1) < 0.8


def test_a_plan_for_a_zero_difference_is_rejected() -> None:
    with pytest.raises(ValueError, match="above zero"):
        plan(0.0, Variance(1.0, 0.0, 0.0), 0, 1)


@pytest.mark.parametrize(("hits", "n"), [(0, 100), (100, 100), (1, 3), (18, 19)])
def test_without_clusters_the_interval_of_an_accuracy_is_the_score_interval(hits: int, n: int) -> None:
    level = 1 - 2 * stats.norm.sf(stats.t.isf(0.025, 2 / 3 * (MIN_BLOCKS - 1)))
    expected = binomtest(hits, n).proportion_ci(level, "wilson")
    interval = accuracy_interval(np.arange(n) < hits)
    assert interval == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high))


def test_errors_in_clusters_widen_the_interval_of_an_accuracy_but_a_trend_does_not() -> None:
    """The same 200 errors of 10,000: evenly spread, three of four in the first half, and in ten runs of 20."""
    images, clustered = np.arange(10_000), np.ones(10_000, dtype=bool)
    clustered[np.random.default_rng(1).choice(100, 10, replace=False)[:, None] * 100 + np.arange(20)] = False
    halves = np.where(images < 5000, images % 33 != 0, images % 100 != 0)
    even, trend, clusters = (
        np.subtract(*accuracy_interval(run)[::-1]) for run in (images % 50 != 0, halves, clustered)
    )
    assert trend == pytest.approx(even, rel=0.02)
    assert clusters > 2 * even


def test_equal_seeds_add_nothing_to_the_interval_of_an_accuracy_and_different_ones_widen_it() -> None:
    one = np.random.default_rng(0).random(10_000) > 0.02
    assert accuracy_interval(np.stack([one] * 3)) == pytest.approx(accuracy_interval(one))
    shifted = np.stack([one, one & (np.arange(10_000) % 50 > 0), one])
    assert np.diff(accuracy_interval(shifted)) > 2 * np.diff(accuracy_interval(one))


def test_without_images_the_interval_of_an_accuracy_is_the_unit_interval() -> None:
    assert accuracy_interval(np.zeros(0, dtype=bool)) == (0.0, 1.0)
