"""--dry-run: what a run or sweep would do, without doing it."""

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_run
from settings import config_with
from sweeps_in_process import Sweep, sweeper

from mnist_mlp.config import Config
from mnist_mlp.options import to_dict
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps import dry_run
from mnist_mlp.sweeps.dry_run import duration_text, plan_lines
from mnist_mlp.sweeps.jobs import Job


@pytest.fixture
def sweep(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return sweeper(idx_root, tmp_path, monkeypatch)


def job_in(folder: Path, number: int, config: Config) -> Job:
    overrides = [f"seed={config.seed}", f"trainer.max_epochs={config.trainer.max_epochs}"]
    return Job(RunFolder(folder), folder.parent, number, 3, overrides, to_dict(config), config)


def unmeasurable(config: Config) -> None:
    raise AssertionError("steps need not be measured")


def test_a_dry_run_lists_which_jobs_are_finished_and_trains_the_rest_in_the_time_of_finished_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "measured_seconds", unmeasurable)
    sweep = tmp_path / "outputs/sweeps/mine"
    for seed in (0, 2):  # 0.5 s per epoch
        write_run(sweep / f"job{seed}", curves=False, seed=seed, trainer__max_epochs=3)
    (sweep / "job2/result.json").unlink()
    settings: Any = {"trainer.max_epochs": 240, "data.source": "mnist"}
    jobs = [
        job_in(sweep / "job0", 1, config_with({"trainer.max_epochs": 3, "data.source": "mnist"})),
        job_in(sweep / "job1", 2, config_with({"seed": 1, **settings})),
        job_in(sweep / "job2", 3, config_with({"seed": 2, **settings})),
    ]
    header, *rows, duration = plan_lines(jobs, parallel=2)
    assert "2 to train, 1 finished" in header
    assert [("finished" in row, "seed 0" in row) for row in rows] == [(True, True), (False, False), (False, False)]
    assert "about 2 min" in duration  # 240 epochs each, at once


@pytest.mark.parametrize("other", [{"data__batch_size": 32}, {"data__source": "sample"}])
def test_a_run_of_another_size_does_not_tell_the_duration_and_measured_steps_do(
    other: dict[str, Any], idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "outputs/train/other", **other)
    waiting = [(config_with({"trainer.max_epochs": 100, "seed": 3, "data.root": str(idx_root)}), 100)]
    monkeypatch.setattr(dry_run, "measured_seconds", lambda config: 6.0)
    assert "about 10 min" in duration_text(waiting, 1)
    monkeypatch.setattr(dry_run, "measured_seconds", lambda config: None)
    assert "cannot tell" in duration_text(waiting, 1)


def test_a_dry_run_writes_nothing(sweep: Sweep, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert sweep("seed=0,1", "model.hidden_units=8-4,8", "model.hidden_layers=2", "name=mine", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "outputs/sweeps/mine: 4 to train" in out
    assert "8-4" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_search_lists_its_space(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    before = sorted(tmp_path.rglob("*"))
    assert sweep("search=optuna", "hydra.sweeper.n_trials=7", "optim.lr=interval(0.01,0.1)", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "7 trials" in out
    assert "optim.lr=interval(0.01,0.1)" in out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.integration
def test_steps_of_a_wide_network_are_measured_as_slower() -> None:
    seconds = [dry_run.measured_seconds(config_with({"model.hidden_units": units})) for units in (4, 1024)]
    assert seconds[0] is not None
    assert seconds[1] is not None
    assert seconds[0] < seconds[1]
