"""One verdict per setting, on curves made by hand."""

from collections.abc import Sequence
from pathlib import Path

from made_up_runs import write_failure, write_run

from mnist_mlp.compare.collect import Verdict, find_jobs, summarize, verdicts
from mnist_mlp.runs.folder import RunFolder

FINE = ([0.5, 0.3, 0.29, 0.29], [0.5, 0.3, 0.29, 0.29])
TURNED = ([0.5, 0.2, 0.1, 0.05], [0.5, 0.3, 0.33, 0.38])
TOO_HIGH = ([0.5, 2.0, 0.5, 2.1], [0.5, 2.0, 0.5, 2.2])
Curves = tuple[Sequence[float], Sequence[float]]


def run(folder: Path, curves: Curves, seed: int, lr: float, wrong: Sequence[int] = (0,)) -> None:
    """A finished run with these losses in training and validation; its validation accuracy holds."""
    write_run(folder, wrong=wrong, curves=False, seed=seed, optim__lr=lr)
    lines = ["epoch,train/loss,train/accuracy,val/loss,val/accuracy"]
    lines += [f"{n},{one},0.95,{other},0.94" for n, (one, other) in enumerate(zip(*curves, strict=True), 1)]
    RunFolder(folder).metrics_file.write_text("\n".join(lines) + "\n")


def of(folder: Path) -> list[Verdict]:
    return verdicts(summarize(find_jobs([folder])))


def test_seeds_of_one_setting_get_one_verdict_by_their_mean(tmp_path: Path) -> None:
    for seed, curves in enumerate((TURNED, TURNED, FINE)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    (found,) = of(tmp_path)
    assert found.verdict.startswith("Over-confident since epoch 2: validation loss rose from 0.300 to 0.350")
    assert found.exceptions == []


def test_a_run_that_broke_is_an_exception_and_spoils_no_mean(tmp_path: Path) -> None:
    for seed, curves in enumerate((FINE, FINE, TOO_HIGH)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    write_failure(tmp_path / "failed", "out of memory", seed=3, optim__lr=0.1)
    (found,) = of(tmp_path)
    assert found.verdict.startswith("Fine")
    assert [one.partition(",")[0] for one in found.exceptions] == [
        "seed 2: Learning rate too high: the training loss rose in 2 of 3 epochs",
        "seed 3: Failed: out of memory.",
    ]


def test_where_most_broke_the_others_are_the_exceptions(tmp_path: Path) -> None:
    for seed, curves in enumerate((TOO_HIGH, FINE, TOO_HIGH)):
        run(tmp_path / str(seed), curves, seed, 0.1)
    (found,) = of(tmp_path)
    assert found.verdict.startswith("Learning rate too high")
    assert [one[:12] for one in found.exceptions] == ["seed 1: Fine"]


def test_the_best_setting_is_not_blamed_without_saying_that_it_is_the_best(tmp_path: Path) -> None:
    run(tmp_path / "a", TURNED, 0, 0.1, wrong=(0,))
    run(tmp_path / "b", FINE, 0, 0.2, wrong=(0, 1, 2))
    best, other = of(tmp_path)
    assert best.verdict.endswith("It is the best of these settings all the same.")
    assert "the best" not in other.verdict
    (alone,) = of(tmp_path / "a")
    assert "the best" not in alone.verdict
