"""Files written by `report --publish`, on synthetic runs."""

import csv
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_up_runs import write_run

import mnist_mlp
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.tables import write_summary
from mnist_mlp.errors import UserError
from mnist_mlp.plots.sweep import differences
from mnist_mlp.reporting.publish import escape, publish

PACKAGE = Path(mnist_mlp.__file__).parent.resolve()
WRONG = {
    0.1: ((1, 2), (1, 3), (2, 4)),
    0.2: ((5, 6, 7), (5, 6, 8, 9), (5, 7, 8)),
    0.3: (range(30), range(32), range(34)),
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for lr, seeds in WRONG.items():
        for seed, wrong in enumerate(seeds):
            write_run(
                folder / f"lr_{lr}_{seed}", wrong=list(wrong), seed=seed, optim__lr=lr, data__root=str(folder / "data")
            )
            add_overrides(folder / f"lr_{lr}_{seed}", f'"optim.lr={lr}", "seed={seed}", "name=here", "data.root=/x"')
    return folder


@pytest.fixture(scope="module")
def published(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    publish(find_jobs([sweep]), folder)
    return folder


def add_overrides(folder: Path, overrides: str) -> None:
    file = folder / "result.json"
    file.write_text(file.read_text().replace('"overrides": []', f'"overrides": [{overrides}]'))


def test_a_publication_has_all_files(published: Path) -> None:
    names = {"learning_curves", "differences", "confusion_matrix"}
    assert {file.name for file in published.iterdir()} == {
        *("table.tex", "preview.tex", "table.md", "methods.md", "reproduce.sh"),
        *("hashes.sha256", "runs.csv"),
        *(f"{name}.{kind}" for name in names for kind in ("pdf", "svg")),
    }
    assert all((published / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)


def test_every_row_names_the_run_folders_behind_it(published: Path, sweep: Path) -> None:
    lines = (published / "table.tex").read_text().splitlines()
    row = next(n for n, line in enumerate(lines) if line.startswith("0.2 &"))
    assert [Path(line.removeprefix("% ")).name for line in lines[row - 3 : row]] == [f"lr_0.2_{n}" for n in range(3)]
    assert "96.67 $\\pm$ 0.58 & $-$" in lines[row]
    summary = summarize(find_jobs([sweep]))
    comparison = next(row for row in summary.rows if row.settings["optim.lr"] == 0.2).comparison
    assert comparison is not None
    assert comparison.detectable_difference is not None
    assert f"not distinguishable ({100 * comparison.detectable_difference:.2f})" in lines[row]


def test_runs_csv_has_every_run_with_settings_and_metrics(published: Path) -> None:
    with (published / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert [row["row"] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    assert rows[0]["optim.lr"] == "0.1"
    assert float(rows[0]["test/accuracy"]) == pytest.approx(0.98)
    assert Path(rows[0]["run"]).name == "lr_0.1_0"


def test_methods_have_the_actual_value_of_every_setting(published: Path) -> None:
    text = (published / "methods.md").read_text()
    counts = ("240 images", "60 other", "100 test images")
    settings = ("lr 0.1, 0.2 or 0.3", "momentum 0.9", "hidden_layers 3", "batch_size 64", "max_epochs 10")
    outcome = ("Seeds: 0 to 2", "Holm's method for 3 comparisons", "lr=0.1", "98.00 ± 0.00 %", "0123456789abcdef")
    assert all(words in text for words in (*counts, *settings, *outcome))
    worse = r"'lr=0.3' is worse than the best: -30.00 \[-38.84, -21.16\] points"
    assert re.search(rf"{worse} .*corrected p < 0.0001; row 3", text)
    assert re.search(
        r"'lr=0.2' is not distinguishable from the best \(detectable: [\d.]+ points\): -1.33 "
        r".*p = 0.9022",
        text,
    )
    assert "None" not in text


def test_hashes_match_the_files(published: Path, sweep: Path) -> None:
    lines = [line.split("  ") for line in (published / "hashes.sha256").read_text().splitlines() if line[0] != "#"]
    sums = {Path(path): digest for digest, path in lines}
    result = sweep / "lr_0.1_0" / "result.json"
    assert sums[result] == hashlib.sha256(result.read_bytes()).hexdigest()
    assert {path.resolve() for path in sums if path.suffix == ".py"} == {*PACKAGE.rglob("*.py")}


def test_a_full_grid_is_reproduced_by_one_sweep(published: Path) -> None:
    text = (published / "reproduce.sh").read_text()
    assert "python -m mnist_mlp.train -m optim.lr=0.1,0.2,0.3 seed=0,1,2 name=reproduced\n" in text
    assert subprocess.run(["sh", "-n", published / "reproduce.sh"], check=False).returncode == 0


def test_runs_that_are_not_a_grid_are_reproduced_individually(tmp_path: Path) -> None:
    for n, overrides in enumerate(('"optim.lr=0.5"', '"model.hidden_units=[8,4]", "seed=3"')):
        write_run(tmp_path / str(n), seed=3 * n, optim__lr=0.5 if n == 0 else 0.01)
        add_overrides(tmp_path / str(n), overrides)
    publish(find_jobs([tmp_path]), tmp_path / "paper")
    text = (tmp_path / "paper" / "reproduce.sh").read_text()
    assert "python -m mnist_mlp.train 'model.hidden_units=[8,4]' seed=3 name=reproduced_" in text
    assert "python -m mnist_mlp.report outputs/train/reproduced_1 outputs/train/reproduced_2 --publish paper" in text


def test_a_folder_with_other_files_is_refused_and_unchanged(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"--publish .* pass a new or empty folder"):
        publish(find_jobs([sweep]), tmp_path)
    with pytest.raises(UserError, match=r"--publish .* is a file"):
        publish(find_jobs([sweep]), tmp_path / "thesis.tex")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_sweep_folder_is_not_overwritten(sweep: Path) -> None:
    write_summary(sweep)
    with pytest.raises(UserError, match=r"--publish .* pass a new or empty folder"):
        publish(find_jobs([sweep]), sweep)


def test_a_single_run_can_be_published(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    publish(find_jobs([tmp_path / "run"]), tmp_path / "paper")
    assert "differences are not tested" in (tmp_path / "paper" / "methods.md").read_text()
    assert not (tmp_path / "paper" / "differences.pdf").exists()


def test_without_held_out_images_the_last_epoch_is_tested_and_no_column_is_empty(tmp_path: Path) -> None:
    for seed in range(2):
        folder = write_run(tmp_path / "runs" / str(seed), seed=seed, data__val_size=0)
        text = (folder / "result.json").read_text()
        (folder / "result.json").write_text(
            text.replace('"val/accuracy"', '"val/not_there"').replace('"val": 60', '"val": 0')
        )
    publish(find_jobs([tmp_path / "runs"]), tmp_path / "paper")
    text = (tmp_path / "paper" / "methods.md").read_text()
    assert "no validation images" in text
    assert "last epoch" in text
    assert "stratified" not in text
    assert "validation" not in (tmp_path / "paper" / "table.tex").read_text()


def test_methods_report_test_curves(tmp_path: Path) -> None:
    for name, watched in (("once", False), ("watched", True)):
        for seed in range(2):
            write_run(tmp_path / name / str(seed), seed=seed, trainer__test_curve=watched)
        publish(find_jobs([tmp_path / name]), tmp_path / f"{name}_paper")
        text = (tmp_path / f"{name}_paper" / "methods.md").read_text()
        assert ("tested once" in text, "after each epoch" in text) == (not watched, watched)


def test_hashes_use_paths_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    publish(find_jobs([tmp_path / "run"]), tmp_path / "paper")
    assert "  run/result.json\n" in (tmp_path / "paper" / "hashes.sha256").read_text()


def test_a_setting_at_chance_level_does_not_compress_the_figure_of_differences() -> None:
    figure = differences(["a", "b"], [-0.5, -85.0], [(-0.9, -0.1), (-86.0, -84.0)], [None, None], -0.5)
    (axes,) = figure.axes
    assert axes.get_xlim()[0] > -2
    assert [text.get_text() for text in axes.texts] == ["-85.0"]


def test_special_characters_are_escaped_for_latex() -> None:
    assert escape("a_b 5 % [-1.0, +2] ±") == r"a\_b 5 \% [$-$1.0, +2] $\pm$"
    assert escape("-0.5 one-two 3-4") == "$-$0.5 one-two 3-4"


@pytest.mark.latex
def test_the_table_compiles_with_plain_latex(published: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex: install Debian's texlive-latex-recommended")
    for name in ("table.tex", "preview.tex"):
        shutil.copy(published / name, tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "preview.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "preview.pdf").is_file()
