"""Tables coloured by their numbers, and what each setting does, on runs made by hand."""

from pathlib import Path

import numpy as np
from made_up_runs import write_run

from mnist_mlp.compare.collect import find_jobs, summarize
from mnist_mlp.reporting.data import Compared
from mnist_mlp.reporting.elements import Cell
from mnist_mlp.reporting.sections_charts import effects, heatmap, two_factors


def test_one_collapsed_cell_does_not_flatten_the_colours_of_the_others() -> None:
    cells = np.array([[0.97, 0.98], [0.99, 0.098], [0.985, np.nan]])
    table = heatmap(cells, ["a", "b", "c"], ["x", "y"], ("row", "column"))
    heats = [cell.heat for row in table.rows for cell in row if isinstance(cell, Cell)]
    assert heats == [0.0, 0.5, 1.0, 0.0, 0.75]
    assert table.rows[2][2] == ""
    assert table.header == ["row", "column=x", "column=y"]


def compared(tmp_path: Path, wrong: dict[tuple[float, float], int]) -> Compared:
    for (lr, dropout), mistakes in wrong.items():
        write_run(tmp_path / f"{lr}_{dropout}", range(mistakes), optim__lr=lr, model__dropout=dropout)
    return Compared(summarize(find_jobs([tmp_path])))


def test_a_grid_of_two_factors_is_a_table_of_their_means(tmp_path: Path) -> None:
    found = two_factors(compared(tmp_path, {(0.1, 0.0): 1, (0.1, 0.5): 2, (0.2, 0.0): 3, (0.2, 0.5): 4}))
    assert found is not None
    assert found.title == "dropout and lr"
    assert found.table is not None
    assert [[str(cell) for cell in row] for row in found.table.rows] == [
        ["0.0", "99.00", "97.00"], ["0.5", "98.00", "96.00"],
    ]  # fmt: skip


def test_two_runs_and_unconnected_ones_have_no_grid_and_no_means(tmp_path: Path) -> None:
    assert effects(compared(tmp_path / "two", {(0.1, 0.0): 1, (0.1, 0.5): 2})) is None
    apart = compared(tmp_path / "apart", {(0.1, 0.0): 1, (0.2, 0.5): 2, (0.3, 0.7): 3})
    assert two_factors(apart) is None
    section = effects(apart)
    assert section is not None
    assert "No two runs differ in one factor alone, so no means are shown." in section.notes
