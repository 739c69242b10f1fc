"""Crossed intervals against other people's analysis of variance, and what they do where there is next to no spread."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mnist_mlp.compare.statistics import crossed_difference


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
    assert found.variance.of_mean(8, 300) == pytest.approx(found.images.error**2)


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
