"""The section on test images across all runs."""

from pathlib import Path

from made_up_runs import TRUTH, write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting.sections_digits import digits_section


def test_the_section_shows_doubtful_images_and_accuracy_without_them(tmp_path: Path, idx_root: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / "runs" / str(seed), wrong=[3, 5 + seed], seed=seed, data__root=str(idx_root))
    section = digits_section(summarize(find_jobs([tmp_path / "runs"])))
    assert section is not None
    assert section.sentences[0].startswith(
        "Of 100 test images, 4 are misclassified by at least one run, 1 by all 3 runs. For 1, at least 90"
    )
    assert section.table is not None
    assert section.table.header[2] == "test acc % without the 1 doubtful labels"
    assert list(section.table.rows[0]) == ["all", "98.00", f"{100 * 98 / 99:.2f}"]
    assert section.markup.count("<h3>") == section.markup.count("<li>") == 1
    assert "Doubtful labels: 1. True → predicted, number of runs" in section.markup
    assert f"<b>{TRUTH[3]} → {(TRUTH[3] + 1) % 10}</b><span>3 of 3</span>" in section.markup
    assert any("never used for ranking or selection" in note for note in section.notes)


def test_without_images_the_section_states_the_reason(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / str(seed), wrong=[3], seed=seed, data__root=str(tmp_path / "nowhere"))
    section = digits_section(summarize(find_jobs([tmp_path])))
    assert section is not None
    assert not section.markup
    assert section.notes[0].startswith("Images are not shown: ")
    assert digits_section(summarize(find_jobs([tmp_path / "0"]))) is None
