"""The first section of a page: a chart of all settings against the best, and the effect of each choice."""

import json
import re
from pathlib import Path

import pytest
from made_up_runs import write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting.data import PageContext
from mnist_mlp.reporting.sections_answer import answer

ROW = re.compile(
    r'<tr class="(\w*)" data-runs="([\d ]*)"><td>(.*?)</td>.*?(<span class="axis">.*?)</span>.*?<td>(.*?)</td></tr>',
    re.S,
)
POINT = re.compile(r'class="(zero|mean|far)" style="left: ([\d.]+)%"')
INTERVAL = re.compile(r'class="(line|bar)" style="left: ([\d.]+)%; right: ([\d.]+)%"')


def context_of(folder: Path) -> PageContext:
    return PageContext(summarize(find_jobs([folder])))


def rows_of(context: PageContext) -> list[tuple[str, str, str, dict[str, float], dict[str, tuple[float, float]], str]]:
    """Outcome, run ids, name, points, intervals (both in percent of the axis) and verdict of each row."""
    section = answer(context)
    assert section is not None
    return [
        (
            outcome, runs, name, {kind: float(at) for kind, at in POINT.findall(plot)},
            {kind: (float(left), 100 - float(right)) for kind, left, right in INTERVAL.findall(plot)}, verdict,
        )
        for outcome, runs, name, plot, verdict in ROW.findall(str(section.markup))
    ]  # fmt: skip


def write_graded(folder: Path, mistakes: dict[float, int], seeds: int = 5) -> PageContext:
    """Write runs whose learning rate makes this many mistakes, and up to two more for some seeds."""
    for lr, count in mistakes.items():
        for seed in range(seeds):
            write_run(folder / f"{lr}_{seed}", range(count + seed * (3 + int(100 * lr)) % 3), seed=seed, optim__lr=lr)
    return context_of(folder)


def test_a_line_reaches_zero_exactly_if_the_table_calls_the_difference_unclear(tmp_path: Path) -> None:
    context = write_graded(tmp_path, {0.01: 3, 0.02: 4, 0.03: 8, 0.04: 14, 0.05: 20, 0.06: 25})
    best, *rows = rows_of(context)
    assert (best[0], best[1], best[5]) == ("best", "0 1 2 3 4", "best")
    assert {outcome for outcome, *_ in rows} == {"unclear", "worse"}
    assert any(o == "unclear" and bars["bar"][1] < at["zero"] for o, _, _, at, bars, _ in rows)  # unadjusted: worse
    for (outcome, _, name, points, intervals, verdict), row in zip(rows, context.summary.rows[1:], strict=True):
        assert row.comparison is not None
        assert outcome == row.comparison.outcome
        assert verdict.startswith(outcome)
        assert name == f"lr={row.settings['optim.lr']}"
        low, high = intervals["line"]
        assert (high < points["zero"]) == (outcome == "worse")
        assert low < intervals["bar"][0] < points["mean"] < intervals["bar"][1] < high


def test_positions_are_proportional_to_the_differences(tmp_path: Path) -> None:
    context = write_graded(tmp_path, {0.01: 3, 0.02: 9, 0.03: 15})
    positions = [points["mean"] for _, _, _, points, _, _ in rows_of(context)]
    accuracies = [row.mean("test_accuracy") or 0 for row in context.summary.rows]
    slopes = [
        (positions[0] - at) / (accuracies[0] - mean) for at, mean in zip(positions[1:], accuracies[1:], strict=True)
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.01)


def test_a_collapsed_setting_does_not_compress_the_scale_of_the_others(tmp_path: Path) -> None:
    context = write_graded(tmp_path, {0.01: 3, 0.02: 5, 0.03: 7, 0.04: 88})
    *near, last = (points for _, _, _, points, _, _ in rows_of(context))
    assert last["far"] == 0
    assert max(points["mean"] for points in near) - min(points["mean"] for points in near) > 20


def test_a_chart_of_many_settings_has_the_best_and_the_worst(tmp_path: Path) -> None:
    context = write_graded(tmp_path, {n / 100: 2 + n for n in range(1, 31)}, seeds=1)
    names = [name for _, _, name, *_ in rows_of(context)]
    assert len(names) == 20
    assert names[0].endswith("lr=0.01")
    assert names[-1].endswith("lr=0.3")
    section = answer(context)
    assert section is not None
    assert "Not shown: 10 settings" in section.markup
    assert not INTERVAL.search(str(section.markup))  # one run has no interval


def test_the_effect_of_each_choice_has_its_outcome(tmp_path: Path) -> None:
    for seed in range(5):
        for lr in (0.1, 0.2):
            for momentum in (0.5, 0.9):
                wrong = range(3 + seed % 2 + round(200 * lr) + (momentum < 0.9) * (seed % 3 - 1))
                write_run(
                    tmp_path / f"{lr}_{momentum}_{seed}", wrong, seed=seed, optim__lr=lr, optim__momentum=momentum
                )
    section = answer(context_of(tmp_path))
    assert section is not None
    effects = re.findall(r'<li class="(\w+)">(.*?)<b>', str(section.markup))
    assert [outcome for outcome, label in effects if "0.1" in label] == ["better"]
    assert [outcome for outcome, label in effects if "0.9" in label] == ["unclear"]


def test_each_dataset_has_a_chart(tmp_path: Path) -> None:
    for name in ("mnist", "fashion_mnist"):
        for lr in (0.1, 0.2):
            for seed in range(3):
                wrong = range(round(100 * lr) + seed % 2)
                run = write_run(tmp_path / f"{name}_{lr}_{seed}", wrong, seed=seed, optim__lr=lr, data__name=name)
                result = json.loads((run / "result.json").read_text())
                result["data"]["digest"] = name
                (run / "result.json").write_text(json.dumps(result))
    context = context_of(tmp_path)
    section = answer(context)
    assert section is not None
    captions = re.findall("<caption>(.*?)</caption>", str(section.markup))
    assert captions == list(context.summary.by_dataset)
    assert len(captions) == 2
    assert [outcome for outcome, *_ in rows_of(context)] == ["best", "worse"] * 2


def test_one_setting_has_nothing_to_compare(tmp_path: Path) -> None:
    assert answer(write_graded(tmp_path, {0.01: 3})) is None
