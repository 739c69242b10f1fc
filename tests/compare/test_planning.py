"""The output of `report --plan` for synthetic runs."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.statistics import power
from mnist_mlp.compare.tables import plan_lines
from mnist_mlp.errors import UserError


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two settings x four seeds: each setting has its own hard images, and further random errors."""
    random = np.random.default_rng(0)
    for lr in (1.0, 2.0):
        for seed in range(4):
            wrong = [*range(int(lr) * 5, int(lr) * 5 + 4), *random.choice(100, random.integers(3, 7), replace=False)]
            write_run(tmp_path / f"{lr}_{seed}", wrong=wrong, seed=seed, optim__lr=lr)
    return tmp_path


def test_a_plan_states_the_seeds_that_reach_the_power(sweep: Path) -> None:
    summary = summarize(find_jobs([sweep]))
    lines = list(plan_lines(summary, 20.0))
    paired = summary.rows[1].comparison
    assert paired is not None
    seeds = int(lines[1].partition(": ")[2].partition(" seeds")[0])
    assert power(0.2, paired.variance, 100, seeds, 1) >= 0.8 > power(0.2, paired.variance, 100, seeds - 1, 1)
    assert lines[2] == f"Use {seeds} seeds per setting."
    assert paired.detectable_difference is not None
    assert f"4 seeds now detect {100 * paired.detectable_difference:.2f} points" in lines[1]


def test_if_images_are_the_limit_the_plan_states_how_many_are_needed(sweep: Path) -> None:
    lines = "\n".join(plan_lines(summarize(find_jobs([sweep])), 0.1))
    assert "Images, not seeds, are the limit: with any number of seeds, 100 test images detect no less than" in lines
    assert "For these images only," in lines


@pytest.mark.parametrize("points", [0.0, -1.0, 100.0, float("nan")])
def test_a_difference_out_of_range_is_refused(sweep: Path, points: float) -> None:
    with pytest.raises(UserError, match="above 0, below 100"):
        list(plan_lines(summarize(find_jobs([sweep])), points))


def test_a_plan_needs_two_common_seeds(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, optim__lr=2.0)
    with pytest.raises(UserError, match="the same two seeds or more"):
        list(plan_lines(summarize(find_jobs([tmp_path])), 0.1))
