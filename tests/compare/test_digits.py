"""Test digits over all runs, on predictions made by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import TRUTH, write_run

from mnist_mlp.compare.collect import find_jobs, summarize
from mnist_mlp.compare.digits import Votes, votes, write_digits
from mnist_mlp.runs.folder import RunFolder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Place 3 is missed by all, 5 by lr=2 alone, 7 by one run in four."""
    for lr, own in ((1.0, []), (2.0, [5])):
        for seed in range(2):
            more = [7] if (lr, seed) == (1.0, 1) else []
            write_run(tmp_path / f"{lr:.0f}_{seed}", wrong=[3, *own, *more], seed=seed, optim__lr=lr)
    return tmp_path


def found_in(folder: Path) -> Votes:
    found = votes(summarize(find_jobs([folder])))
    assert found is not None
    return found


def test_every_digit_is_counted_over_all_runs(sweep: Path) -> None:
    found = found_in(sweep)
    assert (found.runs, found.left_out) == (4, 0)
    assert found.missed_by_all.tolist() == [3]
    assert {place: int(found.missed[place]) for place in np.flatnonzero(found.missed)} == {3: 4, 5: 2, 7: 1}
    assert found.most_telling.tolist() == [5, 7]
    assert np.flatnonzero(found.doubtful).tolist() == [3]
    assert found.favourite[3] == (TRUTH[3] + 1) % 10


def test_digits_missed_each_time_as_something_else_are_not_doubtful(sweep: Path) -> None:
    file = RunFolder(sweep / "1_0").predictions_file
    with np.load(file) as old:
        arrays = dict(old)
    arrays["prediction"][3] = (TRUTH[3] + 5) % 10
    np.savez(file, **arrays)
    found = found_in(sweep)
    assert found.missed_by_all.tolist() == [3]
    assert not found.doubtful.any()


def test_the_second_accuracy_leaves_out_doubtful_digits_alone(sweep: Path) -> None:
    found = found_in(sweep)
    by_name = dict(zip(found.names, found.accuracies(), strict=True))
    assert by_name["lr=1.0"] == (pytest.approx(0.985), pytest.approx(1 - 1 / 198))
    assert by_name["lr=2.0"] == (pytest.approx(0.98), pytest.approx(98 / 99))


def test_the_table_has_a_line_for_each_digit_that_is_missed(sweep: Path) -> None:
    target = write_digits(sweep, summarize(find_jobs([sweep])))
    assert target is not None
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["3", "5", "7"]
    assert [row["doubtful"] for row in rows] == ["True", "False", "False"]
    assert [row["missed: lr=2.0"] for row in rows] == ["1.0", "1.0", "0.0"]
    assert rows[0]["label"] == str(TRUTH[3])


def test_a_sweep_of_many_settings_has_columns_for_the_best_alone(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.compare.digits.MAX_COLUMNS", 1)
    target = write_digits(sweep, summarize(find_jobs([sweep])))
    assert target is not None
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [name for name in rows[0] if name.startswith("missed: ")] == ["missed: lr=1.0"]
    assert [row["missed"] for row in rows] == ["4", "2", "1"]


def test_runs_without_predictions_are_left_out_and_told(sweep: Path) -> None:
    RunFolder(sweep / "1_0").predictions_file.unlink()
    found = found_in(sweep)
    assert (found.runs, found.left_out) == (3, 1)
    RunFolder(sweep / "1_1").predictions_file.unlink()
    assert votes(summarize(find_jobs([sweep]))) is None
    assert write_digits(sweep, summarize(find_jobs([sweep]))) is None
