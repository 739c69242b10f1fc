"""Settings that vary together: `NAME=zip(KEY=VALUES,...)` on the command line and in presets, tuples in Python."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

import mnist_mlp
from mnist_mlp.sweeps.jobs import Job, JobEnd
from mnist_mlp.train import main

Settings = list[tuple[list[int], float, int]]
CROSSED: Settings = [([8], 0.1, 0), ([8], 0.1, 1), ([16], 0.03, 0), ([16], 0.03, 1)]
"""Two pairs of widths and learning rates with two seeds, in the order of the grid."""


def settings(jobs: list[Job]) -> Settings:
    configs = [job.config for job in jobs]
    return [(config.model.hidden_units, config.optim.lr, config.seed) for config in configs if config]


@pytest.fixture
def sweep(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings | str]:
    """A function that runs `train -m` without training and returns the settings of its jobs, or why it ends."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Settings | str:
        jobs: list[Job] = []

        def record(job: Job, records: object) -> JobEnd:
            jobs.append(job)
            return JobEnd(job.label, 0.5)

        monkeypatch.setattr("mnist_mlp.sweeps.jobs.run_job", record)
        argv = ["train", "-m", "hydra/launcher=basic", f"data.root={idx_root}", "name=a", *words]
        monkeypatch.setattr(sys, "argv", argv)
        GlobalHydra.instance().clear()
        try:
            main()
        except SystemExit as ended:
            if isinstance(ended.code, str):
                return ended.code
        assert [job.number for job in jobs] == list(range(1, len(jobs) + 1))
        assert len({job.name for job in jobs}) == len(jobs)
        return settings(jobs)

    return call


@pytest.mark.parametrize(
    "text",
    [
        "size=zip(model.hidden_units=[8],[16],optim.lr=0.1,0.03)",
        pytest.param(
            "size=zip(model.hidden_units=choice([8],[16]),optim.lr=choice(0.1,0.03))", marks=pytest.mark.integration
        ),
        "size=zip(model.hidden_units=[8,16],optim.lr=[0.1,0.03])",  # Hydra's plan: the items of a list are values
        "size=zip( model.hidden_units=range(start=8,stop=17,step=8), optim.lr=0.1,0.03 )",
    ],
)
def test_the_values_of_a_zip_vary_together_and_cross_those_of_other_keys(sweep: Any, text: str) -> None:
    assert sweep(text, "seed=0,1") == CROSSED


def test_a_zip_may_select_presets(sweep: Any) -> None:
    rows = sweep("net=zip(optim=sgd,adam,model.hidden_units=8,16)", "optim.lr=0.1")
    assert [units for units, _, _ in rows] == [[8], [16]]


@pytest.mark.integration
def test_a_preset_may_contain_a_zip_which_the_command_line_replaces(sweep: Any) -> None:
    preset = Path("presets/experiment/pairs.yaml")
    preset.parent.mkdir(parents=True)
    params = "size: zip(model.hidden_units=[8],[16],optim.lr=0.1,0.03)\n      seed: 0,1"
    preset.write_text(f"# @package _global_\nhydra:\n  sweeper:\n    params:\n      {params}\n")
    arguments = ("experiment=pairs", "--config-dir=presets")
    assert sweep(*arguments) == CROSSED
    changed = sweep("size=zip(model.hidden_units=4,5,optim.lr=0.5,0.6)", "seed=2", *arguments)
    assert changed == [([4], 0.5, 2), ([5], 0.6, 2)]
    assert sweep("optim.lr=0.2,0.3", "seed=2", *arguments) == [([256], 0.2, 2), ([256], 0.3, 2)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("size=zip(model.hidden_units=[8],[16],optim.lr=0.1,0.03,1)", "(2 of model.hidden_units, 3 of optim.lr)"),
        ("size=zip(optim.lr=0.1,0.03)", "several keys"),
        ("size=zip([8],[16])", "several keys"),
        ("size=zip(model.hidden_units=[8],[16],optim.lr=0.1,0.03", "several keys"),
        ("optim=zip(model.hidden_units=[8],[16],optim.lr=0.1,0.03)", "use a new one"),
        ("size=zip(model.hidden_units=[8],[16],optim.lr=shuffle(0.1,0.03))", "shuffled"),
        ("size=zip(experiment=glob(reference_depth_*),optim.lr=0.1,0.03)", "4 of experiment, 2 of optim.lr"),
        ("seed=1 size=zip(seed=0,1,optim.lr=0.1,0.03)", "seed is set 2 times"),
        ("size=zip(model.hidden_unit=8,16,optim.lr=0.1,0.03)", "did you mean model.hidden_units?"),
        ("optim.lr=interval(0,1)", "optim.lr=interval(0,1) is for a search"),
        ("hydra.sweeper.max_seconds=9", "hydra/launcher=side_by_side"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(sweep: Any, words: str, reason: str) -> None:
    message = sweep(*words.split())
    assert message.startswith("error: ")
    assert reason in message
    assert "\n" not in message
    assert not list(Path("outputs").glob("sweeps/*"))


def test_python_takes_tuples_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_jobs(jobs: list[Job], *_: object) -> None:
        seen.extend(jobs)
        raise KeyboardInterrupt

    seen: list[Job] = []
    monkeypatch.setattr("mnist_mlp.api.training.run_jobs", run_jobs)
    pairs = {("model.hidden_units", "optim.lr"): [([8], 0.1), ([16], 0.03)]}
    with pytest.raises(KeyboardInterrupt):
        mnist_mlp.sweep({**pairs, "seed": range(2)}, tmp_path)
    assert settings(seen) == CROSSED
    grids: list[tuple[Any, str]] = [
        ({("optim.lr", "seed"): [(0.1, 0), (0.2,)]}, r"\(0\.2,\) is not a value for each of the 2 keys"),
        ({("optim.lr", "seed"): []}, "empty"),
        ({**pairs, "optim.lr": 0.1}, "optim.lr: set twice"),
    ]
    for grid, reason in grids:
        with pytest.raises(mnist_mlp.UserError, match=reason):
            mnist_mlp.sweep(grid, tmp_path)
