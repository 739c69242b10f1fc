"""The sampler seed and the database of an Optuna search."""

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli import compose as search
from mnist_mlp.cli.compose import prepare_storage, search_seed
from mnist_mlp.errors import UserError

pytest.importorskip("optuna")


def config(storage: str | None, *task: str, **settings: Any) -> DictConfig:
    sweeper = {
        "_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper", "storage": storage,
        "study_name": "search", "direction": "maximize", "params": {"optim.lr": "interval(0.1, 1)"},
    }  # fmt: skip
    hydra = {"sweeper": sweeper, "sweep": {"dir": "outputs"}, "overrides": {"task": list(task)}}
    return OmegaConf.create({"hydra": hydra, **settings})


def test_with_its_own_database_a_search_is_seeded_by_its_number_of_trials_not_its_name(tmp_path: Path) -> None:
    seeds = []
    for name in ("a", "b"):
        sweep = tmp_path / name
        sweep.mkdir()
        storage = f"sqlite:///{sweep}/study.db"
        seeds.append(search_seed(str(sweep), storage))
        with sqlite3.connect(sweep / "study.db") as database:
            database.execute("create table trials (trial_id)")
            database.executemany("insert into trials values (?)", [(1,), (2,)])
        database.close()
        seeds.append(search_seed(str(sweep), storage))
    assert seeds == [0, 2, 0, 2]
    assert search_seed(f"{sweep}/", f"sqlite:///{sweep}//study.db") == 2  # or with the backslashes of Windows


def test_searches_that_share_a_database_and_later_calls_have_different_seeds(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path}/shared.db"
    before = {search_seed(str(tmp_path / name), shared) for name in ("a", "b")}
    (tmp_path / "a" / "lr-0.1").mkdir(parents=True)
    (tmp_path / "a" / "lr-0.1" / "run.json").touch()
    assert len(before | {search_seed(str(tmp_path / "a"), shared)}) == 3


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
    prepare_storage(config(f"sqlite:///{tmp_path}/study.db"))
    assert len(calls) > 3
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (0,)
    database.close()


def test_an_unusable_database_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAUSE", 0)
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage=sqlite:///.* cannot be used: ") as caught:
        prepare_storage(config(f"sqlite:///{tmp_path}/missing/study.db"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sweeper", [{"_target_": "x.OptunaSweeper", "storage": None}, {"_target_": "x.GridSweeper"}])
def test_other_sweeps_need_no_database(sweeper: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna.storages", None)  # importing it would fail
    prepare_storage(OmegaConf.create({"hydra": {"sweeper": sweeper}}))


@pytest.mark.parametrize(
    ("task", "seed", "changed"),
    [
        ([], 0, None),
        (["optim.lr=interval(0.1,1)"], 0, None),
        (["optim.lr=0.1"], 0, r"optim\.lr: interval\(0\.1,1\) -> "),
        (["optim.lr=interval(0.1, 2)"], 0, r"optim\.lr: interval\(0\.1,1\) -> interval\(0\.1,2\)"),
        (["model.dropout=0.1,0.2"], 0, r"model\.dropout: - -> 0\.1,0\.2"),
        ([], 3, "seed: 0 -> 3"),
    ],
)
def test_a_search_continues_only_with_the_same_settings_and_choices(
    tmp_path: Path, task: list[str], seed: int, changed: str | None
) -> None:
    import optuna

    storage = f"sqlite:///{tmp_path}/study.db"
    prepare_storage(config(storage, seed=5))
    prepare_storage(config(storage, seed=0))  # no trial has finished
    trial = optuna.trial.create_trial(value=0.5)
    optuna.load_study(study_name="search", storage=storage).add_trial(trial)
    if changed is None:
        prepare_storage(config(storage, *task, seed=seed, trainer={"progress": False}))
    else:
        with pytest.raises(UserError, match=changed):
            prepare_storage(config(storage, *task, seed=seed))


@pytest.mark.parametrize("storage", [None, "sqlite:///study.db"])
def test_a_search_without_validation_images_is_rejected(storage: str | None) -> None:
    with pytest.raises(UserError, match=r"data\.val_size=0"):
        prepare_storage(OmegaConf.merge(config(storage), {"data": {"val_size": 0}}))
