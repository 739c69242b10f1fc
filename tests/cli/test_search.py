"""Searches with Optuna: their space, storage and rounds, interrupted ones, and successive halving."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

optuna = pytest.importorskip("optuna")

from search_methods import run_search, search_config  # noqa: E402  # imports Optuna

from mnist_mlp.cli import search  # noqa: E402
from mnist_mlp.cli.grid import register  # noqa: E402
from mnist_mlp.cli.search import check_search, prepare_search, search_space  # noqa: E402
from mnist_mlp.compare.load import trial_numbers  # noqa: E402
from mnist_mlp.errors import UserError  # noqa: E402

LR = {"optim.lr": "interval(0.1, 1)"}
SPACE = {"optim.lr": "tag(log, interval(0.001, 1))", "model.hidden_units": "choice([8],[16])"}


class Launcher:
    """Returns made-up accuracies that grow with the epochs; interrupts the search before a job."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.stop_before = stop_before
        self.jobs: list[dict[str, str]] = []

    def launch(self, jobs: Sequence[Sequence[str]], number: int) -> list[SimpleNamespace]:
        returned = []
        for texts in jobs:
            if len(self.jobs) == self.stop_before:
                raise KeyboardInterrupt
            settings = dict(text.split("=") for text in texts)
            self.jobs.append(settings)
            epochs, rate = int(settings.get("trainer.max_epochs", 9)), float(settings["optim.lr"])
            accuracy = None if 0.4 < rate < 0.5 else (1 - rate) * epochs / (epochs + 1)
            returned.append(SimpleNamespace(return_value=accuracy))
        return returned


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """The study of all searches of a test, in memory."""
    study = optuna.create_study(direction="maximize")
    monkeypatch.setattr(search, "open_study", lambda config: study)
    return study


def trials(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [(trial.params, trial.state, trial.values, trial.intermediate_values) for trial in study.get_trials()]


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(0.1,1)", optuna.distributions.FloatDistribution(0.1, 1)),
        ("interval(1,5)", optuna.distributions.FloatDistribution(1.0, 5.0)),
        ("int(interval(1.0,5.0))", optuna.distributions.IntDistribution(1, 5)),
        ("tag(log, interval(0.001,1))", optuna.distributions.FloatDistribution(0.001, 1, log=True)),
        ("tag(log, int(interval(1,64)))", optuna.distributions.IntDistribution(1, 64, log=True)),
        ("choice([64],[128])", optuna.distributions.CategoricalDistribution(["[64]", "[128]"])),
        ("1,2", optuna.distributions.CategoricalDistribution([1, 2])),
        ("shuffle(range(1,4))", None),
        ("range(1,10,3)", optuna.distributions.IntDistribution(1, 7, step=3)),
        ("range(7,0,-3)", optuna.distributions.IntDistribution(1, 7, step=3)),
        ("range(0.0,1.0,0.25)", optuna.distributions.FloatDistribution(0.0, 0.75, step=0.25)),
    ],
)
def test_spaces_have_the_values_of_hydras_grammar(text: str, distribution: object) -> None:
    space, fixed = search_space(search_config({"x": text, "y": "interval(0,1)"}, "y=3"))
    assert fixed == ["y=3"]
    if distribution is None:
        (values,) = (override.sweep_iterator() for override in OverridesParser.create().parse_overrides([f"x={text}"]))
        assert sorted(space["x"].choices) == sorted(values)  # type: ignore[attr-defined]
    else:
        assert space == {"x": distribution}


@pytest.mark.parametrize("text", ["tag(log, interval(0, 1))", "tag(log, range(1, 10, 2))"])
def test_an_impossible_space_is_reported_with_its_setting(text: str) -> None:
    with pytest.raises(UserError, match=r"optim\.lr=") as caught:
        check_search(search_config({"optim.lr": text}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "task", "options", "settings", "key"),
    [
        (LR, [], {"n_trials": 0}, {}, r"n_trials=0"),
        (LR, [], {"n_jobs": 0}, {}, r"n_jobs=0"),
        (LR, [], {"min_epochs": 0}, {}, r"min_epochs=0"),
        (LR, ["optim.lr=0.1"], {}, {}, r"varies no setting"),
        ({**LR, "data.name": "mnist,fashion_mnist"}, [], {}, {}, r"cannot vary data\.name"),
        (LR, [], {}, {"data.val_size": 0}, r"data\.val_size=0"),
        (LR, [], {"min_epochs": 2}, {"trainer.max_epochs": 5}, r"trainer\.max_epochs.* 6"),
        ({"trainer.max_epochs": "choice(9,27)"}, [], {"min_epochs": 1}, {}, r"trainer\.max_epochs"),
        (LR, [], {"min_epochs": 1}, {"resume": "never"}, r"resume=never"),
    ],
)
def test_a_search_that_cannot_work_is_refused(
    space: dict[str, str], task: list[str], options: dict[str, int], settings: dict[str, Any], key: str
) -> None:
    config = search_config(space, *task, **options)
    for name, value in settings.items():
        group, _, last = name.rpartition(".")
        (config[group] if group else config)[last] = value
    with pytest.raises(UserError, match=key):
        check_search(config)


def test_creating_the_database_is_retried_if_another_search_interferes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna import storages

    get_storage, calls = storages.get_storage, []

    def racing(storage: str) -> object:
        calls.append(storage)
        if len(calls) < 3:
            raise sqlite3.IntegrityError("UNIQUE constraint failed: alembic_version.version_num")
        return get_storage(storage)

    monkeypatch.setattr(storages, "get_storage", racing)
    monkeypatch.setattr(search, "PAUSE", 0)
    prepare_search(search_config(LR, storage=f"sqlite:///{tmp_path}/study.db"))
    assert len(calls) > 2
    assert optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/study.db").get_trials() == []


def test_an_unusable_database_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAUSE", 0)
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage=sqlite:///.* cannot be used: ") as caught:
        prepare_search(search_config(LR, storage=f"sqlite:///{tmp_path}/missing/study.db"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "seed", "changed"),
    [
        ([], 0, None),
        (["optim.lr=interval(0.1,1)", "trainer.progress=false"], 0, None),
        (["optim.lr=interval(0.1, 2)"], 0, r"optim\.lr: interval\(0\.1,1\) -> interval\(0\.1,2\)"),
        (["model.dropout=0.1,0.2"], 0, r"model\.dropout: 0\.0 -> 0\.1,0\.2"),
        ([], 3, "seed: 0 -> 3"),
    ],
)
@pytest.mark.parametrize("has_ended", [True, False])
def test_a_search_continues_only_with_the_same_settings_and_choices(
    study: optuna.Study, task: list[str], seed: int, changed: str | None, has_ended: bool
) -> None:
    def prepare(*task: str, seed: int) -> None:
        config = search_config(LR, *task)
        config.seed = seed
        prepare_search(config)

    prepare(seed=5)
    prepare(seed=0)  # no trial has a result
    trial = study.ask()
    trial.report(0.5, 1)
    if has_ended:
        study.tell(trial, 0.5)
    earlier = {key: text for key, text in study.user_attrs["settings"].items() if key != "optim.momentum"}
    study.set_user_attr("settings", earlier)  # of a version without this option
    if changed is None:
        prepare(*task, seed=seed)
    else:
        with pytest.raises(UserError, match=changed):
            prepare(*task, seed=seed)


@pytest.mark.parametrize(
    "options",
    [{"n_trials": 13, "n_jobs": 2}, {"n_trials": 5, "sampler": "random"}, {"n_trials": 14, "min_epochs": 1}],
)
def test_an_interrupted_search_gives_the_trials_of_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    def run(study: optuna.Study, launcher: Launcher) -> list[tuple[Any, ...]]:
        monkeypatch.setattr(search, "open_study", lambda config: study)
        config = search_config(SPACE, **options)
        config.trainer.max_epochs = 9
        with suppress(KeyboardInterrupt):
            run_search(config, launcher)
        return trials(study)

    whole, launcher = optuna.create_study(direction="maximize"), Launcher()
    expected = run(whole, launcher)
    assert len(expected) == options["n_trials"]
    for stop in range(0, len(launcher.jobs), 4):
        study = optuna.create_study(direction="maximize")
        assert run(study, Launcher(stop)) != expected
        assert run(study, Launcher()) == expected
    again = run(whole, Launcher())  # adds as many trials
    assert again[: len(expected)] == expected
    assert len(again) == 2 * len(expected)


def test_a_setting_that_is_proposed_twice_is_trained_once(study: optuna.Study) -> None:
    launcher = Launcher()
    run_search(search_config({"optim.lr": "choice(0.1,0.2)"}, n_trials=6, sampler="random"), launcher)
    assert len(launcher.jobs) == 2
    first = {trial.params["optim.lr"]: trial.number for trial in reversed(study.get_trials())}
    assert trial_numbers(Path("outputs")) == {f"lr-{rate}": number for rate, number in first.items()}
    assert len(trials(study)) == 6
    for params, _, values, _ in trials(study):
        assert values == pytest.approx([0.9 * (1 - params["optim.lr"])])


def test_halving_selects_the_best_third_for_three_times_the_epochs(study: optuna.Study) -> None:
    launcher = Launcher()
    config = search_config(SPACE, n_trials=17, min_epochs=1)
    config.trainer.max_epochs = 9
    run_search(config, launcher)
    jobs = launcher.jobs
    rungs = [("1", 9), ("3", 3), ("9", 1), ("3", 5), ("9", 1), ("9", 3)]  # Li et al. 2018, for R = 9 and eta = 3
    assert [job["trainer.max_epochs"] for job in jobs] == [epochs for epochs, size in rungs for _ in range(size)]
    rates = [float(job["optim.lr"]) for job in jobs]
    valid = sorted(rate for rate in rates[:9] if not 0.4 < rate < 0.5)
    assert rates[9:13] == [*(rate for rate in rates[:9] if rate in valid[:3]), valid[0]]
    folders = [job["hydra.sweep.subdir"] for job in jobs]
    numbers = trial_numbers(Path("outputs"))
    assert [numbers[folder.strip("'")] for folder in folders[:9]] == list(range(9))
    assert len(numbers) == 17
    assert set(folders[9:13]) < set(folders[:9])
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING])
