"""Each sentence on made-up curves that are clear cases of it."""

from collections.abc import Sequence

import pytest

from mnist_mlp.analysis.diagnosis import diagnosis


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
    return diagnosis("finished", "", len(train), curves)


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        ("failed", "out of memory", "Failed: out of memory."),
        ("unfinished", "", "Unfinished: 2 of 10 epochs are done"),
        ("diverged", "", "Learning rate too high: the loss was no longer finite in epoch 2"),
    ],
)
def test_a_run_that_did_not_finish_says_why(status: str, reason: str, sentence: str) -> None:
    assert diagnosis(status, reason, 10, {"epoch": [1, 2]}).startswith(sentence)


def test_a_run_without_curves_is_not_judged() -> None:
    assert "cannot be judged" in diagnosis("finished", "", 10, {})
    assert "cannot be judged" in diagnosis("finished", "", 10, {"epoch": [1], "train/loss": [float("nan")]})


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
    sentence = of([1.0, 0.5, 0.3, 0.1], [0.9, 0.6, 0.7, 0.9])
    assert sentence.startswith("Over-fitting since epoch 2: validation loss rose from 0.600 to 0.900")


def test_a_loss_that_still_falls_wants_more_epochs() -> None:
    assert of([1.0, 0.8, 0.6], [1.0, 0.8, 0.6]).startswith("Still improving: validation loss last fell by 0.200")
    assert of([1.0, 0.8, 0.6]).startswith("Still improving: training loss")
    assert of([2.25, 2.23, 2.21], [2.25, 2.23, 2.21], [0.2, 0.25, 0.3], [0.2, 0.25, 0.3]).startswith("Still improving")


def test_a_wide_gap_is_over_fitting_even_where_the_loss_is_flat() -> None:
    flat = [0.3] * 5
    assert of(flat, flat, [0.99] * 5, [0.9] * 5).startswith("Over-fitting: training accuracy ends at 99.0 %")


def test_level_curves_without_a_gap_are_fine() -> None:
    assert of([0.3] * 5, [0.31] * 5, [0.92] * 5, [0.91] * 5).startswith("Fine: training accuracy ends at 92.0 %")


def test_one_epoch_is_too_short() -> None:
    assert of([0.3], [0.3]).startswith("One epoch only")
