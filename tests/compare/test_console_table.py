"""The comparison in a terminal: it fits, and the essential columns stay."""

import json
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run
from rich.cells import cell_len

from mnist_mlp.compare.collect import Summary, summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.tables import as_text


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    """Two settings with three seeds, one of which diverged; the only run of a third setting failed."""
    for lr, wrong in ((0.1, 3), (0.2, 20)):
        for seed in range(3):
            status = "diverged" if (lr, seed) == (0.2, 2) else "finished"
            path = tmp_path / f"{lr}_{seed}"
            write_run(path, range(wrong + seed), status, seed=seed, optim__lr=lr, model__hidden_layers=round(lr * 20))
    write_failure(tmp_path / "failed", "ValueError: " + "no such digit " * 30, optim__lr=9.0, seed=0)
    return summarize(find_jobs([tmp_path]))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_it_is_never_wider_than_the_terminal(summary: Summary, width: int) -> None:
    lines = as_text(summary, width).splitlines()
    assert max(map(cell_len, lines)) < width
    assert "".join(lines).count("no such digit") in range(15, 30)  # the reason, once and truncated


def test_80_columns_keep_settings_accuracies_verdicts_and_failures(summary: Summary) -> None:
    lines = as_text(summary, 80).splitlines()
    assert lines[0].split("  ")[0] == ""
    assert lines[0].split() == ["hidden_layers", "lr", "n", "val", "acc", "%", "test", "acc", "%", "status", "verdict"]
    assert lines[1].split() == ["*", "2", "0.1", "3", "96.00", "±", "1.00", "96.00", "±", "1.00", "best"]
    assert " ".join(lines[2].split()) == "4 0.2 3 79.00 ± 1.00 79.00 ± 1.00 1 diverged worse"
    assert lines[3].split() == ["3", "9.0", "0", "-", "-", "failed"]
    assert lines[4].startswith("hidden_layers=3, lr=9.0: ValueError: no such digit no such digit")
    note = " ".join(" ".join(lines[4:]).split())
    assert "Of 'hidden_layers=4, lr=0.2', 1 of 3 runs diverged (in the means); of " in note
    assert "Columns omitted here, but in summary.csv: parameters, loss, F1" in note


def test_a_wide_terminal_shows_all_columns(summary: Summary) -> None:
    text = as_text(summary, 400)
    assert "omitted" not in text
    for name in ("F1", "loss", "parameters", "fit s", "vs best (seeds)", "vs best (seeds, images)"):
        assert name in text.splitlines()[0]
    assert "worse" in text


def test_empty_columns_are_hidden(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        write_run(tmp_path / str(lr), optim__lr=lr)
    head = as_text(summarize(find_jobs([tmp_path])), 200).splitlines()[0]
    assert "status" not in head
    assert "verdict" not in head


def test_long_values_lose_their_middle_and_long_tables_their_end(tmp_path: Path) -> None:
    for index in range(50):
        units = [100 + index] * 30
        write_run(tmp_path / str(index), range(index), model__hidden_units=units, model__hidden_layers=30)
    lines = as_text(summarize(find_jobs([tmp_path])), 80).splitlines()
    assert max(map(cell_len, lines)) < 80
    assert "100-100" in lines[1]
    assert "…" in lines[1]
    assert lines[41] == "... and 10 more rows, in summary.csv"


def test_a_long_table_shows_the_best_settings_of_each_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.compare.tables.MAX_ROWS", 4)
    for digest in ("a", "b"):
        for wrong in range(3):
            folder = write_run(tmp_path / f"{digest}{wrong}", range(wrong), optim__lr=(wrong + 1) / 10)
            result = json.loads((folder / "result.json").read_text())
            result["data"]["digest"] = digest
            (folder / "result.json").write_text(json.dumps(result))
    lines = as_text(summarize(find_jobs([tmp_path])), 120).splitlines()
    assert [line.replace("*", "").split()[:2] for line in lines[1:5]] == [
        ["0.1", "a"], ["0.2", "a"], ["0.1", "b"], ["0.2", "b"],
    ]  # fmt: skip
    assert lines[5] == "... and 2 more rows, in summary.csv"
