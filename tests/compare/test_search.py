"""What a search found: importance against scipy and against a made-up truth; the best so far."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import made_up_result, write_run
from scipy import stats

from mnist_mlp.compare.collect import Job, find_jobs
from mnist_mlp.compare.search import best_so_far, importances, is_quantity, is_wide

VAL = "val_accuracy"


def job(accuracy: float, **settings: Any) -> Job:
    return Job(Path(), "finished", settings, replace(made_up_result(), metrics={"val/accuracy": accuracy}))


def searched(n: int, seed: int = 0) -> list[Job]:
    """lr decides most (best at 0.01), dropout a little, units nothing; a tenth of the runs collapse."""
    random = np.random.default_rng(seed)
    jobs = []
    for place in range(n):
        log_lr, dropout = random.uniform(-4, -0.5), random.uniform(0, 0.5)
        accuracy = 0.98 - 0.02 * (log_lr + 2) ** 2 - 0.02 * dropout + 0.003 * random.standard_normal()
        accuracy = 0.1 if place % 10 == 0 else accuracy
        jobs.append(job(accuracy, lr=10**log_lr, dropout=dropout, units=[int(random.choice([64, 128, 256]))]))
    return jobs


def test_a_search_tells_what_mattered() -> None:
    found = {one.key: one for one in importances(searched(200), VAL)}
    assert next(iter(found)) == "lr"
    assert found["lr"].fraction > 0.4
    assert found["lr"].p_value < 1e-4
    assert found["units"].fraction < 0.1
    assert found["units"].p_value > 0.01


def test_settings_without_effect_seem_to_matter_as_rarely_as_chance_has_it() -> None:
    small = [
        one.p_value < 0.05 for seed in range(100) for one in importances(searched(30, seed), VAL) if one.key == "units"
    ]
    assert np.mean(small) < 0.12


def test_of_categories_it_is_the_test_of_kruskal_and_wallis() -> None:
    random = np.random.default_rng(1)
    kinds, numbers = random.integers(0, 3, 24).tolist(), random.random(24)
    (found,) = importances([job(number, kind="abc"[kind]) for kind, number in zip(kinds, numbers, strict=True)], VAL)
    groups = [numbers[np.array(kinds) == kind] for kind in range(3)]
    expected = stats.kruskal(*groups)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.fraction == pytest.approx(max((expected.statistic - 2) / (24 - 3), 0))


def test_a_few_runs_say_nothing() -> None:
    assert importances(searched(9), VAL) == []


def test_many_numbers_are_a_quantity_and_few_are_not() -> None:
    assert is_quantity(searched(10), "lr")
    assert not is_quantity(searched(10), "units")
    assert not is_quantity([job(0.9, lr=one) for one in (0.1, 0.2, 0.1, 0.2, 0.3, 0.4)], "lr")
    assert is_wide([1e-4, 0.3])
    assert not is_wide([0.0, 0.5])


def test_the_best_so_far_goes_by_the_time_at_which_runs_ended(tmp_path: Path) -> None:
    for place, (name, wrong) in enumerate({"c": [1, 2], "a": [1, 2, 3], "b": [1]}.items()):
        file = write_run(tmp_path / name, wrong=wrong, optim__lr=float(place + 1)) / "result.json"
        os.utime(file, (place, place))
    steps = best_so_far(find_jobs([tmp_path]), VAL)
    assert [(step.number, step.job.folder.name) for step in steps] == [(1, "c"), (2, "a"), (3, "b")]
    assert [(step.value, step.best) for step in steps] == [(0.98, 0.98), (0.97, 0.98), (0.99, 0.99)]
    assert best_so_far([], VAL) == []
