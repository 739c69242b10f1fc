"""Settings that vary together are one factor, and comparisons at equal training time say so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import made_up_result, write_run

import mnist_mlp
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.effects import confounded, main_effect
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.compare.tables import as_markdown
from mnist_mlp.reporting.data import PageContext
from mnist_mlp.reporting.sections_charts import effects, two_factors
from mnist_mlp.runs.files import write_json
from mnist_mlp.runs.folder import RunFolder

WIDTH, RATE, MOMENTUM = "model.hidden_units", "optim.lr", "optim.momentum"


def jobs(*settings: dict[str, Any], seeds: int = 2) -> list[Job]:
    return [
        Job(Path(), "finished", {**values, "seed": seed}, made_up_result())
        for values in settings
        for seed in range(seeds)
    ]


PAIRS = [{WIDTH: [8], RATE: 0.1}, {WIDTH: [16], RATE: 0.03}, {WIDTH: [32], RATE: 0.01}]


def test_keys_that_determine_each_other_are_confounded_and_crossed_ones_are_not() -> None:
    zipped = [{**pair, MOMENTUM: momentum} for pair in PAIRS for momentum in (0.5, 0.9)]
    assert confounded(jobs(*zipped)) == {WIDTH: [RATE]}
    assert confounded(jobs(*PAIRS, {WIDTH: [8], RATE: 0.01}, {WIDTH: [16], RATE: 0.1})) == {}


def test_a_key_whose_values_repeat_follows_the_one_that_determines_it() -> None:
    assert confounded(jobs({RATE: 0.1, WIDTH: [8]}, {RATE: 0.1, WIDTH: [16]}, {RATE: 0.03, WIDTH: [32]})) == {
        WIDTH: [RATE]
    }


def test_in_a_search_a_number_that_never_repeats_determines_nothing() -> None:
    trials = [{RATE: 0.1 / n, MOMENTUM: 0.9 - 0.01 * n, WIDTH: [8 * (n % 2 + 1)]} for n in range(1, 8)]
    assert confounded(jobs(*trials, seeds=1)) == {}
    trials = [{RATE: 0.1 / n, MOMENTUM: 0.5 if n > 2 else 0.9, WIDTH: [8 if n > 2 else 16]} for n in range(1, 8)]
    assert confounded(jobs(*trials, seeds=1)) == {}  # equal by chance


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Width 8 with rate 0.1 is better than 16 with 0.03 by 10 of 100 images, at both momentums, with three seeds."""
    for (units, lr, wrong), momentum in ((p, m) for p in ((8, 0.1, 10), (16, 0.03, 20)) for m in (0.5, 0.9)):
        for seed in range(3):
            settings = {"model__hidden_units": [units], "optim__lr": lr, "optim__momentum": momentum, "seed": seed}
            write_run(tmp_path / f"{units}_{momentum}_{seed}", range(seed, seed + wrong), **settings)
    return tmp_path


def test_an_effect_is_that_of_the_pair(sweep: Path) -> None:
    runs = find_jobs([sweep])
    assert main_effect(runs, WIDTH, "val_accuracy") == {}  # at the same learning rate
    assert main_effect(runs, WIDTH, "val_accuracy", [RATE]) == {"8": pytest.approx(0.9), "16": pytest.approx(0.8)}
    context = PageContext(summarize(runs))
    section = effects(context)
    assert section is not None
    panels = json.loads(section.markup.split(">", 1)[1].rsplit("<", 1)[0])["panels"]
    assert [panel["name"] for panel in panels] == ["hidden_units + lr", "momentum"]
    assert panels[0]["means"] == [["8", pytest.approx(90.0)], ["16", pytest.approx(80.0)]]
    (heatmap,) = two_factors(context)
    assert heatmap.table is not None
    assert [[getattr(cell, "text", cell) for cell in row] for row in heatmap.table.rows] == [
        ["8", "90.00", "90.00"],
        ["16", "80.00", "80.00"],
    ]
    assert "hidden_units and lr" in as_markdown(context.summary)


def test_the_comparison_of_one_key_names_the_other(sweep: Path) -> None:
    runs = mnist_mlp.load_sweep(sweep)
    single = runs.compare({RATE: 0.1}, {RATE: 0.03})
    pair = runs.compare({RATE: 0.1, WIDTH: [8]}, {RATE: 0.03, WIDTH: [16]})
    assert (single.difference, single.low, single.n) == (pair.difference, pair.low, pair.n)
    assert single.difference == pytest.approx(0.1)
    assert WIDTH in single.verdict
    assert WIDTH not in pair.verdict


def stop(folder: Path, limit: float, epochs: float, device: str = "cpu") -> None:
    """Write a run that was stopped by time."""
    result = made_up_result(trainer__max_seconds=limit, seed=len(list(folder.parent.glob("*"))))
    environment = {**result.environment, "device": device}
    write_json(folder / "result.json", replace(result, stopped_at_epoch=epochs, environment=environment).to_json())


@pytest.mark.parametrize(
    ("limits", "devices", "words"),
    [
        (
            (5.0, 5.0),
            ("cpu", "cpu"),
            "Equal time: 2 of 2 runs were stopped by trainer.max_seconds=5, after 1.5 to 2.5 epochs.",
        ),
        ((5.0, 5.0), ("cpu", "gpu"), "on different devices"),
        ((5.0, 9.0), ("cpu", "cpu"), "2 of 2 runs were stopped by trainer.max_seconds, after"),
    ],
)
def test_a_comparison_says_whether_the_runs_had_equal_time(
    tmp_path: Path, limits: tuple[float, float], devices: tuple[str, str], words: str
) -> None:
    for name, limit, device in zip("ab", limits, devices, strict=True):
        (tmp_path / name).mkdir()
        stop(tmp_path / name, limit, 1.5 if name == "a" else 2.5, device)
    note = " ".join(summarize(find_jobs([tmp_path])).notes)
    assert words in note
    assert ("Equal time" in note) == (limits[0] == limits[1])


def test_runs_that_were_not_stopped_by_time_have_no_note(tmp_path: Path) -> None:
    write_run(tmp_path / "a", trainer__max_seconds=60.0)
    assert not any("max_seconds" in note for note in summarize(find_jobs([tmp_path])).notes)
    result = RunFolder(tmp_path / "a").result()
    assert result is not None
    assert result.stopped_at_epoch is None
