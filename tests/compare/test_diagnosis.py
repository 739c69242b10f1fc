"""Each diagnosis on synthetic curves that are clear cases of it; one verdict per setting."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.diagnosis import Verdict, diagnose, judge, mean_curves, verdicts
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves


def diagnosis(
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
        ("diverged", "", "Learning rate too high: the loss became non-finite in epoch 2"),
    ],
)
def test_an_incomplete_run_is_diagnosed_by_its_status(status: str, reason: str, sentence: str) -> None:
    job = Job(Path(), status, {"trainer.max_epochs": 10}, reason=reason)
    assert str(diagnose(job, {"epoch": [1, 2]})).startswith(sentence)


def test_a_run_without_curves_is_reported_as_such() -> None:
    assert str(judge({})).startswith("No curves: finished, but cannot be judged: metrics.csv")
    assert judge({"epoch": [1], "train/loss": [float("nan")]}).category == "No curves"


def test_a_constant_loss_at_chance_is_diagnosed_as_chance_level() -> None:
    sentence = diagnosis([2.3026, 2.3025, 2.3027], [2.3026] * 3, [0.1, 0.11, 0.1])
    assert sentence.startswith("At chance level: accuracy stays at 10 %, loss at 2.30")
    assert "dead or saturated units" in sentence


def test_an_exploding_loss_that_ends_at_chance_means_the_learning_rate_is_too_high() -> None:
    sentence = diagnosis([51.0, 2.31, 2.30], [2.3] * 3, [0.12, 0.1, 0.1])
    assert sentence.startswith("Learning rate too high: the loss reached 51")


def test_a_falling_loss_at_chance_level_is_slow_progress() -> None:
    assert diagnosis([2.4, 2.3, 2.2], [2.4, 2.3, 2.2], [0.1, 0.12, 0.15]).startswith("Slow progress")


def test_a_fluctuating_loss_means_the_learning_rate_is_too_high() -> None:
    sentence = diagnosis([0.5, 0.8, 0.4, 0.8, 0.5], [0.5, 0.8, 0.5, 0.7, 0.6])
    assert sentence.startswith("Learning rate too high: the training loss rose in 2 of 4 epochs, once from 0.4")


def test_small_fluctuations_of_a_tiny_loss_are_ignored() -> None:
    assert diagnosis([0.5, 0.001, 0.002, 0.001, 0.002], [0.1] * 5).startswith("Converged")


def test_a_rising_validation_loss_is_overfitting() -> None:
    sentence = diagnosis([1.0, 0.5, 0.3, 0.1], [0.9, 0.6, 0.7, 0.9], [0.98] * 4, [0.8, 0.88, 0.88, 0.87])
    assert sentence.startswith("Overfitting since epoch 2: validation loss rose from 0.600 to 0.900")
    assert sentence.endswith("and validation accuracy fell from 88.0 to 87.0 %.")


def test_a_rising_validation_loss_with_stable_accuracy_is_overconfidence() -> None:
    """Curves of a default run; the lowest three-epoch moving average is that of epochs 4, 5 and 6."""
    train = [0.39, 0.11, 0.074, 0.053, 0.037, 0.028, 0.021, 0.017, 0.011, 0.008]
    val = [0.170, 0.109, 0.100, 0.093, 0.091, 0.092, 0.100, 0.109, 0.116, 0.124]
    sentence = diagnosis(train, val, [0.998] * 10, [0.95, 0.96, 0.97, 0.974, 0.975, 0.975, 0.974, 0.976, 0.975, 0.975])
    assert sentence.startswith("Overconfident: since epoch 5, validation loss rose from 0.092 to 0.116 while training")
    assert "validation accuracy, which chooses the best epoch, held at 97.5 %" in sentence  # which may be a later one


def test_a_single_run_is_allowed_more_noise_than_the_mean_of_several() -> None:
    """The last three epochs are 6 % above the lowest three: within the noise of one run, not of four."""
    curves = {
        "epoch": list(range(1, 10)),
        "train/loss": [0.4, 0.3, 0.2, 0.15, 0.12, 0.1, 0.09, 0.08, 0.07],
        "val/loss": [0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.106, 0.106, 0.106],
        "val/accuracy": [0.97] * 9,
        "train/accuracy": [0.98] * 9,
    }
    assert judge(curves, 1).category == "Converged"
    assert judge(curves, 4).category == "Overconfident"


def test_a_falling_loss_is_still_improving() -> None:
    assert diagnosis([1.0, 0.8, 0.6], [1.0, 0.8, 0.6]).startswith("Still improving: validation loss last fell by 0.200")
    slow = [2.25, 2.23, 2.21]
    assert diagnosis(slow, slow, [0.2, 0.25, 0.3], [0.2, 0.25, 0.3]).startswith("Still improving")


def test_without_validation_images_only_a_poor_fit_is_told_to_train_longer() -> None:
    """The runs of the published study have none; all but the poorest were told so, by a loss that always falls."""
    falling = [0.2 - index / 80 for index in range(10)]
    assert diagnosis(falling, (), [0.9] * 10).startswith("Still improving: training loss last fell by 0.01")
    sentence = diagnosis(falling, (), [0.977] * 10)
    assert sentence.startswith("No validation: training loss last fell by 0.01")
    assert "data.val_size" in sentence
    assert "train longer" not in sentence
    assert diagnosis(falling, falling, [0.977] * 10, [0.972] * 10).startswith("Still improving: validation loss")


def test_a_gap_wider_than_the_training_error_is_a_generalization_gap() -> None:
    flat = [0.3] * 5
    sentence = diagnosis(flat, flat, [0.99] * 5, [0.9] * 5)
    assert sentence.startswith("Generalization gap: training accuracy ends at 99.0 %")
    assert diagnosis(flat, flat, [0.93] * 5, [0.9] * 5).startswith("Converged")  # training error 7 %, gap 3 %


def test_flat_curves_without_a_gap_are_converged() -> None:
    sentence = diagnosis([0.3] * 5, [0.31] * 5, [0.92] * 5, [0.91] * 5)
    assert sentence.startswith("Converged: training accuracy ends at 92.0 %")


def test_a_lost_training_accuracy_means_the_learning_rate_is_too_high() -> None:
    sentence = diagnosis([2.1, 2.29, 2.30, 2.31], [2.3] * 4, [0.31, 0.15, 0.11, 0.11])
    assert sentence.startswith("Learning rate too high: training accuracy fell from 31 to 11 %")


def test_a_perfect_fit_is_not_told_to_train_longer() -> None:
    falling = [10 ** -(1 + index / 3) for index in range(10)]
    assert "longer" not in diagnosis(falling, (), [0.95] + [1.0] * 9)
    assert "train longer" in diagnosis(falling, (), [0.93] * 10)


def test_a_rising_validation_loss_with_a_poor_fit_names_both_causes() -> None:
    train, val = [0.6 - index / 50 for index in range(10)], [0.5] * 5 + [0.5 + index / 10 for index in range(1, 6)]
    poor = diagnosis(train, val, [0.9] * 10, [0.9] * 5 + [0.89] * 5)
    assert "overfitting" in poor
    assert "learning rate" in poor
    assert diagnosis(train, val, [0.99] * 10, [0.9] * 5 + [0.89] * 5).startswith("Overfitting")


def test_a_converged_net_far_from_fitting_its_training_images_underfits() -> None:
    flat = [1.2] * 8
    assert diagnosis(flat, flat, [0.556] * 8, [0.9] * 8).startswith("Underfitting: training accuracy ends at 55.6 %")
    assert diagnosis(flat, flat, [0.92] * 8, [0.98] * 8).startswith("Underfitting")  # strong dropout
    assert diagnosis(flat, flat, [0.92] * 8, [0.92] * 8).startswith("Converged")


def test_a_loss_that_jumps_now_and_then_before_the_images_are_fitted_names_learning_rate_and_epochs() -> None:
    """Adam at 0.03, 0.01 and 0.003 on a twentieth of MNIST: one jump in nine epochs, training accuracy below 98 %."""
    train = [1.7, 0.67, 0.51, 0.46, 0.42, 0.40, 0.35, 0.33, 0.27, 0.34]
    flat, rising = [0.6] * 10, [0.6, 0.5, 0.36, 0.4, 0.41, 0.43, 0.45, 0.46, 0.47, 0.47]
    assert diagnosis(train, flat, [0.95] * 10, [0.95] * 10).startswith("Training loss fluctuating: training accuracy")
    for sentence in (diagnosis(train, flat, [0.95] * 10), diagnosis(train, rising, [0.97] * 10)):
        assert "a lower learning rate or more epochs" in sentence
        assert "augmentation" not in sentence
    assert diagnosis(train, rising, [0.995] * 10, [0.9] * 9 + [0.8]).startswith("Overfitting")


def test_augmentation_is_advised_only_to_nets_that_fit_their_training_images() -> None:
    flat, falling = [0.3] * 10, [0.6 - index / 20 for index in range(10)]
    rising = [0.5] * 5 + [0.5 + index / 10 for index in range(1, 6)]
    advice = "More data or augmentation could narrow the gap of 9.5 points."
    assert diagnosis(flat, flat, [0.995] * 10, [0.9] * 10).endswith(advice)
    assert diagnosis(falling, rising, [0.995] * 10, [0.9] * 10).endswith(advice)  # overconfident
    assert diagnosis(falling, rising, [0.995] * 10, [0.95] * 9 + [0.9]).endswith(advice)  # overfitting
    unfitted = diagnosis(flat, flat, [0.97] * 10, [0.9] * 10)
    assert unfitted == "Generalization gap: training accuracy ends at 97.0 %, validation accuracy ends at 90.0 %."


def test_too_much_regularization_and_too_little_training_get_opposite_advice() -> None:
    flat, falling = [1.2] * 8, [2.2 - index / 10 for index in range(8)]
    assert diagnosis(flat, flat, [0.6] * 8, [0.8] * 8).endswith("less dropout, noise or augmentation could raise it.")
    assert diagnosis(flat, flat, [0.8] * 8, [0.8] * 8).endswith("more epochs or a larger network could raise it.")
    fitting = diagnosis([1 - index / 10 for index in range(8)], flat, [0.92] * 8, [0.9] * 8)
    assert fitting.startswith("Underfitting")  # training loss still falls, validation loss does not
    assert "less dropout" in diagnosis(falling, falling, [0.35] * 8, [0.5] * 8)
    assert "less dropout" not in diagnosis(falling, falling, [0.5] * 8, [0.5] * 8)
    rapid = [index / 10 for index in range(8)]  # training accuracy is a mean over the epoch and lags behind
    assert "less dropout" not in diagnosis(falling, falling, rapid, [value + 0.1 for value in rapid])


def test_a_run_at_chance_level_is_told_that_its_learning_rate_may_be_too_low() -> None:
    assert "learning rate too low" in diagnosis([2.3, 2.295, 2.29], [2.3, 2.29, 2.28], [0.08, 0.11, 0.15])
    constant = diagnosis([2.302, 2.3015, 2.301, 2.301], [2.301] * 4, [0.106, 0.1124, 0.1124, 0.1124])
    assert constant.endswith("dead or saturated units; try batch norm or fewer layers.")


def test_one_late_jump_to_a_small_loss_does_not_mean_that_the_learning_rate_is_too_high() -> None:
    """AdamW at 0.002 on a twentieth of MNIST, for which augmentation gains 3.2 points and a third of the rate 0.2."""
    train = [0.8, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.013, 0.061]
    assert "learning rate" not in diagnosis(train, [0.4] * 10, [0.985] * 10)
    assert diagnosis([10 * loss for loss in train], [4.0] * 10).startswith("Learning rate too high")


def test_one_epoch_is_too_short() -> None:
    assert diagnosis([0.3], [0.3]).startswith("One epoch only")


def test_mean_curves_end_with_the_shortest_run() -> None:
    long = {"epoch": [1, 2, 3], "val/loss": [1.0, 0.5, 0.3]}
    short = {"epoch": [1, 2], "val/loss": [3.0, float("nan")]}
    assert mean_curves([long, short]) == {"epoch": [1, 2], "val/loss": [2.0, 0.5]}


CONVERGED = ([0.5, 0.3, 0.29, 0.29], [0.5, 0.3, 0.29, 0.29])
OVERFIT = ([0.5, 0.2, 0.1, 0.05], [0.5, 0.3, 0.33, 0.38])
TOO_HIGH = ([0.5, 2.0, 0.5, 2.1], [0.5, 2.0, 0.5, 2.2])
Losses = tuple[Sequence[float], Sequence[float]]


def run(folder: Path, curves: Losses, seed: int, lr: float, wrong: Sequence[int] = (0,)) -> None:
    """A finished run with these training and validation losses and a constant validation accuracy."""
    write_run(folder, wrong=wrong, curves=False, seed=seed, optim__lr=lr)
    lines = ["epoch,train/loss,train/accuracy,val/loss,val/accuracy"]
    lines += [f"{n},{train},0.95,{val},0.94" for n, (train, val) in enumerate(zip(*curves, strict=True), 1)]
    RunFolder(folder).metrics_file.write_text("\n".join(lines) + "\n")


def verdicts_of(folder: Path) -> list[Verdict]:
    jobs = find_jobs([folder])
    return verdicts(summarize(jobs), {job.folder: read_curves(RunFolder(job.folder).metrics_file) for job in jobs})


def test_seeds_of_one_setting_share_a_verdict_from_their_mean(tmp_path: Path) -> None:
    for seed, curves in enumerate((OVERFIT, OVERFIT, CONVERGED)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    (row_verdict,) = verdicts_of(tmp_path)
    assert row_verdict.verdict.startswith("Overconfident: since epoch 2, validation loss rose from 0.300 to 0.350")
    assert row_verdict.exceptions == []


def test_a_broken_run_is_an_exception_and_excluded_from_the_mean(tmp_path: Path) -> None:
    for seed, curves in enumerate((CONVERGED, CONVERGED, TOO_HIGH)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    write_failure(tmp_path / "failed", "out of memory", seed=3, optim__lr=0.1)
    (row_verdict,) = verdicts_of(tmp_path)
    assert row_verdict.verdict.startswith("Converged")
    assert [exception.partition(",")[0] for exception in row_verdict.exceptions] == [
        "seed 2: Learning rate too high: the training loss rose in 2 of 3 epochs",
        "seed 3: Failed: out of memory.",
    ]


def test_if_most_runs_broke_the_others_are_the_exceptions(tmp_path: Path) -> None:
    for seed, curves in enumerate((TOO_HIGH, CONVERGED, TOO_HIGH)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    (row_verdict,) = verdicts_of(tmp_path)
    assert row_verdict.verdict.startswith("Learning rate too high")
    assert [exception[:12] for exception in row_verdict.exceptions] == ["seed 1: Conv"]


def test_a_fault_of_the_best_setting_mentions_that_it_is_the_best(tmp_path: Path) -> None:
    run(tmp_path / "a", OVERFIT, 0, 0.1, wrong=(0,))
    run(tmp_path / "b", CONVERGED, 0, 0.2, wrong=(0, 1, 2))
    best, other = verdicts_of(tmp_path)
    assert best.verdict.endswith("It is still the best of these settings.")
    assert "still the best" not in other.verdict
    (alone,) = verdicts_of(tmp_path / "a")
    assert "still the best" not in alone.verdict
