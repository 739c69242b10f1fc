import pytest
from scipy import stats

from mnist_mlp.compare.statistics import mcnemar, paired_difference


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
