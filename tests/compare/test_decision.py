"""The command `compare`: decisions as exit codes, one answer whichever way it is asked, errors with their own code."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import TRUTH, write_failure, write_run

import mnist_mlp
from mnist_mlp.compare.__main__ import main
from mnist_mlp.compare.difference import decide, exceeding, explain
from mnist_mlp.compare.sequential import anytime_p_value, critical_difference
from mnist_mlp.compare.statistics import crossed_difference
from mnist_mlp.compare.tables import write_summary

BETTER, NOT, OPEN, ERROR = 0, 1, 2, 3


def write_setting(sweep: Path, lr: float, errors: int, seeds: int = 8, **settings: Any) -> None:
    """Runs with about so many errors: the first ones, and one more in every other seed."""
    for seed in range(seeds):
        wrong = range(errors + seed % 2)
        write_run(sweep / f"lr-{lr}_seed-{seed}", wrong=wrong, curves=False, seed=seed, optim__lr=lr, **settings)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two settings that are nearly equal, a clearly worse one, and the sweep's tables."""
    write_setting(tmp_path / "sweep", 0.01, 5)
    write_setting(tmp_path / "sweep", 0.02, 6, seeds=7)
    write_setting(tmp_path / "sweep", 0.04, 60)
    write_summary(tmp_path / "sweep")
    return tmp_path / "sweep"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of a call."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, words), "--json"])
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(capsys.readouterr().out or "{}")


def test_the_exit_code_is_the_decision(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, sweep, "optim.lr=0.01", "--", sweep, "optim.lr=0.04")[0] == BETTER
    assert call(capsys, sweep, "optim.lr=0.01", "--", "optim.lr=4e-2", "--margin", "20")[0] == BETTER
    assert call(capsys, sweep, "optim.lr=0.04", "--", "optim.lr=0.01")[0] == NOT
    assert call(capsys, sweep, "optim.lr=0.01", "--", "optim.lr=0.04", "--margin", 99)[0] == NOT
    assert call(capsys, sweep, "optim.lr=0.04", "--", "optim.lr=0.01", "--margin", "-99")[0] == BETTER
    code, content = call(capsys, sweep, "optim.lr=0.01", "--", "optim.lr=0.04", "--margin", 55)
    assert (code, content["decision"]) == (OPEN, "undecided")


def test_without_json_one_line_is_printed(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(sweep), "optim.lr=0.01", "--", "optim.lr=0.04"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("better: optim.lr=0.01 - optim.lr=0.04: +55.00 points")


def test_run_folders_a_sweep_and_python_give_the_answer_of_the_table(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, by_setting = call(capsys, sweep, "optim.lr=0.04", "--", sweep, "optim.lr=0.01")
    _, by_folder = call(capsys, *sweep.glob("lr-0.04*"), "--", *sweep.glob("lr-0.01*"))
    python = mnist_mlp.load_sweep(sweep).compare({"optim.lr": 0.04}, {"optim.lr": 0.01})
    row = next(row for row in mnist_mlp.load_sweep(sweep).summary.rows if row.settings["optim.lr"] == 0.04)
    assert row.comparison is not None
    for answer in (by_setting, by_folder, vars(python)):
        assert answer["p_anytime"] == row.comparison.anytime_p_value
        assert answer["p_value"] == row.comparison.p_value
        assert answer["comparisons"] == 3
        assert answer["decision"] == "not better"


def test_the_p_value_is_that_of_a_difference_equal_to_the_margin_times_the_tries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_setting(tmp_path / "a", 0.01, 10)
    write_setting(tmp_path / "b", 0.02, 40, seeds=6)
    _, content = call(capsys, tmp_path / "a", "--", tmp_path / "b", "--margin", 20, "--tries", 7)

    def correct(name: str) -> np.ndarray:
        files = sorted((tmp_path / name).glob("*/predictions.npz"))[:6]
        return np.array([np.load(file)["prediction"] == TRUTH for file in files])

    expected = crossed_difference(correct("a")[:, ::-1], correct("b")[:, ::-1])
    error = expected.seeds.error
    assert error is not None
    p_value = anytime_p_value(expected.seeds.mean - 0.2, error, 6, np.sqrt(expected.variance.image / 100))
    assert content["n"] == 6
    assert content["difference"] == pytest.approx(0.3)
    assert content["p_anytime"] == pytest.approx(min(1, 7 * p_value))
    assert content["comparisons"] == 7


def test_an_open_decision_names_the_seeds_that_would_end_it() -> None:
    generator = np.random.default_rng(0)
    first = generator.random((4, 2000)) < 0.97
    second = first & (generator.random((4, 2000)) < 0.997)
    open_one = crossed_difference(first, second)
    assert decide(open_one) == "undecided"
    _, more = explain(open_one, 1, 0.0)
    error = open_one.seeds.error
    assert more is not None
    assert error is not None
    for seeds, is_enough in ((4 + more - 1, False), (4 + more, True)):
        critical = critical_difference(0.05, error * np.sqrt(4 / seeds), seeds, open_one.image_error)
        assert (critical < open_one.seeds.mean) == is_enough
    of_few_images = replace(open_one, variance=replace(open_one.variance, image=0.01))
    reason, more = explain(exceeding(of_few_images, open_one.seeds.mean - 1e-3), 1, 0.0)
    assert (more, "images" in reason) == (None, True)
    assert explain(open_one, 20, 0.0)[0] != explain(open_one, 1, 0.0)[0]


def test_a_single_seed_or_a_failed_run_leaves_the_decision_open(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [sweep / f"lr-{lr}_seed-0" for lr in (0.01, 0.04)]
    code, content = call(capsys, runs[0], "--", runs[1])
    assert (code, content["n"]) == (OPEN, 1)
    assert content["more_seeds"] >= 2
    code, content = call(capsys, runs[0], "--", sweep / "lr-0.04_seed-1")  # no seed in common: McNemar's test only
    assert (code, content["p_value"] < 1e-6, content["p_anytime"]) == (OPEN, True, None)
    write_failure(sweep / "failed", "ValueError: no", seed=8, optim__lr=0.01)
    code, content = call(capsys, sweep, "optim.lr=0.01", "--", "optim.lr=0.04")
    assert (code, "failed" in content["reason"]) == (OPEN, True)


def test_runs_of_other_code_with_equal_settings_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change of the code leaves settings and fingerprints as they are."""
    write_setting(tmp_path / "new", 0.01, 5)
    write_setting(tmp_path / "old", 0.01, 60)
    assert call(capsys, tmp_path / "new", "--", tmp_path / "old")[0] == BETTER


def test_other_settings_are_matched_in_both_directions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for units, errors in ((16, 30), (256, 5)):
        for lr in (0.01, 0.02):
            options: dict[str, Any] = {"model__hidden_units": [units], "model__hidden_layers": 1}
            write_setting(tmp_path / "s" / str(units), lr, errors + int(100 * lr), **options)
    words = ("optim.lr=0.01",), ("optim.lr=0.02", "model.hidden_units=[16]")
    _, forward = call(capsys, tmp_path / "s", *words[0], "--", *words[1])
    _, backward = call(capsys, tmp_path / "s", *words[1], "--", tmp_path / "s", *words[0])
    assert forward["difference"] == -backward["difference"] == pytest.approx(0.01)
    assert len(forward["unmatched"]) == 8


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["SWEEP", "optim.lr=0.3", "--", "optim.lr=0.01"], "no finished run; settings that vary: optim.lr"),
        (["SWEEP", "optim.lrr=0.3", "--", "optim.lr=0.01"], "unknown key optim.lrr"),
        (["SWEEP", "optim.lr=fast", "--", "optim.lr=0.01"], "optim.lr='fast'"),
        (["SWEEP", "optim.lr=1", "optim.lr=2", "--", "optim.lr=0.01"], "twice"),
        (["SWEEP", "--", "SWEEP"], "runs in common"),
        (["nowhere", "--", "SWEEP"], "no folder nowhere"),
        (["optim.lr=0.01", "--", "optim.lr=0.02"], "no folder"),
        (["SWEEP"], "A -- B"),
        ([], "A -- B"),
        (["SWEEP", "--margin", "x", "--", "SWEEP"], "--margin"),
        (["SWEEP", "--margin", "nan", "--", "optim.lr=0.01"], "margin=nan"),
        (["SWEEP", "--tries", "0", "--", "optim.lr=0.01"], "tries=0"),
    ],
)
def test_an_error_has_an_exit_code_of_its_own(
    words: list[str], problem: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([word.replace("SWEEP", str(sweep)) for word in words])
    assert caught.value.code == ERROR
    out, err = capsys.readouterr()
    assert (out, problem in err.splitlines()[-1]) == ("", True), err


def test_a_program_error_is_no_decision(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.compare.__main__.read_sides", None)
    with pytest.raises(SystemExit) as caught:
        main([str(sweep), "--", str(sweep)])
    assert caught.value.code == ERROR


def test_the_commands_import_no_torch() -> None:
    code = "import sys, mnist_mlp.compare.__main__, mnist_mlp.clean; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
