"""Runs are read from their folders, and read again only if they changed."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import summarize, varying_keys
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.runs.folder import FolderLock, RunFolder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that were read, in order."""
    names: list[str] = []
    failure = RunFolder.failure

    def recording(folder: RunFolder) -> Any:
        names.append(folder.path.name)
        return failure(folder)

    monkeypatch.setattr(RunFolder, "failure", recording)
    return names


def test_only_changed_runs_are_read_again(tmp_path: Path, reads: list[str]) -> None:
    write_run(tmp_path / "a", seed=0)
    write_unfinished(tmp_path / "b", seed=1)
    assert [job.status for job in find_jobs([tmp_path])] == ["finished", "unfinished"]
    assert [job.status for job in find_jobs([tmp_path])] == ["finished", "unfinished"]
    assert reads == ["a", "b"]
    write_failure(tmp_path / "c", "no memory", seed=2)
    (tmp_path / "b" / "result.json").write_bytes((tmp_path / "a" / "result.json").read_bytes())
    assert [job.status for job in find_jobs([tmp_path])] == ["finished", "finished", "failed"]
    assert reads == ["a", "b", "b", "c"]


def test_an_archived_run_is_not_served_from_the_cache(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1)
    assert len(find_jobs([tmp_path])) == 2
    RunFolder(tmp_path / "b").archive(FolderLock(tmp_path / "b").acquire())
    assert [job.folder.name for job in find_jobs([tmp_path])] == ["a"]


def test_an_unreadable_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: b"{")
        assert [job.status for job in find_jobs([tmp_path])] == ["unreadable"]
    assert [job.status for job in find_jobs([tmp_path])] == ["finished"]


def test_runs_are_searched_below_a_run_but_not_in_its_own_subfolders(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "a" / "again")
    write_run(tmp_path / "a" / "figures" / "not_a_run")
    assert [job.folder.name for job in find_jobs([tmp_path])] == ["a", "again"]


@pytest.mark.parametrize("file", ["result.json", "run.json", "failure.json"])
def test_a_setting_missing_from_an_older_run_takes_its_default(tmp_path: Path, file: str) -> None:
    write = {"result.json": write_run, "run.json": write_unfinished}.get(file, partial(write_failure, reason="none"))
    for seed in (0, 1):
        write(tmp_path / str(seed), seed=seed)
    older = json.loads((tmp_path / "1" / file).read_text())
    del older["config"]["optim"]["teacher"], older["config"]["optim"]["ema"], older["config"]["augment"]
    (tmp_path / "1" / file).write_text(json.dumps(older))
    jobs = find_jobs([tmp_path])
    assert varying_keys(jobs) == ["seed"]
    assert jobs[1].settings["augment.elastic_sigma"] == 5.0
    assert len(summarize(jobs).rows) == 1


def test_a_job_with_an_invalid_setting_has_its_depth_and_a_row_of_its_own(tmp_path: Path) -> None:
    """Its depth follows from the widths only after validation; failure.json has the settings before."""
    write_run(tmp_path / "a", seed=0, optim__lr=0.1)
    unresolved = {"model__hidden_layers": None, "model__hidden_units": 256}
    write_failure(tmp_path / "b", "optim.lr=-1.0 is out of range", seed=0, optim__lr=-1.0, **unresolved)
    summary = summarize(find_jobs([tmp_path]))
    assert summary.keys == ["optim.lr"]
    assert [job.settings["model.hidden_layers"] for job in summary.jobs] == [3, 3]
