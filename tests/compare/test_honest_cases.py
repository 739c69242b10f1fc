"""The sentences about made-up sweeps are those that were read and judged."""

import pytest
from honest_cases import CASES, GOLDEN, render


@pytest.mark.integration
def test_every_sentence_about_sweeps_of_known_truth_is_one_that_was_judged() -> None:
    """If it fails: python tests/honest_cases.py, then read the diff as a careless reader would."""
    assert len(CASES) >= 60
    assert render().splitlines() == GOLDEN.read_text().splitlines()
