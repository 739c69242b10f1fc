"""The comparison of two runs, on predictions with known mistakes."""

from pathlib import Path

import pytest
from made_up_runs import write_run

from mnist_mlp.compare.load import Job, load_job
from mnist_mlp.compare.statistics import mcnemar
from mnist_mlp.reporting.sections_study import mcnemar_sentence, pair_section


def job(folder: Path) -> Job:
    loaded = load_job(folder)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize(
    ("only_first", "only_second", "words"),
    [
        (0, 0, "correct on the same images"),
        (3, 2, "(3 vs 2): p = 1.0000"),
        (0, 10, "(0 vs 10): p = 0.0020; B is better"),
        (30, 0, "(30 vs 0): p < 0.0001; A is better"),
    ],
)
def test_mcnemar_is_described_in_words(only_first: int, only_second: int, words: str) -> None:
    first = [True] * only_first + [False] * only_second
    assert words in mcnemar_sentence(mcnemar(first, [not is_correct for is_correct in first]))


def test_the_section_counts_the_images_on_which_the_runs_differ(tmp_path: Path) -> None:
    shared = {"optim__momentum": 0.5}
    first = write_run(tmp_path / "a", range(10), optim__lr=0.1, trainer__progress=False, **shared)
    second = write_run(tmp_path / "b", [0, 50], optim__lr=0.2, name="b", **shared)
    section = pair_section(job(first), job(second), ["first", "second"])
    assert section is not None
    text = " ".join(section.sentences)
    assert "1 are correct only in A, 9 only in B, 89 in both and 1 in neither" in text
    assert "test accuracy 90.00 %" in text


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 broken"])
def test_runs_on_different_images_or_without_predictions_are_not_compared(tmp_path: Path, content: bytes) -> None:
    first, sample = write_run(tmp_path / "a"), write_run(tmp_path / "b", data__source="sample")
    assert pair_section(job(first), job(sample), ["first", "sample"]) is None
    second = write_run(tmp_path / "c")
    (second / "predictions.npz").write_bytes(content)
    assert pair_section(job(first), job(second), ["first", "second"]) is None
