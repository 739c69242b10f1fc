import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import made_up_result, write_run
from sklearn.metrics import classification_report as sklearn_report
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import classification_report, closing_report, closing_table, decimal, percent


@pytest.mark.parametrize("absent", [None, 7])
def test_the_classification_report_equals_scikit_learns(absent: int | None) -> None:
    generator = np.random.default_rng(5)
    truth = generator.integers(0, 10, 2_000)
    predicted = np.where(generator.random(2_000) < 0.8, truth, generator.integers(0, 10, 2_000))
    if absent is not None:
        truth, predicted = (np.where(values == absent, 3, values) for values in (truth, predicted))
    matrix = confusion_matrix(truth, predicted, labels=range(10)).tolist()
    assert classification_report(matrix) == sklearn_report(truth, predicted, digits=4, zero_division=0)


def test_a_diverged_run_is_reported_and_non_finite_values_are_dashes(tmp_path: Path) -> None:
    result = RunFolder(write_run(tmp_path / "run", wrong=range(90), status="diverged")).result()
    assert result is not None
    text = closing_table(result, tmp_path)
    assert text.startswith("DIVERGED in epoch 3")
    assert "10.00 %" in text
    assert str(tmp_path) in text
    assert [percent(None), percent(float("nan")), decimal(None), decimal(float("nan"))] == ["-"] * 4


def test_the_next_steps_are_valid_shell_commands(tmp_path: Path) -> None:
    folder = tmp_path / "a run's folder"
    folder.mkdir()
    lines = RunFolder(folder).next_steps(".venv/bin/python").splitlines()
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line[16:])
        assert words[0] == ".venv/bin/python"
        assert str(folder) in words
    (folder / "report.html").write_text("a page")
    assert RunFolder(folder).next_steps("python").splitlines()[0].split(maxsplit=1) == [
        "page",
        str(folder / "report.html"),
    ]


def test_the_worst_class_has_the_lowest_f1_and_its_most_frequent_confusion() -> None:
    def worst_class_line(f1: list[float], *confusions: tuple[int, int, int]) -> str:
        matrix = np.diag([10] * 10)
        for truth, predicted, count in confusions:
            matrix[truth, predicted] = count
        result = made_up_result()
        result = replace(result, per_class={**result.per_class, "f1": f1}, confusion_matrix=matrix.tolist())
        assert result.worst_class == f1.index(min(f1))
        return next(line for line in closing_table(result, Path()).splitlines() if "worst class" in line)

    scores = [1.0] * 10
    scores[5] = 0.9567
    line = worst_class_line(scores, (5, 3, 4), (5, 8, 2), (9, 5, 30))
    assert line.endswith("5, F1 0.957, most often predicted as 3")
    assert worst_class_line(scores, (9, 5, 2), (2, 5, 3)).endswith("5, F1 0.957, most often predicted instead of 2")
    assert worst_class_line([1.0] * 10).endswith("none, all correct")


def test_the_closing_table_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = made_up_result()
    result = replace(result, timing={**result.timing, "compile_seconds": 14.2, "fit_seconds": 12345.6})
    folder = tmp_path / "outputs" / "train" / "2026-11-24_14-00-00-123456"
    steps = RunFolder(folder).next_steps(".venv/bin/python")
    lines = [*closing_table(result, folder).splitlines(), *steps.splitlines()]
    assert max(map(len, closing_table(result, folder).splitlines())) < 80
    assert sum("outputs/train" in line for line in lines) == 4
    assert not any(str(tmp_path) in line for line in lines)


@pytest.mark.parametrize(("classes", "shown"), [(3, 3), (11, 11), (12, 10), (47, 10)])
def test_the_report_after_a_run_has_at_most_15_lines_and_of_many_classes_the_worst(classes: int, shown: int) -> None:
    errors = np.random.default_rng(0).permutation(classes)
    matrix = np.diag(100 - errors)
    matrix[range(classes), (np.arange(classes) + 1) % classes] += errors
    truth, predicted = (np.repeat(index, matrix.ravel()) for index in np.indices(matrix.shape).reshape(2, -1))
    names = [f"class_{label}" for label in range(classes)]
    scores = precision_recall_fscore_support(truth, predicted)
    result = made_up_result()
    data, per_class = {**result.data, "classes": names}, {**result.per_class, "f1": list(scores[2])}
    result = replace(result, confusion_matrix=matrix.tolist(), data=data, per_class=per_class)
    lines = closing_report(result).splitlines()
    assert len(lines) <= 15
    rows = [line.split() for line in lines if line.lstrip().startswith("class_")]
    worst = sorted(range(classes), key=lambda label: scores[2][label])[:shown]
    assert {name for name, *_ in rows} == {names[label] for label in worst}
    for name, *values in rows:
        assert values == [*(f"{score[names.index(name)]:.4f}" for score in scores[:3]), "100"]
    assert [line.split()[0] for line in lines[-3:]] == ["accuracy", "macro", "weighted"]
    assert lines[-2].split()[4] == f"{scores[2].mean():.4f}"
    assert (str(classes) in lines[0]) == (shown < classes)
