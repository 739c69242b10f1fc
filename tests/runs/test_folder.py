import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import made_up_result, write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.config import Config
from mnist_mlp.errors import UserError
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import read_object, remove_scratch_files, scratch_file, write_json
from mnist_mlp.runs.folder import RunFolder, is_continuation
from mnist_mlp.runs.settings import describe, differences, flatten, settings


def config(**changes: Any) -> dict[str, Any]:
    """A small nested config; `optim__lr` sets optim.lr."""
    values = {"seed": 0, "name": None, "optim__lr": 0.01, "trainer__progress": True} | changes
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition("__")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


def run(**changes: Any) -> dict[str, Any]:
    return describe(config(**changes), ["optim.lr=0.01"])


def reverse_keys(content: dict[str, Any]) -> dict[str, Any]:
    return {key: reverse_keys(value) if isinstance(value, dict) else value for key, value in reversed(content.items())}


def test_flatten_returns_dotted_keys() -> None:
    assert flatten({"a": 1, "b": {"c": [2], "d": {"e": 3}}}) == {"a": 1, "b.c": [2], "b.d.e": 3}


def test_settings_exclude_options_that_do_not_affect_the_result() -> None:
    assert settings(config()) == {"optim.lr": 0.01, "seed": 0}


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert list(reverse_keys(config())) != list(config())
    assert describe(reverse_keys(config()), [])["fingerprint"] == run()["fingerprint"]


@pytest.mark.parametrize("change", [{"name": "other"}, {"trainer__progress": False}])
def test_the_fingerprint_ignores_options_that_do_not_affect_the_result(change: dict[str, Any]) -> None:
    assert run(**change)["config"] != run()["config"]
    assert run(**change)["fingerprint"] == run()["fingerprint"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"optim__lr": 0.02}, {"optim__new": 0}])
def test_the_fingerprint_depends_on_every_setting(change: dict[str, Any]) -> None:
    assert run(**change)["fingerprint"] != run()["fingerprint"]


def test_differences_name_the_key_and_both_values() -> None:
    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == [
        "b: 2 -> 5",
        "c: 3 -> -",
        "d: - -> 4",
    ]


def test_non_finite_numbers_become_null(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (-math.inf, 2)}})
    assert read_object(tmp_path / "x.json") == {"a": None, "b": [None, 1.5], "c": {"d": [None, 2]}}


def test_content_that_is_not_json_serializable_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(target, {"a": 2, "b": object()})
    assert read_object(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*paths: object) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_json(target, {"a": 2})
    assert read_object(target) == {"a": 1}


def test_start_writes_run_json_and_the_records(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.start(run(), {".hydra/config.yaml": "seed: 0\n"})
    assert folder.run() == run()
    assert (folder.path / ".hydra" / "config.yaml").read_text() == "seed: 0\n"
    assert folder.result() is None


def test_a_run_with_the_same_settings_is_accepted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.refuse_other_settings(run())
    folder.start(run(), {})
    folder.refuse_other_settings(run(name="other"))


def test_a_run_with_other_settings_is_an_error_that_names_the_keys(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start(run(), {})
    with pytest.raises(UserError, match=r"\(optim\.lr: 0\.01 -> 0\.1; seed: 0 -> 7\): .*resume=never") as caught:
        folder.refuse_other_settings(run(seed=7, optim__lr=0.1, name="other"))
    assert str(folder.path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_missing_from_an_older_run_have_their_defaults(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    current = describe(to_dict(Config()), [])
    older = json.loads(json.dumps(current["config"]))
    del older["trainer"]["compile"], older["augment"]
    folder.start(describe(older, []), {})
    assert folder.run() != current
    folder.refuse_other_settings(current)
    compiled = describe({**current["config"], "trainer": {**current["config"]["trainer"], "compile": True}}, [])
    with pytest.raises(UserError, match=r"\(trainer\.compile: False -> True\)"):
        folder.refuse_other_settings(compiled)


def test_callbacks_that_can_change_the_result_are_part_of_a_runs_identity(tmp_path: Path) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    result = folder.result()
    assert result is not None
    plain, averaged = describe(result.config, []), describe(result.config, [], callbacks=["EMA{'decay': 0.9}"])
    assert plain == describe(result.config, [], callbacks=[])
    assert "callbacks" not in plain
    assert averaged["callbacks"] == ["EMA{'decay': 0.9}"]
    assert averaged["fingerprint"] != plain["fingerprint"]
    assert folder.finished(plain) == result
    assert folder.finished(averaged) is None
    with pytest.raises(UserError, match=r"callbacks: - -> .*EMA\{'decay': 0\.9\}.*resume=never"):
        folder.refuse_other_settings(averaged)


def test_a_result_with_callbacks_belongs_to_a_run_with_the_same_callbacks(tmp_path: Path) -> None:
    result = made_up_result()
    averaged = describe(result.config, [], callbacks=["EMA"])
    folder = RunFolder(tmp_path)
    folder.start(averaged, {})
    write_json(folder.result_file, replace(result, callbacks=["EMA"], fingerprint=averaged["fingerprint"]).to_json())
    assert json.loads(folder.result_file.read_text())["callbacks"] == ["EMA"]
    stored = folder.finished(averaged)
    assert stored is not None
    assert stored.callbacks == ["EMA"]
    assert folder.finished(describe(result.config, [], callbacks=["EMA", "SWA"])) is None
    longer = json.loads(json.dumps(result.config))
    longer["trainer"]["max_epochs"] += 1
    assert is_continuation(averaged, describe(longer, [], callbacks=["EMA"]))
    assert not is_continuation(averaged, describe(longer, []))


def test_runs_with_different_callbacks_are_not_repetitions(tmp_path: Path) -> None:
    for name in ("EMA", "SWA", ""):
        folder = RunFolder(write_run(tmp_path / f"run{name}", seed=len(name)))
        content = json.loads(folder.result_file.read_text())
        write_json(folder.result_file, {**content, "callbacks": [name]} if name else content)
    summary = summarize(find_jobs([tmp_path]))
    assert summary.keys == ["callbacks"]
    assert sorted(summary.shown_value(row, "callbacks") for row in summary.rows) == ["-", "EMA", "SWA"]


def test_a_result_is_unchanged_by_writing_and_reading(tmp_path: Path) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    result = folder.result()
    assert result is not None
    assert result.to_json() == json.loads(folder.result_file.read_text())
    assert RunFolder(tmp_path).result() is None


def test_clear_removes_only_the_files_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start(run(), {})
    write_json(folder.result_file, {"status": "finished"})
    folder.metrics_file.write_text("epoch\n")
    for path in (folder.best_checkpoint, folder.last_checkpoint, folder.tensorboard / "events.out.tfevents.1"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    unrelated = [tmp_path / "notes.txt", tmp_path / "result.json.bak", tmp_path / "plots" / "other.png"]
    unrelated += [folder.checkpoints / "other.ckpt", folder.tensorboard / "other", folder.figures / "other.png"]
    for path in unrelated:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not of the run")
    assert len(list(tmp_path.iterdir())) == 9
    folder.clear()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(unrelated)


def test_a_missing_folder_can_be_cleared(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new").clear()
    assert list(tmp_path.iterdir()) == []


def test_only_scratch_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    kept = [".other.tmp", "notes.0123456789abcdef.tmp", "summary.csv"]
    for name in (".summary.csv.0123456789abcdef.tmp", *kept):
        (tmp_path / name).touch()
    remove_scratch_files(tmp_path, tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_a_folder_with_unrelated_files_is_an_error_but_scratch_files_are_allowed(tmp_path: Path) -> None:
    scratch_file(tmp_path / "run.json").touch()
    RunFolder(tmp_path).refuse_foreign()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"is not empty .*\(thesis.tex\): choose another folder"):
        RunFolder(tmp_path).refuse_foreign()
