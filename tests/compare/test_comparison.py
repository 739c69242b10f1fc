"""Rows of a comparison, from run folders made by hand: what counts as a repetition, and what may be claimed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import TRUTH, write_run

from mnist_mlp.compare.collect import Row, Summary, find_jobs, summarize
from mnist_mlp.compare.statistics import crossed_difference, holm
from mnist_mlp.compare.tables import as_markdown, write_summary
from mnist_mlp.runs.folder import RunFolder

WORSE = ((0, 1, 2, 3, 4, 5), (0, 1, 2, 7, 8), (0, 1, 5, 6, 7, 8))
BETTER = ((0, 1), (0, 2), (1, 2))


def sweep(folder: Path, **wrong: tuple[tuple[int, ...], ...]) -> Summary:
    """Runs lr=<name without its first letter>, one per seed, with these places wrong."""
    for name, seeds in wrong.items():
        for seed, places in enumerate(seeds):
            write_run(folder / f"{name}_{seed}", wrong=places, seed=seed, optim__lr=float(name[1:]))
    return summarize(find_jobs([folder]))


def row(summary: Summary, lr: float) -> Row:
    return next(row for row in summary.rows if row.settings["optim.lr"] == lr)


def right(*wrong: tuple[int, ...]) -> Any:
    return np.array([~np.isin(np.arange(len(TRUTH)), places) for places in wrong])


def test_a_row_has_both_intervals_of_the_difference_to_the_best(tmp_path: Path) -> None:
    found = row(sweep(tmp_path, l1=BETTER, l2=WORSE), 2).comparison
    expected = crossed_difference(right(*WORSE), right(*BETTER))
    assert found is not None
    assert (found.seeds, found.images) == (expected.seeds, expected.images)
    assert found.decisive is found.images
    assert found.p_value == pytest.approx(expected.images.p_value)


def test_claims_are_corrected_for_all_pairs(tmp_path: Path) -> None:
    summary = sweep(tmp_path, l1=BETTER, l2=WORSE, l3=((9, 10, 11), (0, 9, 12), (1, 13, 4)))
    found = [row.comparison for row in summary.rows[1:]]
    single = [one.decisive.p_value for one in found if one is not None and one.decisive.p_value is not None]
    assert [one.p_value for one in found if one is not None] == pytest.approx(holm(single, 3))
    assert "(Holm) for 3 comparisons" in as_markdown(summary)


def test_what_cannot_be_told_apart_says_what_could_have_been_seen(tmp_path: Path) -> None:
    summary = sweep(tmp_path, l1=BETTER, l2=((3, 4), (5, 6), (1, 9)))
    found = row(summary, 2)
    assert found.comparison is not None
    assert found.comparison.detectable_difference is not None
    seen = f"{100 * found.comparison.detectable_difference:.2f} points would be"
    assert found.verdict == f"not distinguishable from the best ({seen})"
    assert "resolves with power 0.8" in as_markdown(summary)


def test_without_predictions_the_verdict_is_over_seeds_alone(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    RunFolder(tmp_path / "l2_1").predictions_file.unlink()
    summary = summarize(find_jobs([tmp_path]))
    found = row(summary, 2).comparison
    assert found is not None
    assert found.images is None
    assert found.decisive is found.seeds
    assert "The verdict uses the first." in as_markdown(summary)


def test_two_seeds_with_the_same_difference_claim_nothing(tmp_path: Path) -> None:
    summary = sweep(tmp_path, l1=((0,), (1,)), l2=((0, 2, 3), (1, 4, 5)))
    found = row(summary, 2).comparison
    assert found is not None
    assert found.seeds.low is not None
    assert found.seeds.high is not None
    assert found.seeds.high - found.seeds.low > 0.001
    assert row(summary, 2).verdict.startswith("not distinguishable")
    for folder in tmp_path.iterdir():
        RunFolder(folder).predictions_file.unlink()
    assert row(summarize(find_jobs([tmp_path])), 2).verdict == "no spread at all among the seeds: no verdict"


def test_a_renamed_copy_of_a_run_is_no_repetition(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    shutil.copytree(tmp_path / "l2_0", tmp_path / "zcopy")
    summary = write_summary(tmp_path)
    assert summary is not None
    assert [len(row.jobs) for row in summary.rows] == [3, 3]
    assert (
        "zcopy has the settings and the seed of l2_0: one run, counted once." in (tmp_path / "summary.md").read_text()
    )


def test_of_many_copies_a_few_are_named(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    for name in ("l1_0", "l1_1", "l1_2", "l2_0", "l2_1"):
        shutil.copytree(tmp_path / name, tmp_path / f"z{name}")
    notes = summarize(find_jobs([tmp_path])).notes
    assert len(notes) == 4
    assert notes[-1].startswith("So it is with 2 more")


def test_a_copy_with_other_figures_is_told_as_such(tmp_path: Path) -> None:
    write_run(tmp_path / "here", wrong=(0, 1))
    write_run(tmp_path / "there", wrong=(0, 1, 2))
    summary = summarize(find_jobs([tmp_path]))
    assert [len(row.jobs) for row in summary.rows] == [1]
    assert "other code or another machine" in summary.notes[0]


def test_runs_of_one_seed_that_are_no_copies_are_told_and_averaged(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    result = (tmp_path / "l2_0" / "result.json").read_text()
    shutil.copytree(tmp_path / "l2_0", tmp_path / "l2_0_on_other_digits")
    print_of = find_jobs([tmp_path / "l2_0"])[0].fingerprint
    (tmp_path / "l2_0_on_other_digits" / "result.json").write_text(result.replace(print_of, "f" * 16))
    summary = summarize(find_jobs([tmp_path]))
    found = row(summary, 2).comparison
    assert found is not None
    assert (found.decisive.n, found.images) == (3, None)
    assert any(note.startswith("Several runs have seed 0") for note in summary.notes)


def test_where_the_best_is_chosen_on_test_the_table_says_so(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    for folder in tmp_path.iterdir():
        file = folder / "result.json"
        file.write_text(file.read_text().replace('"val/accuracy"', '"val/not_there"'))
    assert "the best is chosen on what it is judged by" in as_markdown(summarize(find_jobs([tmp_path])))


def test_one_seed_alone_gets_no_verdict(tmp_path: Path) -> None:
    write_run(tmp_path / "a0", wrong=(1, 2), seed=0)
    write_run(tmp_path / "a1", wrong=(1, 3), seed=1)
    write_run(tmp_path / "b0", wrong=(1, 2, 3), seed=0, optim__lr=2.0)
    write_run(tmp_path / "c9", wrong=(1, 2, 3), seed=9, optim__lr=3.0)
    summary = summarize(find_jobs([tmp_path]))
    assert row(summary, 2.0).verdict == "one seed in common: no verdict"
    assert row(summary, 3.0).verdict == "no seed in common with the best"
