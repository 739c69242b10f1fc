import numpy as np
import pytest
from sklearn.metrics import classification_report as sklearn_report
from sklearn.metrics import confusion_matrix

from mnist_mlp.tables import classification_report, closing_table, number, percent


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


def test_a_diverged_run_says_so_and_shows_dashes(tmp_path) -> None:
    result = {
        "status": "diverged",
        "epochs": 1,
        "best_epoch": 1,
        "metrics": {"test/accuracy": 0.1, "test/f1_macro": 0.018, "test/loss": None},
        "timing": {"fit_seconds": 2.0, "epoch_seconds": 1.0},
        "data": {"test": 100, "source": "sample"},
    }
    text = closing_table(result, tmp_path)
    assert text.startswith("DIVERGED in epoch 1")
    assert "10.00 %" in text
    assert str(tmp_path) in text
    assert [percent(None), percent(float("nan")), number(None), number(float("nan"))] == ["-"] * 4
