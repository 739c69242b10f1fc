"""Runs read from their folders, once and again."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare import collect
from mnist_mlp.compare.collect import JobReader, find_jobs, summarize, varying_keys
from mnist_mlp.runs.folder import RunFolder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that were read, in order."""
    seen: list[str] = []
    load = collect.load_job

    def counted(path: Path) -> Any:
        seen.append(path.name)
        return load(path)

    monkeypatch.setattr(collect, "load_job", counted)
    return seen


def test_a_reader_reads_again_only_what_has_changed(tmp_path: Path, reads: list[str]) -> None:
    write_run(tmp_path / "a", seed=0)
    write_unfinished(tmp_path / "b", seed=1)
    reader = JobReader()
    assert [job.status for job in reader.find([tmp_path])] == ["finished", "unfinished"]
    assert [job.status for job in reader.find([tmp_path])] == ["finished", "unfinished"]
    assert reads == ["a", "b"]
    write_failure(tmp_path / "c", "no memory", seed=2)
    (tmp_path / "b" / "result.json").write_bytes((tmp_path / "a" / "result.json").read_bytes())
    found = reader.find([tmp_path])
    assert [job.status for job in found] == ["finished", "finished", "failed"]
    assert reads == ["a", "b", "b", "c"]
    assert found == find_jobs([tmp_path])


def test_a_run_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1)
    reader = JobReader()
    reader.find([tmp_path])
    RunFolder(tmp_path / "b").archive()
    assert [job.folder.name for job in reader.find([tmp_path])] == ["a"]


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path, reads: list[str]) -> None:
    write_run(tmp_path / "a")
    (tmp_path / "a" / "result.json").write_text("{")
    reader = JobReader()
    assert [job.status for job in reader.find([tmp_path]) + reader.find([tmp_path])] == ["unreadable", "unreadable"]
    assert reads == ["a", "a"]


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
