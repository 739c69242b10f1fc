import shlex
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import write_run
from sklearn.metrics import classification_report as sklearn_report
from sklearn.metrics import confusion_matrix

from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.tables import classification_report, closing_table, decimal, next_steps, percent


@pytest.mark.parametrize("absent", [None, 7])
def test_the_report_is_scikit_learns_to_the_letter(absent: int | None) -> None:
    generator = np.random.default_rng(5)
    truth = generator.integers(0, 10, 2_000)
    predicted = np.where(generator.random(2_000) < 0.8, truth, generator.integers(0, 10, 2_000))
    if absent is not None:
        truth, predicted = (np.where(values == absent, 3, values) for values in (truth, predicted))
    matrix = confusion_matrix(truth, predicted, labels=range(10)).tolist()
    expected = sklearn_report(truth, predicted, labels=range(10), digits=4, zero_division=0)
    if absent is not None:  # with labels given and one of them absent scikit-learn says "micro avg" of the same value
        expected = expected.replace(expected.splitlines()[13], classification_report(matrix).splitlines()[13])
    assert classification_report(matrix) == expected


def test_a_diverged_run_says_so_and_shows_dashes(tmp_path: Path) -> None:
    result = RunFolder(write_run(tmp_path / "run", wrong=range(90), status="diverged")).result()
    assert result is not None
    text = closing_table(result, tmp_path)
    assert text.startswith("DIVERGED in epoch 3")
    assert "10.00 %" in text
    assert str(tmp_path) in text
    assert [percent(None), percent(float("nan")), decimal(None), decimal(float("nan"))] == ["-"] * 4


def test_the_next_steps_are_commands_that_a_shell_takes_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "a run's folder"
    lines = next_steps(folder, ".venv/bin/python").splitlines()
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line[16:])
        assert words[0] == ".venv/bin/python"
        assert str(folder) in words
