import itertools

import numpy as np
import pytest

from mnist_mlp.compare.statistics import holm, pairs


def test_holms_example_is_corrected_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(..., "holm")


def test_comparisons_that_are_not_given_count_as_the_largest() -> None:
    assert holm([0.01, 0.002], 6) == pytest.approx([0.05, 0.012])
    rest = np.random.default_rng(0).uniform(0.5, 1, 4).tolist()
    assert holm([0.01, 0.002], 6) == pytest.approx(holm([0.01, 0.002, *rest], 6)[:2])


def test_pairs_are_all_pairs() -> None:
    assert [pairs(settings) for settings in (1, 2, 5)] == [0, 1, len(list(itertools.combinations(range(5), 2)))]
