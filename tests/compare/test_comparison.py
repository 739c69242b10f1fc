"""Rows of a comparison of synthetic run folders: replicates, intervals, verdicts and notes."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import TRUTH, write_run

from mnist_mlp.compare.collect import Row, Summary, summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.statistics import crossed_difference, holm, power
from mnist_mlp.compare.tables import as_markdown, seeds_text, write_summary
from mnist_mlp.runs.folder import RunFolder

WORSE = ((0, 1, 2, 3, 4, 5), (0, 1, 2, 7, 8), (0, 1, 5, 6, 7, 8))
BETTER = ((0, 1), (0, 2), (1, 2))


def sweep(folder: Path, **wrong: tuple[tuple[int, ...], ...]) -> Summary:
    """Runs with lr=<name without its first letter>, one per seed, that misclassify these indices."""
    for name, seeds in wrong.items():
        for seed, indices in enumerate(seeds):
            write_run(folder / f"{name}_{seed}", wrong=indices, seed=seed, optim__lr=float(name[1:]))
    return summarize(find_jobs([folder]))


def row(summary: Summary, lr: float) -> Row:
    return next(row for row in summary.rows if row.settings["optim.lr"] == lr)


def correct(*wrong: tuple[int, ...]) -> Any:
    return np.array([~np.isin(np.arange(len(TRUTH)), indices) for indices in wrong])


def test_a_row_has_both_intervals_of_the_difference_to_the_best(tmp_path: Path) -> None:
    comparison = row(sweep(tmp_path, l1=BETTER, l2=WORSE), 2).comparison
    expected = crossed_difference(correct(*WORSE), correct(*BETTER))
    assert comparison is not None
    assert (comparison.seeds, comparison.images) == (expected.seeds, expected.images)
    assert comparison.decisive is comparison.images
    assert comparison.p_value == pytest.approx(expected.images.p_value)


def test_p_values_are_holm_adjusted_for_all_pairs(tmp_path: Path) -> None:
    summary = sweep(tmp_path, l1=BETTER, l2=WORSE, l3=((9, 10, 11), (0, 9, 12), (1, 13, 4)))
    comparisons = [row.comparison for row in summary.rows[1:] if row.comparison is not None]
    unadjusted = [pair.decisive.p_value for pair in comparisons if pair.decisive.p_value is not None]
    assert [pair.p_value for pair in comparisons] == pytest.approx(holm(unadjusted, 3))
    assert "Holm-adjusted for 3 pairs of settings" in as_markdown(summary)


def test_an_unclear_verdict_says_how_many_seeds_detect_the_observed_difference(tmp_path: Path) -> None:
    """Without predictions: the number is then for these test images."""
    sweep(tmp_path, l1=((0,), (0, 1), (0, 1, 2)), l2=((0, 1, 2), (0,), (0, 1, 2, 3)))
    for folder in tmp_path.iterdir():
        RunFolder(folder).predictions_file.unlink()
    second = row(summarize(find_jobs([tmp_path])), 2)
    assert second.comparison is not None
    assert second.comparison.outcome == "unclear"
    (needed,) = map(int, re.findall(r"\d+", second.verdict))
    difference, variance = abs(second.comparison.seeds.mean), second.comparison.variance
    powers = [power(difference, variance, 0, seeds, 1) for seeds in (needed - 1, needed)]
    assert powers[0] < 0.8 <= powers[1]


def test_a_verdict_names_images_if_no_number_of_seeds_is_enough(tmp_path: Path) -> None:
    assert "images" in row(sweep(tmp_path, l1=BETTER, l2=((3, 4, 5), (5, 6, 7), (1, 9))), 2).verdict


def test_without_predictions_the_verdict_uses_the_interval_over_seeds(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    RunFolder(tmp_path / "l2_1").predictions_file.unlink()
    summary = summarize(find_jobs([tmp_path]))
    comparison = row(summary, 2).comparison
    assert comparison is not None
    assert comparison.images is None
    assert comparison.decisive is comparison.seeds
    assert "on these test images" in as_markdown(summary)


def test_two_seeds_with_the_same_difference_are_not_significant(tmp_path: Path) -> None:
    summary = sweep(tmp_path, l1=((0,), (1,)), l2=((0, 2, 3), (1, 4, 5)))
    comparison = row(summary, 2).comparison
    assert comparison is not None
    assert comparison.seeds.low is not None
    assert comparison.seeds.high is not None
    assert comparison.seeds.high - comparison.seeds.low > 0.001
    assert comparison.outcome == "unclear"
    for folder in tmp_path.iterdir():
        RunFolder(folder).predictions_file.unlink()
    assert row(summarize(find_jobs([tmp_path])), 2).verdict == "not tested: seeds do not vary"


def test_a_renamed_copy_of_a_run_is_not_a_replicate(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    shutil.copytree(tmp_path / "l2_0", tmp_path / "zcopy")
    summary = write_summary(tmp_path)
    assert summary is not None
    assert [len(row.jobs) for row in summary.rows] == [3, 3]
    note = "zcopy has the same settings and seed as l2_0 and is counted once."
    assert note in (tmp_path / "summary.md").read_text()


def test_only_the_first_copies_are_named(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    for name in ("l1_0", "l1_1", "l1_2", "l2_0", "l2_1"):
        shutil.copytree(tmp_path / name, tmp_path / f"z{name}")
    notes = summarize(find_jobs([tmp_path])).notes
    assert len(notes) == 4
    assert notes[-1].endswith("runs.csv: 2.")


def test_a_copy_with_different_results_is_reported(tmp_path: Path) -> None:
    write_run(tmp_path / "first", wrong=(0, 1))
    write_run(tmp_path / "second", wrong=(0, 1, 2))
    summary = summarize(find_jobs([tmp_path]))
    assert [len(row.jobs) for row in summary.rows] == [1]
    assert "other code or another machine" in summary.notes[0]


def test_different_runs_of_one_seed_are_reported_and_averaged(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    result = (tmp_path / "l2_0" / "result.json").read_text()
    shutil.copytree(tmp_path / "l2_0", tmp_path / "l2_0_on_other_data")
    fingerprint = find_jobs([tmp_path / "l2_0"])[0].fingerprint
    (tmp_path / "l2_0_on_other_data" / "result.json").write_text(result.replace(fingerprint, "f" * 16))
    copied = summarize(find_jobs([tmp_path]))
    assert [len(row.jobs) for row in copied.rows] == [len(BETTER), len(WORSE)]  # the same results: a copy
    other = result.replace(fingerprint, "f" * 16).replace('"test/loss": 0.06', '"test/loss": 0.07')
    (tmp_path / "l2_0_on_other_data" / "result.json").write_text(other)
    summary = summarize(find_jobs([tmp_path]))
    comparison = row(summary, 2).comparison
    assert comparison is not None
    doubled = np.concatenate([(correct(*WORSE[:1]).astype(float) * 2) / 2, correct(*WORSE[1:])])
    assert comparison.images == crossed_difference(doubled, correct(*BETTER)).images
    assert any(note.startswith("Several runs have seed 0") for note in summary.notes)
    assert len(row(summary, 2).values["test_accuracy"]) == 3  # seeds, not runs


def test_a_copy_with_the_fingerprint_of_an_older_version_is_not_a_replicate(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    shutil.copytree(tmp_path / "l2_0", tmp_path / "zcopy")
    result = tmp_path / "zcopy" / "result.json"
    result.write_text(result.read_text().replace(find_jobs([tmp_path / "l2_0"])[0].fingerprint, "f" * 16))
    summary = summarize(find_jobs([tmp_path]))
    assert [len(row.jobs) for row in summary.rows] == [3, 3]
    assert "zcopy has the same settings and seed as l2_0 and is counted once." in summary.notes


def test_n_counts_seeds_and_shows_how_many_of_them_are_paired(tmp_path: Path) -> None:
    for seed in range(5):
        write_run(tmp_path / f"a{seed}", wrong=BETTER[seed % 3], seed=seed)
        write_run(tmp_path / f"b{seed}", wrong=WORSE[seed % 3], seed=seed + 3, optim__lr=2.0)
    summary = write_summary(tmp_path)
    assert summary is not None
    assert [seeds_text(row) for row in summary.rows] == ["5", "5 (2 paired)"]
    assert "| 5 (2 paired) |" in as_markdown(summary)
    with (tmp_path / "summary.csv").open() as file:
        assert [(line["n"], line["pairs"]) for line in csv.DictReader(file)] == [("5", ""), ("5", "2")]


def test_one_lucky_seed_of_a_setting_does_not_remove_the_verdicts_of_the_others(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE, l3=((5,),))
    summary = summarize(find_jobs([tmp_path]))
    assert [(row.settings["optim.lr"], row.best) for row in summary.rows] == [(1, True), (2, False), (3, False)]
    assert row(summary, 2).comparison.p_value is not None  # type: ignore[union-attr]
    assert "Settings with one tested seed rank last, whatever their mean." in summary.notes


def test_settings_without_a_p_value_belong_to_the_family(tmp_path: Path) -> None:
    """The third setting is always one image below the best: no variation, but it could have been selected."""
    third = tuple((*wrong, 50) for wrong in BETTER)
    summary = sweep(tmp_path, l1=BETTER, l2=WORSE, l3=third)
    for folder in tmp_path.iterdir():
        RunFolder(folder).predictions_file.unlink()
    summary = summarize(find_jobs([tmp_path]))
    without, tested = row(summary, 3).comparison, row(summary, 2).comparison
    assert without is not None
    assert tested is not None
    assert without.p_value is None
    assert tested.comparisons == 3


def test_the_table_warns_if_the_best_is_selected_on_test(tmp_path: Path) -> None:
    sweep(tmp_path, l1=BETTER, l2=WORSE)
    for folder in tmp_path.iterdir():
        file = folder / "result.json"
        file.write_text(file.read_text().replace('"val/accuracy"', '"val/missing"'))
    assert "biases its test accuracy upwards" in as_markdown(summarize(find_jobs([tmp_path])))


def test_one_common_seed_gives_no_verdict(tmp_path: Path) -> None:
    write_run(tmp_path / "a0", wrong=(1, 2), seed=0)
    write_run(tmp_path / "a1", wrong=(1, 3), seed=1)
    write_run(tmp_path / "b0", wrong=(1, 2, 3), seed=0, optim__lr=2.0)
    write_run(tmp_path / "c9", wrong=(1, 2, 3), seed=9, optim__lr=3.0)
    summary = summarize(find_jobs([tmp_path]))
    assert row(summary, 2.0).verdict == "not tested: one seed in common"
    assert row(summary, 3.0).verdict == "not tested: no seed in common on the same images"


MOST = tuple(range(90))


@pytest.mark.parametrize(
    ("worse", "verdict"),
    [
        ((MOST, (1,), (2,)), "not tested: some seeds are at chance level"),
        (((0,), tuple(range(70))), "not tested: the interval would exceed 100 points"),
        ((MOST, MOST, MOST[1:]), "worse"),
    ],
)
def test_a_mix_of_trained_and_collapsed_seeds_gets_no_interval(
    tmp_path: Path, worse: tuple[tuple[int, ...], ...], verdict: str
) -> None:
    result = row(sweep(tmp_path, l1=BETTER, l2=worse), 2)
    assert result.verdict == verdict
    assert result.comparison is not None
    assert (result.comparison.decisive.low is None) == verdict.startswith("not tested")


def test_losses_are_named_in_every_setting_of_a_few_and_counted_in_many(tmp_path: Path) -> None:
    summary = sweep(tmp_path, l1=BETTER, l2=(MOST, (1,)))
    assert summary.notes == ["Of 'lr=2.0', 1 of 2 runs at chance level (in the means)."]
    summary = sweep(tmp_path, l3=(MOST,), l4=(MOST,), l5=(MOST,))
    assert summary.notes[0] == "Of all settings, 4 of 8 runs at chance level (in the means)."


def test_seeds_that_lack_further_epochs_are_named(tmp_path: Path) -> None:
    for seed, epochs in ((0, 20), (1, 20), (2, 10)):
        write_run(tmp_path / f"{seed}", wrong=(seed,), seed=seed, trainer__max_epochs=epochs)
    (note, _) = summarize(find_jobs([tmp_path])).notes
    expected = "differ in max_epochs, so they are several settings: 20 for seed 0, 20 for seed 1, 10 for seed 2."
    assert note == f"Seeds of the setting {expected}"
    for seed in (0, 1, 2):
        write_run(tmp_path / f"full_{seed}", wrong=(seed,), seed=seed, trainer__max_epochs=30)
    assert "differ in max_epochs" not in " ".join(summarize(find_jobs([tmp_path])).notes)


def test_runs_that_did_not_record_their_data_are_not_compared_with_those_that_did(tmp_path: Path) -> None:
    """Their test labels are the same, but so are those of any distortion of the images."""
    for seed in range(2):
        for name, digest in (("a", "25c9"), ("b", None), ("c", None)):
            lr = {"a": 0.1, "b": 0.2, "c": 0.3}[name]
            write_run(tmp_path / f"{name}{seed}", range(8 + 2 * seed), seed=seed, optim__lr=lr)
            file = tmp_path / f"{name}{seed}" / "result.json"
            result = json.loads(file.read_text())
            result["data"] |= {"digest": digest} if digest else {}
            file.write_text(json.dumps(result))
    summary = summarize(find_jobs([tmp_path]))
    assert {row.settings["data.digest"] for row in summary.rows} == {"25c9", "unknown"}
    datasets = {own.settings["optim.lr"]: own.dataset for own in summary.rows}
    assert datasets == {0.1: "other data", 0.2: "unknown data", 0.3: "unknown data"}
    assert row(summary, 0.1).best
    assert row(summary, 0.1).comparison is None
    older = summarize(find_jobs([tmp_path / f"{name}{seed}" for name in "bc" for seed in range(2)]))
    assert "data.digest" not in older.keys  # among themselves, as far as recorded
    assert older.rows[1].comparison is not None
    predictions = np.load(tmp_path / "c0" / "predictions.npz")
    for folder in tmp_path.glob("c*"):
        np.savez(folder / "predictions.npz", **{**predictions, "truth": predictions["truth"][::-1]})
    assert (
        summarize(find_jobs([tmp_path / f"{name}{seed}" for name in "bc" for seed in range(2)])).rows[1].comparison
        is None
    )
