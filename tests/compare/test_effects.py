"""Effects of matched runs against hand calculations; importance against scipy and a known truth."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import made_up_result, write_run
from scipy import stats

from mnist_mlp.compare.effects import (
    as_number,
    best_so_far,
    factors,
    grid,
    importances,
    is_quantity,
    main_effect,
    matched_sets,
    robust_range,
    sort_levels,
)
from mnist_mlp.compare.load import Job, find_jobs

VAL = "val_accuracy"


def job(accuracy: float | None, **settings: Any) -> Job:
    metrics = {"val/accuracy": accuracy, "test/accuracy": accuracy}
    result = replace(made_up_result(), metrics=metrics) if accuracy is not None else None
    return Job(Path(), "finished", settings, result)


FULL = [
    job(0.6, lr=0.1, units=[16]),
    job(0.9, lr=0.1, units=[64]),
    job(0.8, lr=0.02, units=[16]),
    job(0.9, lr=0.02, units=[64]),
    job(None, lr=0.1, units=[64]),
]
STUDY = [
    job(0.98, lr=0.005, subset="full", norm="symmetric", epochs=10),
    job(0.96, lr=0.005, subset="half", norm="symmetric", epochs=10),
    job(0.84, lr=1.0, subset="full", norm="symmetric", epochs=10),
    job(0.92, lr=0.0005, subset="full", norm="symmetric", epochs=4),
    job(0.88, lr=0.0005, subset="full", norm="raw", epochs=4),
]
"""A study that varies one factor at a time: errors of 2, 4, 16, 8 and 12 %."""


def means(jobs: list[Job], key: str) -> dict[str, float | None]:
    return main_effect(jobs, key, VAL)


def test_in_a_full_grid_an_effect_is_the_geometric_mean_error_over_the_other_factors() -> None:
    effect = means(FULL, "lr")
    assert list(effect) == ["0.02", "0.1"]
    assert effect["0.02"] == pytest.approx(1 - math.sqrt(0.2 * 0.1))
    assert effect["0.1"] == pytest.approx(1 - math.sqrt(0.4 * 0.1))


def test_in_an_unbalanced_study_only_runs_that_differ_in_one_factor_are_compared() -> None:
    assert means(STUDY, "subset") == {"half": pytest.approx(0.96), "full": pytest.approx(0.98)}
    assert means(STUDY, "norm") == {"raw": pytest.approx(0.88), "symmetric": pytest.approx(0.92)}
    assert means(STUDY, "lr") == {"0.005": pytest.approx(0.98), "1.0": pytest.approx(0.84)}
    assert main_effect(STUDY, "epochs", VAL) == {}


def test_incomplete_sets_are_combined_through_shared_levels() -> None:
    """b halves the error of a, c that of b; the second set has twice the errors and lacks c."""
    jobs = [job(1 - error, act=act, units=1) for act, error in (("a", 0.08), ("b", 0.04), ("c", 0.02))]
    jobs += [job(1 - error, act=act, units=2) for act, error in (("a", 0.16), ("b", 0.08))]
    effect = means(jobs, "act")
    average_set = math.sqrt(2)
    assert effect == {
        act: pytest.approx(1 - error * average_set) for act, error in (("a", 0.08), ("b", 0.04), ("c", 0.02))
    }


def test_unconnected_levels_have_no_mean() -> None:
    jobs = [job(0.9, act="a", units=1), job(0.8, act="b", units=1), job(0.95, act="b", units=3)]
    jobs += [job(0.5, act="c", units=2), job(0.6, act="d", units=2)]
    effect = means(jobs, "act")
    assert effect["a"] == pytest.approx(0.9)
    assert effect["b"] == pytest.approx(0.8)
    assert (effect["c"], effect["d"]) == (None, None)


def test_a_random_search_has_no_matched_sets() -> None:
    assert matched_sets([job(0.9, lr=0.1, units=1), job(0.8, lr=0.2, units=2)], "lr", VAL) == []


def test_collapsed_runs_count_in_the_mean() -> None:
    effect = means([*FULL, job(0.1, lr=0.1, units=[16])], "lr")
    assert effect["0.1"] == pytest.approx(1 - math.sqrt((0.4 + 0.9) / 2 * 0.1))


def test_a_level_of_which_most_runs_collapsed_is_not_above_one_that_trains() -> None:
    jobs = [job(0.97, lr=0.1, seed=seed) for seed in range(5)]
    jobs += [job(0.98 if seed == 0 else 0.1, lr=0.2, seed=seed) for seed in range(5)]
    assert means(jobs, "lr") == {"0.1": pytest.approx(0.97), "0.2": pytest.approx((0.98 + 4 * 0.1) / 5)}  # as the table


def test_seeds_and_names_of_published_results_are_not_factors() -> None:
    jobs = [job(0.9, **{"seed": n, "optim.lr": n, "reference.id": str(n), "trainer.figures": n}) for n in range(3)]
    assert factors(jobs) == ["optim.lr"]


def test_a_grid_has_a_mean_per_cell() -> None:
    averages = grid([*FULL, job(0.7, lr=0.1, units=[16])], ("lr", "units"), VAL)
    assert (averages.rows, averages.columns, averages.at) == (["0.02", "0.1"], ["16", "64"], {})
    assert averages.cells == [[pytest.approx(0.8), pytest.approx(0.9)], [pytest.approx(0.65), pytest.approx(0.9)]]


def test_all_cells_of_a_grid_average_the_same_values_of_the_other_factors() -> None:
    """Half the data must not look better only because it lacks the run whose learning rate is too high."""
    assert grid(STUDY, ("norm", "subset"), VAL).rows == []
    more = [
        *STUDY,
        job(0.90, lr=0.005, subset="full", norm="raw", epochs=10),
        job(0.88, lr=0.005, subset="half", norm="raw", epochs=10),
    ]
    averages = grid(more, ("norm", "subset"), VAL)
    assert (averages.rows, averages.columns) == (["raw", "symmetric"], ["half", "full"])
    assert averages.cells == [[pytest.approx(0.88), pytest.approx(0.90)], [pytest.approx(0.96), pytest.approx(0.98)]]
    assert averages.at == {"lr": "0.005", "epochs": "10"}


def test_axis_ranges_exclude_collapsed_runs_and_far_outliers() -> None:
    assert robust_range([0.97, 0.975, 0.98, 0.96, 0.1]) == (0.96, 0.98)
    assert robust_range([0.97, 0.972, 0.975, 0.974, 0.971, 0.85]) == (0.97, 0.975)
    assert robust_range([0.1, 0.11]) == (0.1, 0.11)
    assert robust_range([]) is None


def test_levels_are_sorted_by_number_and_names_come_last() -> None:
    assert sort_levels(["full", "0.1", "half", "10", "relu", "0.05"]) == ["0.05", "0.1", "half", "full", "10", "relu"]
    assert as_number("64-32") is None


def random_search(n: int, seed: int = 0) -> list[Job]:
    """lr has a large effect (best at 0.01), dropout a small one, units none; a tenth of the runs collapse."""
    random = np.random.default_rng(seed)
    jobs = []
    for index in range(n):
        log_lr, dropout = random.uniform(-4, -0.5), random.uniform(0, 0.5)
        accuracy = 0.98 - 0.02 * (log_lr + 2) ** 2 - 0.02 * dropout + 0.003 * random.standard_normal()
        accuracy = 0.1 if index % 10 == 0 else accuracy
        jobs.append(job(accuracy, lr=10**log_lr, dropout=dropout, units=[int(random.choice([64, 128, 256]))]))
    return jobs


def test_importance_ranks_the_settings_of_a_search() -> None:
    ranking = {setting.key: setting for setting in importances(random_search(200), VAL)}
    assert next(iter(ranking)) == "lr"
    assert ranking["lr"].fraction > 0.4
    assert ranking["lr"].p_value < 1e-4
    assert ranking["units"].fraction < 0.1
    assert ranking["units"].p_value > 0.01


@pytest.mark.integration
def test_settings_without_effect_are_rarely_significant() -> None:
    rankings = [importances(random_search(30, seed), VAL) for seed in range(100)]
    assert (
        np.mean([setting.p_value < 0.05 for ranking in rankings for setting in ranking if setting.key == "units"])
        < 0.12
    )


@pytest.mark.integration
def test_any_setting_of_a_search_without_effects_is_significant_in_one_of_twenty() -> None:
    random = np.random.default_rng(3)
    searches = [
        importances([job(random.random(), a=n % 2, b=n % 3, c=n % 5, d=n % 7) for n in range(36)], VAL)
        for _ in range(50)
    ]
    assert np.mean([any(setting.p_value < 0.05 for setting in search) for search in searches]) <= 0.1
    assert np.mean([any(setting.fraction > setting.by_chance for setting in search) for search in searches]) <= 0.1


def test_importance_of_categories_is_the_kruskal_wallis_test() -> None:
    random = np.random.default_rng(1)
    categories, numbers = random.integers(0, 3, 24).tolist(), random.random(24)
    jobs = [job(number, act="abc"[category]) for category, number in zip(categories, numbers, strict=True)]
    (importance,) = importances(jobs, VAL)
    groups = [numbers[np.array(categories) == category] for category in range(3)]
    expected = stats.kruskal(*groups)
    assert importance.p_value == pytest.approx(expected.pvalue)
    assert importance.fraction == pytest.approx(max((expected.statistic - 2) / (24 - 3), 0))
    shuffled = [random.permutation(numbers) for _ in range(400)]
    statistics = [stats.kruskal(*(order[np.array(categories) == n] for n in range(3))).statistic for order in shuffled]
    fractions = [(statistic - 2) / (24 - 3) for statistic in statistics]
    assert importance.by_chance == pytest.approx(np.quantile(fractions, 0.95), abs=0.04)


def test_few_runs_give_no_importance() -> None:
    assert importances(random_search(9), VAL) == []


def test_a_setting_with_many_numeric_values_is_a_quantity() -> None:
    assert is_quantity(random_search(10), "lr")
    assert not is_quantity(random_search(10), "units")
    assert not is_quantity([job(0.9, lr=lr) for lr in (0.1, 0.2, 0.1, 0.2, 0.3, 0.4)], "lr")


@pytest.mark.parametrize("recorded", [False, True])
def test_the_best_so_far_follows_the_order_of_starts_although_copying_changes_file_times(
    tmp_path: Path, recorded: bool
) -> None:
    for index, (name, wrong) in enumerate({"c": [1, 2], "a": [1, 2, 3], "b": [1]}.items()):
        file = write_run(tmp_path / name, wrong=wrong, optim__lr=float(index + 1)) / "result.json"
        if recorded:
            start = {"started": f"2026-01-01T00:00:0{index}.000+00:00"}
            file.write_text(json.dumps(json.loads(file.read_text()) | start))
        time = -index if recorded else index
        os.utime(file, (10 + time, 10 + time))
    steps = best_so_far(find_jobs([tmp_path]), VAL)
    assert [(step.number, step.job.folder.name) for step in steps] == [(1, "c"), (2, "a"), (3, "b")]
    assert [(step.value, step.best) for step in steps] == [(0.98, 0.98), (0.97, 0.98), (0.99, 0.99)]
    assert best_so_far([], VAL) == []
