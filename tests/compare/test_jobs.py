"""Runs read from their folders, once and again."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import find_jobs, summarize, varying_keys
from mnist_mlp.runs.folder import RunFolder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that were read, in order."""
    seen: list[str] = []
    failure = RunFolder.failure

    def counted(folder: RunFolder) -> Any:
        seen.append(folder.path.name)
        return failure(folder)

    monkeypatch.setattr(RunFolder, "failure", counted)
    return seen


def test_only_what_has_changed_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    write_run(tmp_path / "a", seed=0)
    write_unfinished(tmp_path / "b", seed=1)
    assert [job.status for job in find_jobs([tmp_path])] == ["finished", "unfinished"]
    assert [job.status for job in find_jobs([tmp_path])] == ["finished", "unfinished"]
    assert reads == ["a", "b"]
    write_failure(tmp_path / "c", "no memory", seed=2)
    (tmp_path / "b" / "result.json").write_bytes((tmp_path / "a" / "result.json").read_bytes())
    assert [job.status for job in find_jobs([tmp_path])] == ["finished", "finished", "failed"]
    assert reads == ["a", "b", "b", "c"]


def test_a_run_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1)
    assert len(find_jobs([tmp_path])) == 2
    RunFolder(tmp_path / "b").archive()
    assert [job.folder.name for job in find_jobs([tmp_path])] == ["a"]


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: b"{")
        assert [job.status for job in find_jobs([tmp_path])] == ["unreadable"]
    assert [job.status for job in find_jobs([tmp_path])] == ["finished"]


def test_runs_are_looked_for_below_a_run_but_not_among_its_own_parts(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "a" / "again")
    write_run(tmp_path / "a" / "figures" / "no_run")
    assert [job.folder.name for job in find_jobs([tmp_path])] == ["a", "again"]


@pytest.mark.parametrize("file", ["result.json", "run.json", "failure.json"])
def test_a_setting_that_an_older_run_does_not_know_has_its_default(tmp_path: Path, file: str) -> None:
    write = {"result.json": write_run, "run.json": write_unfinished}.get(file, partial(write_failure, reason="none"))
    for seed in (0, 1):
        write(tmp_path / str(seed), seed=seed)
    older = json.loads((tmp_path / "1" / file).read_text())
    del older["config"]["optim"]["teacher"], older["config"]["optim"]["ema"], older["config"]["augment"]
    (tmp_path / "1" / file).write_text(json.dumps(older))
    found = find_jobs([tmp_path])
    assert varying_keys(found) == ["seed"]
    assert found[1].settings["augment.elastic_sigma"] == 5.0
    assert len(summarize(found).rows) == 1
