"""runs.csv, and the names of runs."""

import csv
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import display_names, row_label, summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.tables import as_text, runs_csv, write_summary


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", wrong=[1, 2], seed=seed, optim__lr=0.1234567)
        write_run(tmp_path / f"b{seed}", wrong=[1], seed=seed, optim__lr=0.01)
    write_failure(tmp_path / "c", "no memory", seed=0, optim__lr=0.02)
    write_unfinished(tmp_path / "d", seed=0, optim__lr=0.03)
    return tmp_path


def test_every_run_has_a_row_with_its_settings_and_metrics(sweep: Path) -> None:
    write_summary(sweep)
    rows = list(csv.DictReader((sweep / "runs.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == ["b0", "b1", "a0", "a1", "c", "d"]
    assert [row["row"] for row in rows[:4]] == ["1", "1", "2", "2"]
    assert [row["best_row"] for row in rows[:3]] == ["True", "True", "False"]
    assert [row["test/accuracy"] for row in rows] == ["0.99", "0.99", "0.98", "0.98", "", ""]
    assert rows[2]["optim.lr"] == "0.1234567"
    assert (rows[4]["status"], rows[4]["reason"]) == ("failed", "no memory")
    assert (rows[5]["status"], rows[5]["seed"]) == ("unfinished", "0")
    assert rows[0]["trainer.max_epochs"] == "10"
    header = (sweep / "runs.csv").read_text().partition("\n")[0].split(",")
    assert len(header) == len(set(header))
    assert list(rows[0])[7:9] == ["optim.lr", "seed"]


def test_a_run_outside_the_sweep_has_its_full_path(sweep: Path) -> None:
    summary = summarize(find_jobs([sweep]))
    assert {row["run"] for row in csv.DictReader(runs_csv(summary, sweep / "other").splitlines())} == {
        str(sweep / name) for name in ("a0", "a1", "b0", "b1", "c", "d")
    }


def test_runs_are_named_by_what_varies(sweep: Path) -> None:
    names = display_names(summarize(find_jobs([sweep])))
    assert {folder.name: name for folder, name in names.items()} == {
        "a0": "lr=0.123, seed 0", "a1": "lr=0.123, seed 1", "b0": "lr=0.01, seed 0", "b1": "lr=0.01, seed 1",
        "c": "lr=0.02, seed 0", "d": "lr=0.03, seed 0",
    }  # fmt: skip


def test_runs_with_identical_settings_are_named_by_their_folder(sweep: Path) -> None:
    assert list(display_names(summarize(find_jobs([sweep / "a0"]))).values()) == ["a0"]
    result = sweep / "b1" / "result.json"
    result.write_text(result.read_text().replace('"seed": 1', '"seed": 0').replace('"test/loss": 0', '"test/loss": 1'))
    names = display_names(summarize(find_jobs([sweep])))
    assert names[sweep / "b1"] == "lr=0.01, seed 0 (b1)"


def test_runs_named_by_the_user_keep_their_names(tmp_path: Path) -> None:
    for name, lr in (("careful", 0.01), ("bold", 0.5)):
        write_run(tmp_path / name, name=name, optim__lr=lr)
    summary = summarize(find_jobs([tmp_path]))
    assert {row_label(summary, row): row.settings for row in summary.rows} == {
        "careful": {"optim.lr": 0.01}, "bold": {"optim.lr": 0.5},
    }  # fmt: skip
    assert {folder.name: name for folder, name in display_names(summary).items()} == {n: n for n in ("careful", "bold")}
    assert {tuple(line.strip(" *").split()[:2]) for line in as_text(summary, 100).splitlines()[:3]} == {
        ("run", "lr"), ("careful", "0.01"), ("bold", "0.5"),
    }  # fmt: skip
    write_run(tmp_path / "lr-0.2", name="a_sweep", optim__lr=0.2)  # its folder does not have the name
    summary = summarize(find_jobs([tmp_path]))
    assert {row_label(summary, row) for row in summary.rows} == {"lr=0.01", "lr=0.5", "lr=0.2"}


def test_trials_of_a_search_are_named_by_their_number(tmp_path: Path) -> None:
    for lr in (0.1, 0.2, 0.3):
        write_run(tmp_path / f"lr-{lr}", optim__lr=lr)
    (tmp_path / "trials.json").write_text('{"lr-0.1": 7, "lr-0.2": 0, "lr-0.3": 12}')
    summary = summarize(find_jobs([tmp_path]))
    names = {f"lr-{lr}": name for lr, name in ((0.1, "#7"), (0.2, "#0"), (0.3, "#12"))}
    assert {folder.name: name for folder, name in display_names(summary).items()} == names
    assert {row_label(summary, row) for row in summary.rows} == set(names.values())
    assert as_text(summary, 100).splitlines()[0].split()[:2] == ["trial", "lr"]
    (tmp_path / "trials.json").write_text("broken")
    assert "lr=0.1" in display_names(summarize(find_jobs([tmp_path]))).values()
