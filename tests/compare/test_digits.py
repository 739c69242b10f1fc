"""Test images over all runs, on synthetic predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import TRUTH, write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.digits import Votes, votes, write_digits
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.datasets import DATASETS
from mnist_mlp.runs.folder import RunFolder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Image 3 is misclassified by all, 5 only by lr=2, 7 by one of the four runs."""
    for lr, own_errors in ((1.0, []), (2.0, [5])):
        for seed in range(2):
            more = [7] if (lr, seed) == (1.0, 1) else []
            write_run(tmp_path / f"{lr:.0f}_{seed}", wrong=[3, *own_errors, *more], seed=seed, optim__lr=lr)
    return tmp_path


def count_votes(folder: Path) -> Votes:
    counted = votes(summarize(find_jobs([folder])))
    assert counted is not None
    return counted


def test_predictions_are_counted_over_all_runs(sweep: Path) -> None:
    counted = count_votes(sweep)
    assert (counted.runs, counted.left_out) == (4, 0)
    assert counted.missed_by_all.tolist() == [3]
    assert {index: int(counted.missed[index]) for index in np.flatnonzero(counted.missed)} == {3: 4, 5: 2, 7: 1}
    assert counted.most_telling.tolist() == [5, 7]
    assert np.flatnonzero(counted.doubtful).tolist() == [3]
    assert counted.majority_label[3] == (TRUTH[3] + 1) % 10


def test_images_misclassified_differently_each_time_are_not_doubtful(sweep: Path) -> None:
    file = RunFolder(sweep / "1_0").predictions_file
    with np.load(file) as original:
        arrays = dict(original)
    arrays["prediction"][3] = (TRUTH[3] + 5) % 10
    np.savez(file, **arrays)
    counted = count_votes(sweep)
    assert counted.missed_by_all.tolist() == [3]
    assert not counted.doubtful.any()


def test_the_second_accuracy_excludes_doubtful_images_only(sweep: Path) -> None:
    counted = count_votes(sweep)
    by_name = dict(zip(counted.names, counted.accuracies(), strict=True))
    assert by_name["lr=1.0"] == (pytest.approx(0.985), pytest.approx(1 - 1 / 198))
    assert by_name["lr=2.0"] == (pytest.approx(0.98), pytest.approx(98 / 99))


def test_the_table_has_a_line_for_each_misclassified_image(sweep: Path) -> None:
    (target,) = write_digits(sweep, summarize(find_jobs([sweep])))
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["3", "5", "7"]
    assert [row["doubtful"] for row in rows] == ["True", "False", "False"]
    assert [row["missed: lr=2.0"] for row in rows] == ["1.0", "1.0", "0.0"]
    assert rows[0]["label"] == str(TRUTH[3])


def test_a_sweep_of_many_settings_has_columns_for_the_best_only(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.compare.digits.MAX_COLUMNS", 1)
    (target,) = write_digits(sweep, summarize(find_jobs([sweep])))
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [name for name in rows[0] if name.startswith("missed: ")] == ["missed: lr=1.0"]
    assert [row["missed"] for row in rows] == ["4", "2", "1"]


def test_runs_without_predictions_are_excluded_and_counted(sweep: Path) -> None:
    RunFolder(sweep / "1_0").predictions_file.unlink()
    counted = count_votes(sweep)
    assert (counted.runs, counted.left_out) == (3, 1)
    RunFolder(sweep / "1_1").predictions_file.unlink()
    assert votes(summarize(find_jobs([sweep]))) is None
    assert not write_digits(sweep, summarize(find_jobs([sweep])))


def test_each_dataset_has_its_own_table_with_all_its_classes(tmp_path: Path) -> None:
    """Equal labels are no sign of equal images; label 46 is a class of EMNIST."""
    for name, wrong in (("mnist", 3), ("emnist_balanced", 5)):
        for seed in range(3):
            folder = write_run(tmp_path / f"{name}_{seed}", wrong=[wrong], seed=seed, data__name=name)
            result = json.loads((folder / "result.json").read_text())
            result["data"]["digest"] = name
            if name != "mnist":
                result["data"] |= {"source": "files", "classes": list(DATASETS[name].classes)}
                counts = np.pad(result["confusion_matrix"], (0, 37))
                result |= {"confusion_matrix": counts.tolist(), "per_class": dict.fromkeys(
                    ("precision", "recall", "f1", "support"), [0] * 47)}  # fmt: skip
                with np.load(folder / "predictions.npz") as original:
                    arrays = {**original, "prediction": np.where(np.arange(100) == wrong, 46, original["prediction"])}
                np.savez(folder / "predictions.npz", **arrays)
            (folder / "result.json").write_text(json.dumps(result))
    files = write_digits(tmp_path, summarize(find_jobs([tmp_path])))
    rows = {file.name: next(csv.DictReader(file.read_text().splitlines())) for file in files}
    assert {name: row["index"] for name, row in rows.items()} == {
        "digits_other data.csv": "3", "digits_EMNIST Balanced.csv": "5",
    }  # fmt: skip
    assert rows["digits_EMNIST Balanced.csv"]["favourite"] == "46"
