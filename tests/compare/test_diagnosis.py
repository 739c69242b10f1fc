"""Each sentence on made-up curves that are clear cases of it; one verdict per setting."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run

from mnist_mlp.compare.collect import Job, find_jobs, summarize
from mnist_mlp.compare.diagnosis import Verdict, diagnose, judge, mean_curves, verdicts
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves


def of(
    train: Sequence[float],
    val: Sequence[float] = (),
    accuracy: Sequence[float] = (),
    val_accuracy: Sequence[float] = (),
) -> str:
    curves = {
        "epoch": list(range(1, len(train) + 1)),
        "train/loss": train,
        "val/loss": val,
        "train/accuracy": accuracy or [0.9] * len(train),
        "val/accuracy": val_accuracy or ([0.9] * len(val)),
    }
    return str(judge(curves))


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        ("failed", "out of memory", "Failed: out of memory."),
        ("running", "", "Running: 2 of 10 epochs are done."),
        ("unfinished", "", "Unfinished: 2 of 10 epochs are done"),
        ("diverged", "", "Learning rate too high: the loss was no longer finite in epoch 2"),
    ],
)
def test_a_run_that_did_not_finish_says_why(status: str, reason: str, sentence: str) -> None:
    job = Job(Path(), status, {"trainer.max_epochs": 10}, reason=reason)
    assert str(diagnose(job, {"epoch": [1, 2]})).startswith(sentence)


def test_a_run_without_curves_is_not_judged() -> None:
    assert str(judge({})).startswith("Not judged: finished, but without a metrics.csv")
    assert judge({"epoch": [1], "train/loss": [float("nan")]}).kind == "Not judged"


def test_constant_loss_at_chance_is_nothing_learnt() -> None:
    sentence = of([2.3026, 2.3025, 2.3027], [2.3026] * 3, [0.1, 0.11, 0.1])
    assert sentence.startswith("Nothing learnt: accuracy stays at 10 %, loss at 2.30")
    assert "dead or saturated units" in sentence


def test_an_explosion_that_ends_at_chance_is_a_learning_rate_too_high() -> None:
    assert of([51.0, 2.31, 2.30], [2.3] * 3, [0.12, 0.1, 0.1]).startswith("Learning rate too high: the loss reached 51")


def test_slow_progress_below_chance_level_is_not_called_dead() -> None:
    assert of([2.4, 2.3, 2.2], [2.4, 2.3, 2.2], [0.1, 0.12, 0.15]).startswith("Hardly anything learnt yet")


def test_a_fluctuating_loss_is_a_learning_rate_too_high() -> None:
    sentence = of([0.5, 0.8, 0.4, 0.8, 0.5], [0.5, 0.8, 0.5, 0.7, 0.6])
    assert sentence.startswith("Learning rate too high: the training loss rose in 2 of 4 epochs, once from 0.4")


def test_ripples_on_a_tiny_loss_are_no_fluctuation() -> None:
    assert of([0.5, 0.001, 0.002, 0.001, 0.002], [0.1] * 5).startswith("Fine")


def test_a_validation_loss_that_turns_is_over_fitting() -> None:
    sentence = of([1.0, 0.5, 0.3, 0.1], [0.9, 0.6, 0.7, 0.9], [], [0.8, 0.88, 0.88, 0.87])
    assert sentence.startswith("Over-fitting since epoch 2: validation loss rose from 0.600 to 0.900")
    assert sentence.endswith("and validation accuracy fell from 88.0 to 87.0 %.")


def test_a_validation_loss_that_turns_while_accuracy_holds_is_over_confidence() -> None:
    """The curves of a default run: levels are means of three epochs, the lowest that of epochs 4, 5 and 6."""
    train = [0.39, 0.11, 0.074, 0.053, 0.037, 0.028, 0.021, 0.017, 0.011, 0.008]
    val = [0.170, 0.109, 0.100, 0.093, 0.091, 0.092, 0.100, 0.109, 0.116, 0.124]
    sentence = of(train, val, [0.998] * 10, [0.95, 0.96, 0.97, 0.974, 0.975, 0.975, 0.974, 0.976, 0.975, 0.975])
    assert sentence.startswith("Over-confident since epoch 5: validation loss rose from 0.092 to 0.116 while training")
    assert "validation accuracy held, at 97.5 %" in sentence


def test_a_single_run_wobbles_more_than_the_mean_of_several() -> None:
    """The last three epochs are 6 % above the lowest three: within the wobble of one run, not of four."""
    curves = {
        "epoch": list(range(1, 10)),
        "train/loss": [0.4, 0.3, 0.2, 0.15, 0.12, 0.1, 0.09, 0.08, 0.07],
        "val/loss": [0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.106, 0.106, 0.106],
        "val/accuracy": [0.97] * 9,
        "train/accuracy": [0.98] * 9,
    }
    assert judge(curves, 1).kind == "Fine"
    assert judge(curves, 4).kind == "Over-confident"


def test_a_loss_that_still_falls_wants_more_epochs() -> None:
    assert of([1.0, 0.8, 0.6], [1.0, 0.8, 0.6]).startswith("Still improving: validation loss last fell by 0.200")
    assert of([1.0, 0.8, 0.6]).startswith("Still improving: training loss")
    assert of([2.25, 2.23, 2.21], [2.25, 2.23, 2.21], [0.2, 0.25, 0.3], [0.2, 0.25, 0.3]).startswith("Still improving")


def test_a_gap_wider_than_the_training_error_is_told_without_blame() -> None:
    flat = [0.3] * 5
    sentence = of(flat, flat, [0.99] * 5, [0.9] * 5)
    assert sentence.startswith("Levelled off, limited by generalisation: training accuracy ends at 99.0 %")
    assert of(flat, flat, [0.93] * 5, [0.9] * 5).startswith("Fine")  # 7 % are missed in training, 3 % come on top


def test_level_curves_without_a_gap_are_fine() -> None:
    assert of([0.3] * 5, [0.31] * 5, [0.92] * 5, [0.91] * 5).startswith("Fine: training accuracy ends at 92.0 %")


def test_one_epoch_is_too_short() -> None:
    assert of([0.3], [0.3]).startswith("One epoch only")


def test_mean_curves_go_as_far_as_the_shortest_run() -> None:
    long = {"epoch": [1, 2, 3], "val/loss": [1.0, 0.5, 0.3]}
    short = {"epoch": [1, 2], "val/loss": [3.0, float("nan")]}
    assert mean_curves([long, short]) == {"epoch": [1, 2], "val/loss": [2.0, 0.5]}


FINE = ([0.5, 0.3, 0.29, 0.29], [0.5, 0.3, 0.29, 0.29])
TURNED = ([0.5, 0.2, 0.1, 0.05], [0.5, 0.3, 0.33, 0.38])
TOO_HIGH = ([0.5, 2.0, 0.5, 2.1], [0.5, 2.0, 0.5, 2.2])
Losses = tuple[Sequence[float], Sequence[float]]


def run(folder: Path, curves: Losses, seed: int, lr: float, wrong: Sequence[int] = (0,)) -> None:
    """A finished run with these losses in training and validation; its validation accuracy holds."""
    write_run(folder, wrong=wrong, curves=False, seed=seed, optim__lr=lr)
    lines = ["epoch,train/loss,train/accuracy,val/loss,val/accuracy"]
    lines += [f"{n},{one},0.95,{other},0.94" for n, (one, other) in enumerate(zip(*curves, strict=True), 1)]
    RunFolder(folder).metrics_file.write_text("\n".join(lines) + "\n")


def verdicts_of(folder: Path) -> list[Verdict]:
    jobs = find_jobs([folder])
    return verdicts(summarize(jobs), {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in jobs})


def test_seeds_of_one_setting_get_one_verdict_by_their_mean(tmp_path: Path) -> None:
    for seed, curves in enumerate((TURNED, TURNED, FINE)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    (found,) = verdicts_of(tmp_path)
    assert found.verdict.startswith("Over-confident since epoch 2: validation loss rose from 0.300 to 0.350")
    assert found.exceptions == []


def test_a_run_that_broke_is_an_exception_and_spoils_no_mean(tmp_path: Path) -> None:
    for seed, curves in enumerate((FINE, FINE, TOO_HIGH)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    write_failure(tmp_path / "failed", "out of memory", seed=3, optim__lr=0.1)
    (found,) = verdicts_of(tmp_path)
    assert found.verdict.startswith("Fine")
    assert [one.partition(",")[0] for one in found.exceptions] == [
        "seed 2: Learning rate too high: the training loss rose in 2 of 3 epochs",
        "seed 3: Failed: out of memory.",
    ]


def test_where_most_broke_the_others_are_the_exceptions(tmp_path: Path) -> None:
    for seed, curves in enumerate((TOO_HIGH, FINE, TOO_HIGH)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    (found,) = verdicts_of(tmp_path)
    assert found.verdict.startswith("Learning rate too high")
    assert [one[:12] for one in found.exceptions] == ["seed 1: Fine"]


def test_the_best_setting_is_not_blamed_without_saying_that_it_is_the_best(tmp_path: Path) -> None:
    run(tmp_path / "a", TURNED, 0, 0.1, wrong=(0,))
    run(tmp_path / "b", FINE, 0, 0.2, wrong=(0, 1, 2))
    best, other = verdicts_of(tmp_path)
    assert best.verdict.endswith("It is the best of these settings all the same.")
    assert "the best" not in other.verdict
    (alone,) = verdicts_of(tmp_path / "a")
    assert "the best" not in alone.verdict
