"""Marginal means against a sweep small enough to add up by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import made_up_result

from mnist_mlp.analysis.collect import Job
from mnist_mlp.analysis.effects import amount, grid, in_order, is_full_grid, main_effect


def job(accuracy: float | None, **settings: Any) -> Job:
    metrics = {"val/accuracy": accuracy, "test/accuracy": accuracy}
    result = replace(made_up_result(), metrics=metrics) if accuracy is not None else None
    return Job(Path(), "finished", settings, result)


JOBS = [
    job(0.5, lr=0.1, units=[16]),
    job(0.7, lr=0.1, units=[64]),
    job(0.8, lr=0.02, units=[16]),
    job(0.9, lr=0.02, units=[64]),
    job(None, lr=0.1, units=[64]),
]


def test_a_main_effect_is_the_mean_over_all_other_factors() -> None:
    low, high = main_effect(JOBS, "lr", "val_accuracy")
    assert (low.value, high.value) == ("0.02", "0.1")
    assert low.mean == pytest.approx(0.85)
    assert high.mean == pytest.approx(0.6)
    assert high.deviation == pytest.approx(0.1 * 2**0.5)
    assert [level.mean for level in main_effect(JOBS, "units", "val_accuracy")] == pytest.approx([0.65, 0.8])


def test_a_grid_has_a_mean_per_cell_and_holes_where_no_run_is() -> None:
    found = grid([*JOBS[:3], job(0.6, lr=0.1, units=[16])], ("lr", "units"), "val_accuracy")
    assert (found.rows, found.columns) == (["0.02", "0.1"], ["16", "64"])
    assert found.cells[0] == [pytest.approx(0.8), None]
    assert found.cells[1] == pytest.approx([0.55, 0.7])


def test_a_lopsided_grid_is_told_from_a_full_one() -> None:
    assert is_full_grid(JOBS, ["lr", "units"], "val_accuracy")
    assert not is_full_grid(JOBS[:3], ["lr", "units"], "val_accuracy")
    assert not is_full_grid([*JOBS, JOBS[0]], ["lr", "units"], "val_accuracy")


def test_levels_are_in_the_order_of_their_amounts_names_last() -> None:
    assert in_order(["full", "0.1", "half", "10", "relu", "0.05"]) == ["0.05", "0.1", "half", "full", "10", "relu"]
    assert amount("64-32") is None
