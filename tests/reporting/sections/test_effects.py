"""Heatmaps and main effects, on synthetic runs."""

from pathlib import Path

import numpy as np
from made_up_runs import write_run

from mnist_mlp.compare.collect import find_jobs, summarize
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
    section = two_factors(context_of(tmp_path, {(0.1, 0.0): 1, (0.1, 0.5): 2, (0.2, 0.0): 3, (0.2, 0.5): 4}))
    assert section is not None
    assert section.title == "dropout and lr"
    assert section.table is not None
    assert [[str(cell) for cell in row] for row in section.table.rows] == [
        ["0.0", "99.00", "97.00"], ["0.5", "98.00", "96.00"],
    ]  # fmt: skip


def test_two_runs_and_unmatched_runs_have_no_heatmap_and_no_means(tmp_path: Path) -> None:
    assert effects(context_of(tmp_path / "two", {(0.1, 0.0): 1, (0.1, 0.5): 2})) is None
    unmatched = context_of(tmp_path / "unmatched", {(0.1, 0.0): 1, (0.2, 0.5): 2, (0.3, 0.7): 3})
    assert two_factors(unmatched) is None
    section = effects(unmatched)
    assert section is not None
    assert "No means: no two runs above chance level differ in one factor." in section.notes
