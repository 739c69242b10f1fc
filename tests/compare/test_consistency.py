"""Effects of factors against independent computations, and whether they hold on several datasets."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import write_failure, write_run
from scipy import stats

from mnist_mlp.compare.__main__ import read_sides
from mnist_mlp.compare.collect import Summary, summarize
from mnist_mlp.compare.consistency import Choice, choices
from mnist_mlp.compare.difference import compare_sides
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.statistics import Interval, PairedComparison, Variance
from mnist_mlp.datasets import DATASETS
from mnist_mlp.runs.folder import RunFolder

TITLES = ("MNIST", "Fashion-MNIST", "KMNIST")


def difference(mean: float, error: float | None = 1.0, n: int = 200) -> PairedComparison:
    return PairedComparison(Interval(mean, error, n - 1, n), None, Variance(0.0, 0.0, 0.0))


def verdict(*differences: PairedComparison | None) -> str:
    return Choice("optim.lr", "a", "b", "lr", dict(zip(TITLES, differences, strict=False))).verdict


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ((5, 4), "holds on both: a is better"),
        ((-5, -4), "holds on both: b is better"),
        ((5, 4, 3), "holds on all 3: a is better"),
        ((6, 0.5), "only on MNIST: a is better"),
        ((6, -1.9), "only on MNIST: a is better"),
        ((-0.5, -6), "only on Fashion-MNIST: b is better"),
        ((6, 0.5, 7), "only on MNIST and KMNIST: a is better"),
        ((5, -4), "opposite: a is better on MNIST, b on Fashion-MNIST"),
        ((5, -4, 0), "opposite: a is better on MNIST, b on Fashion-MNIST, unclear on KMNIST"),
        ((1.5, 1.5), "unclear"),
        ((3, 1.5), "a is better on MNIST, unclear on Fashion-MNIST"),  # the intervals overlap
        ((6, 0, 5), "only on MNIST and KMNIST: a is better"),
        ((4.5, 0.3, 1.9), "a is better on MNIST, not on Fashion-MNIST, unclear on KMNIST"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_significance_and_disjoint_intervals(means: tuple[float, ...], expected: str) -> None:
    assert verdict(*map(difference, means)) == expected


def test_without_an_interval_on_a_dataset_nothing_is_claimed_there() -> None:
    for other in (difference(0.0, None), None):
        assert verdict(difference(9), other) == "a is better on MNIST, unclear on Fashion-MNIST"
    assert verdict(None, difference(9, None)) == "unclear"


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("effects", [(0, 0), (1, 1), (2, 2), (4, 4), (0, 2), (0, 4)])
def test_false_verdicts_are_rare(effects: tuple[float, float], seeds: int) -> None:
    """Effects in standard deviations over seeds; each false claim may occur in at most 5 % of the sweeps."""
    counts, random, sweeps = Counter[str](), np.random.default_rng(7), 1000
    for _ in range(sweeps):
        samples = [effect + random.standard_normal(seeds) for effect in effects]
        pairs = [difference(x.mean(), x.std(ddof=1) / np.sqrt(seeds), seeds) for x in samples]
        counts[verdict(*pairs).partition(":")[0]] += 1
    equal = effects[0] == effects[1]
    false = ["opposite", *(["only on MNIST", "only on Fashion-MNIST"] if equal else ["only on MNIST"])]
    false += ["holds on both"] if 0 in effects else []
    assert sum(counts[claim] for claim in false) <= 0.065 * sweeps  # 5 % and two standard errors


def write(folder: Path, name: str, errors: dict[tuple[str, float], int], seeds: int = 3) -> None:
    """Runs on a dataset with these errors by normalization and learning rate, one more for each seed."""
    for (normalization, lr), wrong in errors.items():
        for seed in range(seeds):
            options = {"seed": seed, "data__name": name, "data__normalization": normalization, "optim__lr": lr}
            run = write_run(folder / f"{name}_{normalization}_{lr}_{seed}", range(wrong + seed), **options)
            result = json.loads((run / "result.json").read_text())
            source = "mnist" if name == "mnist" else "files"
            result["data"] |= {"source": source, "digest": DATASETS[name].digest}
            (run / "result.json").write_text(json.dumps(result))


def compared(folder: Path) -> tuple[Summary, list[Choice]]:
    summary = summarize(find_jobs([folder]))
    return summary, choices(summary)


def test_settings_are_ranked_and_adjusted_within_each_dataset(tmp_path: Path) -> None:
    write(tmp_path, "fashion_mnist", {("standard", 0.1): 30, ("raw", 0.1): 20, ("raw", 0.2): 40})
    write(tmp_path, "mnist", {("standard", 0.1): 2, ("raw", 0.1): 9})
    summary, _ = compared(tmp_path)
    assert summary.keys == ["data.name", "data.normalization", "optim.lr"]  # neither digest nor source
    rows = [(row.dataset, row.settings["data.normalization"], row.best) for row in summary.rows]
    assert rows[:3] == [("MNIST", "standard", True), ("MNIST", "raw", False), ("Fashion-MNIST", "raw", True)]
    families = {row.dataset: row.comparison.comparisons for row in summary.rows if row.comparison}
    assert families == {"MNIST": 1, "Fashion-MNIST": 3}
    (mnist, fashion) = summary.by_dataset.values()
    assert (len(mnist.jobs), len(fashion.jobs)) == (6, 9)


def test_a_choice_is_compared_on_each_dataset_over_settings_that_each_has(tmp_path: Path) -> None:
    """At lr 0.2 raw has no result on Fashion-MNIST, so its 50 errors on MNIST do not count."""
    write(tmp_path, "mnist", {("standard", 0.1): 2, ("raw", 0.1): 9, ("standard", 0.2): 4, ("raw", 0.2): 50})
    write(tmp_path, "fashion_mnist", {("standard", 0.1): 20, ("raw", 0.1): 32, ("standard", 0.2): 21})
    options = {"data__name": "fashion_mnist", "data__normalization": "raw", "optim__lr": 0.2, "data__source": "auto"}
    write_failure(tmp_path / "failed", "MemoryError", seed=0, **options)
    summary, (normalization, lr) = compared(tmp_path)
    assert {row.dataset for row in summary.rows} == {"MNIST", "Fashion-MNIST"}
    assert (normalization.key, normalization.first, normalization.second) == ("data.normalization", "standard", "raw")
    means = {title: pair and round(pair.decisive.mean, 4) for title, pair in normalization.differences.items()}
    assert means == {"MNIST": 0.07, "Fashion-MNIST": 0.12}
    assert [pair and pair.comparisons for pair in normalization.differences.values()] == [2, 2]  # a pair per factor
    assert lr.key == "optim.lr"


def test_the_dataset_is_not_a_choice_and_unknown_data_are_not_another_dataset(tmp_path: Path) -> None:
    write(tmp_path, "mnist", {("standard", 0.1): 2, ("raw", 0.1): 9})
    assert compared(tmp_path)[1] == []
    for file in tmp_path.glob("*_2/result.json"):
        result = json.loads(file.read_text())
        del result["data"]["digest"]
        file.write_text(json.dumps(result))
    assert compared(tmp_path)[1] == []
    write(tmp_path, "fashion_mnist", {("standard", 0.1): 20})
    assert compared(tmp_path)[1] == []


INPUTS = [(normalization, subset) for normalization in ("standard", "raw") for subset in ("full", "half")]
ERRORS = {("standard", "full"): 5, ("raw", "full"): 16, ("standard", "half"): 9, ("raw", "half"): 21}


def write_grid(folder: Path, errors: dict[tuple[str, str], int], seeds: int = 4) -> dict[tuple[str, str], np.ndarray]:
    """Runs with about so many errors on random images; returns whether they are correct, (seeds, images)."""
    random, correct = np.random.default_rng(3), {}
    for normalization, subset in INPUTS:
        wrong = random.random((seeds, 100)) < errors[normalization, subset] / 100
        correct[normalization, subset] = ~wrong
        for seed in range(seeds):
            options = {"data__normalization": normalization, "data__subset": subset, "seed": seed}
            write_run(folder / f"{normalization}_{subset}_{seed}", np.flatnonzero(wrong[seed]).tolist(), **options)
    return correct


def crossed(gaps: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over seeds and images of gaps (seeds, images), from the sums of squares of the ANOVA."""
    (seeds, images), mean = gaps.shape, gaps.mean()
    row, column = gaps.mean(1, keepdims=True) - mean, gaps.mean(0, keepdims=True) - mean
    of_seeds = images * (row**2).sum() / (seeds - 1)
    of_images = seeds * (column**2).sum() / (images - 1)
    residual = ((gaps - mean - row - column) ** 2).sum() / ((seeds - 1) * (images - 1))
    of_seeds = max(of_seeds, residual * stats.chi2.ppf(0.38, seeds - 1) / (seeds - 1))
    return mean, np.sqrt((of_seeds + max(of_images - residual, 0)) / gaps.size)


def test_an_effect_averages_matched_pairs_and_has_a_family_of_its_own(tmp_path: Path) -> None:
    """Two factors of two values: two comparisons, not the six of the table."""
    correct = write_grid(tmp_path, ERRORS)
    means = {cell: own.astype(float) for cell, own in correct.items()}
    gaps = {
        "standard instead of raw": sum(means["standard", s] - means["raw", s] for s in ("full", "half")) / 2,
        "full instead of half": sum(means[n, "full"] - means[n, "half"] for n in ("standard", "raw")) / 2,
    }
    for folder in tmp_path.iterdir():
        RunFolder(folder).predictions_file.unlink()
    effects = {choice.label: choice.differences[""] for choice in compared(tmp_path)[1]}
    assert effects.keys() == gaps.keys()
    p_values = {label: stats.ttest_1samp(own.mean(1), 0).pvalue for label, own in gaps.items()}
    for label, effect in effects.items():
        assert effect is not None
        interval = stats.ttest_1samp(gaps[label].mean(1), 0).confidence_interval()
        assert (effect.decisive.low, effect.decisive.high) == pytest.approx(tuple(interval))
        assert (effect.decisive.p_value, effect.comparisons) == (pytest.approx(p_values[label]), 2)
    adjusted = [effects[label].p_value for label in sorted(p_values, key=p_values.__getitem__)]  # type: ignore[union-attr]
    smallest = min(p_values.values())
    assert adjusted == pytest.approx([2 * smallest, max(2 * smallest, *p_values.values())])


def test_an_effect_over_seeds_and_images_has_the_crossed_standard_error(tmp_path: Path) -> None:
    correct = {cell: own.astype(float) for cell, own in write_grid(tmp_path, ERRORS).items()}
    gaps = sum(correct["standard", s] - correct["raw", s] for s in ("full", "half")) / 2
    (normalization, _) = compared(tmp_path)[1]
    effect = normalization.differences[""]
    assert effect is not None
    assert (effect.decisive.mean, effect.decisive.error) == pytest.approx(crossed(gaps))
    assert effect.outcome == normalization.outcome == "better"
    assert normalization.text.startswith(f"standard instead of raw: {100 * gaps.mean():+.2f} points [")


def test_a_comparison_of_two_values_has_the_p_value_of_the_effect_wherever_it_is_asked(tmp_path: Path) -> None:
    write_grid(tmp_path, ERRORS)
    (normalization, _) = compared(tmp_path)[1]
    effect = normalization.differences[""]
    assert effect is not None
    raw, standard = "data.normalization=raw", "data.normalization=standard"
    assert compare_sides(*read_sides([str(tmp_path), raw], [standard])).p_value == effect.p_value
    cells = [str(tmp_path), raw, "data.subset=full"], [standard, "data.subset=full"]
    assert compare_sides(*read_sides(*cells)).comparisons == 6


def test_an_effect_of_opposite_signs_names_what_it_depends_on(tmp_path: Path) -> None:
    errors = {("standard", "full"): 2, ("raw", "full"): 40, ("standard", "half"): 40, ("raw", "half"): 2}
    write_grid(tmp_path, errors)
    for choice in compared(tmp_path)[1]:
        assert (choice.outcome, choice.depends_on) in {("unclear", "subset"), ("unclear", "normalization")}
        assert choice.depends_on in choice.text


def test_settings_that_vary_together_are_one_factor_and_one_factor_has_only_its_rows(tmp_path: Path) -> None:
    for lr, size in ((0.1, 32), (0.2, 64)):
        for seed in range(2):
            write_run(tmp_path / f"{lr}_{seed}", range(seed), seed=seed, optim__lr=lr, data__batch_size=size)
    assert compared(tmp_path)[1] == []
    for lr, size in ((0.1, 32), (0.2, 64)):
        for seed in range(2):
            options = {"optim__lr": lr, "data__batch_size": size, "model__activation": "tanh"}
            write_run(tmp_path / f"tanh_{lr}_{seed}", range(9 - seed), seed=seed, **options)
    (batch_size, activation) = compared(tmp_path)[1]
    assert batch_size.label == "batch_size 32, lr 0.1 instead of 64, 0.2"
    assert activation.label == "relu instead of tanh"


def test_one_seed_has_effects_without_a_test(tmp_path: Path) -> None:
    write_grid(tmp_path, ERRORS, seeds=1)
    assert [(choice.outcome, "not tested" in choice.text) for choice in compared(tmp_path)[1]] == [("", True)] * 2
