"""`Sweep.compare`: like for like, one family with the table, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import TRUTH, write_failure, write_run

import mnist_mlp
from mnist_mlp.compare.statistics import crossed_difference

RANDOM = np.random.default_rng(0)


def errors(count: int) -> list[int]:
    """So many of the 100 test images, at random."""
    return sorted(RANDOM.choice(100, count, replace=False).tolist())


def write_grid(folder: Path, counts: dict[tuple[float, int], int], seeds: int = 3, **settings: object) -> None:
    """One run per learning rate, width and seed, with about so many errors."""
    for (lr, units), count in counts.items():
        for seed in range(seeds):
            wrong = errors(count + seed)
            options = {
                "seed": seed,
                "optim__lr": lr,
                "model__hidden_units": [units],
                "model__hidden_layers": 1,
                **settings,
            }
            write_run(folder / f"lr{lr}_{units}_{seed}", wrong=wrong, **options)


def test_other_settings_are_matched_not_averaged_over(tmp_path: Path) -> None:
    """At both widths 0.01 is worse; it also has the only runs of a third width, which is much better."""
    write_grid(tmp_path, {(0.01, 16): 30, (0.02, 16): 20, (0.01, 256): 5})
    difference = mnist_mlp.load_sweep(tmp_path).compare({"optim.lr": 0.01}, {"optim.lr": 0.02})
    assert difference.difference == pytest.approx(-0.10)
    assert difference.n == 3
    assert difference.unmatched == tuple(f"lr0.01_256_{seed}" for seed in range(3))
    assert "lr0.01_256_0" in repr(difference)


def test_a_missing_run_takes_its_counterpart_with_it(tmp_path: Path) -> None:
    write_grid(tmp_path, {(0.01, 16): 30, (0.02, 16): 30, (0.01, 256): 5, (0.02, 256): 5})
    full = mnist_mlp.load_sweep(tmp_path).compare({"optim.lr": 0.01}, {"optim.lr": 0.02})
    (tmp_path / "lr0.01_16_1" / "result.json").unlink()
    partial = mnist_mlp.load_sweep(tmp_path).compare({"optim.lr": 0.01}, {"optim.lr": 0.02})
    assert full.difference == partial.difference == pytest.approx(0.0)
    assert partial.unmatched == ("lr0.02_16_1",)


def test_a_balanced_grid_has_the_interval_over_seeds_and_images_of_the_mean_over_the_other_settings(
    tmp_path: Path,
) -> None:
    write_grid(tmp_path, {(0.01, 16): 30, (0.02, 16): 20, (0.01, 256): 15, (0.02, 256): 12})
    sweep = mnist_mlp.load_sweep(tmp_path)
    difference = sweep.compare({"optim.lr": 0.01}, {"optim.lr": 0.02})

    def mean_correct(lr: float) -> np.ndarray:
        correct = []
        for seed in range(3):
            files = [tmp_path / f"lr{lr}_{units}_{seed}" / "predictions.npz" for units in (16, 256)]
            correct.append(np.mean([np.load(file)["prediction"] == TRUTH for file in files], axis=0))
        return np.array(correct)

    expected = crossed_difference(mean_correct(0.01), mean_correct(0.02)).images
    assert expected is not None
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))


def test_a_pair_of_the_table_has_the_p_value_and_the_verdict_of_the_table(tmp_path: Path) -> None:
    write_grid(tmp_path, {(0.01, 16): 5, (0.02, 16): 12, (0.04, 16): 20})
    sweep = mnist_mlp.load_sweep(tmp_path)
    for row in sweep.summary.rows[1:]:
        assert row.comparison is not None
        setting = {"optim.lr": row.settings["optim.lr"]}
        for pair in (({"optim.lr": 0.01}, setting), (setting, {"optim.lr": 0.01})):
            difference = sweep.compare(*pair)
            assert (difference.p_value, difference.comparisons) == (row.comparison.p_value, 3)
    others = sweep.compare({"optim.lr": 0.02}, {"optim.lr": 0.04})
    assert others.comparisons == 3
    assert "Holm-adjusted for 3" in repr(others)


def test_runs_tested_on_different_images_are_refused(tmp_path: Path) -> None:
    write_grid(tmp_path, {(0.01, 16): 5})
    write_grid(tmp_path, {(0.02, 16): 5}, data__source="sample")
    for file in tmp_path.glob("*/result.json"):
        result = json.loads(file.read_text())
        result["data"]["digest"] = result["data"]["source"]
        file.write_text(json.dumps(result))
    sweep = mnist_mlp.load_sweep(tmp_path)
    for pair in (({"optim.lr": 0.01}, {"optim.lr": 0.02}), ("lr0.01_16_0", "lr0.02_16_0")):
        with pytest.raises(mnist_mlp.UserError, match="different images"):
            sweep.compare(*pair)
    assert all(row.best and row.comparison is None for row in sweep.summary.rows)


def test_the_best_run_is_chosen_on_one_dataset(tmp_path: Path) -> None:
    for name, errors in (("mnist", (3, 9)), ("fashion_mnist", (30, 20))):
        for lr, wrong in zip((0.1, 0.2), errors, strict=True):
            folder = write_run(tmp_path / f"{name}_{lr}", range(wrong), optim__lr=lr, data__name=name)
            result = json.loads((folder / "result.json").read_text())
            result["data"] |= {"digest": name, "source": "mnist" if name == "mnist" else "files"}
            (folder / "result.json").write_text(json.dumps(result))
    sweep = mnist_mlp.load_sweep(tmp_path)
    with pytest.raises(mnist_mlp.UserError, match="fashion_mnist"):
        sweep.best()
    assert sweep.best({"data.name": "mnist"}).path.name == "mnist_0.1"
    assert sweep.best({"data.name": "fashion_mnist"}).path.name == "fashion_mnist_0.2"
    assert sweep.best({"data.name": "fashion_mnist", "optim.lr": 0.1}).path.name == "fashion_mnist_0.1"


def test_failed_and_diverged_runs_are_mentioned(tmp_path: Path) -> None:
    write_grid(tmp_path, {(0.01, 16): 5, (0.02, 16): 9})
    write_failure(
        tmp_path / "failed", "ValueError: no", seed=3, optim__lr=0.02, model__hidden_units=[16], model__hidden_layers=1
    )
    write_run(
        tmp_path / "diverged",
        errors(8),
        "diverged",
        seed=3,
        optim__lr=0.01,
        model__hidden_units=[16],
        model__hidden_layers=1,
    )
    verdict = mnist_mlp.load_sweep(tmp_path).compare({"optim.lr": 0.01}, {"optim.lr": 0.02}).verdict
    assert "optim.lr=0.01: 1 of 4 runs diverged" in verdict
    assert "optim.lr=0.02: 1 of 4 runs failed" in verdict


def test_settings_that_share_runs_are_refused(tmp_path: Path) -> None:
    write_grid(tmp_path, {(0.01, 16): 5, (0.02, 16): 5})
    with pytest.raises(mnist_mlp.UserError, match="runs in common"):
        mnist_mlp.load_sweep(tmp_path).compare({"optim.lr": 0.01}, {"model.hidden_units": [16]})


def test_the_best_run_without_validation_images_comes_with_a_warning(tmp_path: Path) -> None:
    write_grid(tmp_path, {(0.01, 16): 5, (0.02, 16): 9})
    for file in tmp_path.glob("*/result.json"):
        file.write_text(file.read_text().replace('"val/accuracy"', '"val/missing"'))
    with pytest.warns(UserWarning, match="no validation images"):
        assert mnist_mlp.load_sweep(tmp_path).best().path.name == "lr0.01_16_0"
