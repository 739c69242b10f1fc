"""Heatmaps and main effects, on synthetic runs."""

import json
from pathlib import Path

import numpy as np
from made_up_runs import write_failure, write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting.data import PageContext
from mnist_mlp.reporting.elements import Cell
from mnist_mlp.reporting.sections_charts import effects, heatmap, two_factors


def test_one_cell_at_chance_level_does_not_compress_the_color_range() -> None:
    cells = np.array([[0.97, 0.98], [0.99, 0.098], [0.985, np.nan]])
    table = heatmap(cells, ["a", "b", "c"], ["x", "y"], ("row", "column"))
    heats = [cell.heat for row in table.rows for cell in row if isinstance(cell, Cell)]
    assert heats == [0.0, 0.5, 1.0, 0.0, 0.75]
    assert table.rows[2][2] == ""
    assert table.header == ["row", "column=x", "column=y"]


def context_of(tmp_path: Path, wrong: dict[tuple[float, float], int]) -> PageContext:
    for (lr, dropout), mistakes in wrong.items():
        write_run(tmp_path / f"{lr}_{dropout}", range(mistakes), optim__lr=lr, model__dropout=dropout)
    return PageContext(summarize(find_jobs([tmp_path])))


def test_two_factors_make_a_heatmap_of_means(tmp_path: Path) -> None:
    (section,) = two_factors(context_of(tmp_path, {(0.1, 0.0): 1, (0.1, 0.5): 2, (0.2, 0.0): 3, (0.2, 0.5): 4}))
    assert section.title == "Validation accuracy by dropout and lr"
    assert section.table is not None
    assert [[str(cell) for cell in row] for row in section.table.rows] == [
        ["0.0", "99.00", "97.00"], ["0.5", "98.00", "96.00"],
    ]  # fmt: skip


def test_two_runs_and_unmatched_runs_have_no_heatmap_and_no_means(tmp_path: Path) -> None:
    assert effects(context_of(tmp_path / "two", {(0.1, 0.0): 1, (0.1, 0.5): 2})) is None
    unmatched = context_of(tmp_path / "unmatched", {(0.1, 0.0): 1, (0.2, 0.5): 2, (0.3, 0.7): 3})
    assert list(two_factors(unmatched)) == []
    section = effects(unmatched)
    assert section is not None
    assert "No means: no two runs differ in only one factor." in section.notes


def test_a_heatmap_says_how_many_runs_are_in_no_mean(tmp_path: Path) -> None:
    context_of(tmp_path, {(0.1, 0.0): 1, (0.1, 0.5): 2, (0.2, 0.0): 3, (0.2, 0.5): 4})
    write_failure(tmp_path / "failed", "ValueError: no", optim__lr=0.2, model__dropout=0.5, seed=1)
    (section,) = two_factors(PageContext(summarize(find_jobs([tmp_path]))))
    assert "mean over seeds, over the 4 of 5 runs with a result" in section.notes[0]


def test_runs_that_collapsed_or_failed_are_listed_with_the_means(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", range(3), seed=seed, optim__lr=0.1)
        write_run(tmp_path / f"b{seed}", range(90 if seed else 2), seed=seed, optim__lr=0.2)
    write_failure(tmp_path / "b3", "ValueError: no", seed=3, optim__lr=0.2)
    section = effects(PageContext(summarize(find_jobs([tmp_path]))))
    assert section is not None
    assert any("lr=0.2 2 of 4 at chance level, lr=0.2 1 of 4 without a result" in note for note in section.notes)


def test_means_are_within_one_data_set(tmp_path: Path) -> None:
    for digest, errors in (("a", 2), ("b", 40)):
        context_of(tmp_path / digest, {(0.1, 0.0): errors, (0.1, 0.5): errors + 2, (0.2, 0.0): errors + 4})
        for file in (tmp_path / digest).rglob("result.json"):
            result = json.loads(file.read_text())
            result["data"]["digest"] = digest
            file.write_text(json.dumps(result))
    context = PageContext(summarize(find_jobs([tmp_path])))
    section = effects(context)
    assert section is not None
    panels = ("lr on other data, digest a", "lr on other data, digest b", '"key":"data.digest"')
    assert [name in str(section.markup) for name in panels] == [1, 1, 0]
    heatmaps = list(two_factors(context))
    assert [heatmap.title for heatmap in heatmaps] == [
        "Validation accuracy by dropout and lr on other data, digest a",
        "Validation accuracy by dropout and lr on other data, digest b",
    ]
    assert [str(heatmap.table.rows[0][1]) for heatmap in heatmaps if heatmap.table] == ["98.00", "60.00"]
