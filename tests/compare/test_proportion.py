"""Wilson's interval against scipy's."""

import pytest
from scipy.stats import binomtest

from mnist_mlp.compare.statistics import wilson


@pytest.mark.parametrize(("hits", "n"), [(9811, 10_000), (0, 100), (100, 100), (1, 3), (37, 100)])
def test_the_interval_is_the_one_that_scipy_gives(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_no_images_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
