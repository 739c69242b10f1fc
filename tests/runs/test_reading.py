"""Files of a run folder that are not what they should be are named, with the reason; nothing waits or crashes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import find_jobs, load_job, summarize
from mnist_mlp.compare.tables import as_markdown, write_summary
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.files import UnreadableFileError, read_object
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves, read_predictions


def spoilt(path: Path, how: str) -> None:
    path.unlink(missing_ok=True)
    if how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "link to itself":
        path.symlink_to(path.name)
    else:
        path.write_bytes(CONTENTS[how])


CONTENTS = {
    "empty": b"",
    "cut off": b'{"status": "fin',
    "a list": b"[]",
    "not a number": b'{"status": NaN}',
    "not UTF-8": b'{"status": "\xff"}',
    "deep": b'{"a":' * 100_000,
    "less deep": b'{"a":' * 30 + b"1" + b"}" * 30,
    "long number": b'{"a": ' + b"9" * 5000 + b"}",
}
REASONS = {
    "fifo": "not a regular file", "folder": "not a regular file", "link to itself": "symbolic link", "empty": "empty",
    "cut off": "Unterminated string", "a list": "not a JSON object", "not a number": "NaN is not JSON",
    "not UTF-8": "not UTF-8", "deep": "nested too deeply",
    "less deep": "nested too deeply", "long number": "4300 digits",
}  # fmt: skip


@pytest.mark.parametrize("how", REASONS)
def test_what_cannot_be_read_is_refused_in_a_line_that_says_why(tmp_path: Path, how: str) -> None:
    spoilt(tmp_path / "x.json", how)
    with pytest.raises(UnreadableFileError, match=REASONS[how]) as caught:
        read_object(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    assert read_object(tmp_path / "x.json") is None
    assert RunFolder(tmp_path / "nowhere").result() is None


def test_half_a_surrogate_pair_is_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ["\\ud800"]}')
    assert read_object(tmp_path / "x.json") == {"a": ["?"]}


CHANGES: list[tuple[str, Any, str]] = [
    ("schema_version", 2, "'schema_version' is 2, but this version of mnist_mlp reads 1"),
    ("status", "done", "'status' is 'done', but should be 'finished' or 'diverged'"),
    ("epochs", True, "'epochs' is True, but should be a whole number"),
    ("metrics.test/accuracy", "0.9", "'metrics.test/accuracy' is '0.9', but should be a number from 0 to 1"),
    ("metrics.test/accuracy", 97.5, "'metrics.test/accuracy' is 97.5"),
    ("metrics.test/loss", 10**400, "'metrics.test/loss' is 1000"),
    ("metrics.val/accuracy", [], "'metrics.val/accuracy' is a list"),
    ("per_class.f1", [0.9], "'per_class.f1' is a list, but should be a list of 10"),
    ("confusion_matrix", [[1] * 10] * 9, "'confusion_matrix' is a list, but should be a list of 10"),
    ("confusion_matrix", [[2] * 10] * 10, "'confusion_matrix' has 200 images, but 'data' says 100"),
    ("config.seed", "0", "'config.seed' is '0', but should be a whole number"),
    ("config.optim", 5, "'config.optim' is 5, but should be an object"),
    ("config.model.hidden_units", [None], "'config.model.hidden_units' is None"),
    ("config.reference.f1_per_class", [0.9], "'config.reference.f1_per_class' is a list, but should be a list of 10"),
    ("config.reference.claims", [{"claim": 3}], "is 3, but should be a text"),
    ("environment.threads", None, "'environment.threads' is None"),
]


@pytest.mark.parametrize(("key", "value", "reason"), CHANGES, ids=[f"{key}={value!s:.12}" for key, value, _ in CHANGES])
def test_a_result_that_does_not_hold_what_it_should_says_which_key(
    tmp_path: Path, key: str, value: Any, reason: str
) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    content = json.loads(folder.result_file.read_text())
    *groups, last = key.split(".")
    place = content
    for group in groups:
        place = place[group]
    place[last] = value
    folder.result_file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFileError) as caught:
        folder.result()
    assert reason in str(caught.value)
    job = load_job(folder.path)
    assert job is not None
    assert job.status == "unreadable"
    assert reason in job.reason


@pytest.mark.parametrize("key", ["metrics", "config", "environment", "data"])
def test_a_result_without_a_key_says_which(tmp_path: Path, key: str) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    content = json.loads(folder.result_file.read_text())
    del content[key]
    folder.result_file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFileError, match=f"'{key}' is missing"):
        folder.result()


@pytest.mark.parametrize("name", ["result.json", "run.json", "failure.json"])
@pytest.mark.parametrize("how", ["fifo", "deep", "a list"])
def test_a_broken_folder_is_a_marked_row_beside_the_others(tmp_path: Path, name: str, how: str) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"good_{seed}", seed=seed)
    write_failure(tmp_path / "failed", "a reason")
    write_unfinished(tmp_path / "unfinished")
    (tmp_path / "broken").mkdir()
    spoilt(tmp_path / "broken" / name, how)
    summary = write_summary(tmp_path)
    assert summary is not None
    assert sorted(job.status for row in summary.rows for job in row.jobs) == [
        *("failed", "finished", "finished", "unfinished", "unreadable"),
    ]
    assert f"{name} cannot be read ({REASONS[how]}" in as_markdown(summary)
    page = write_page([tmp_path], tmp_path / "page.html").read_text()
    assert f"{name} cannot be read ({REASONS[how]}" in page
    assert summary.keys == summarize(find_jobs([tmp_path / "good_0", tmp_path / "good_1"])).keys


def test_two_folders_that_cannot_be_read_are_two_rows(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_unfinished(tmp_path / f"broken_{seed}", seed=seed)
        spoilt(tmp_path / f"broken_{seed}" / "result.json", "deep")
    rows = summarize(find_jobs([tmp_path])).rows
    assert [[job.folder.name for job in row.jobs] for row in rows] == [["broken_0"], ["broken_1"]]


@pytest.mark.parametrize("how", ["fifo", "folder", "empty", "not UTF-8"])
def test_curves_and_predictions_that_cannot_be_read_are_missing(tmp_path: Path, how: str) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    assert read_curves(folder.metrics_file)
    assert read_predictions(folder)
    for path in (folder.metrics_file, folder.predictions_file):
        spoilt(path, how)
    assert "train/loss" not in read_curves(folder.metrics_file)
    assert read_predictions(folder) is None
    write_page([folder.path], tmp_path / "page.html")


def write_arrays(folder: RunFolder, truth: Any, prediction: Any, probabilities: Any) -> None:
    np.savez(folder.predictions_file, truth=truth, prediction=prediction, probabilities=probabilities)


def test_arrays_that_do_not_belong_together_are_no_predictions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    digits, even = np.arange(10), np.full((10, 10), 0.1)
    write_arrays(folder, digits, digits, even)
    assert read_predictions(folder) is not None
    for arrays in (
        (digits, digits[:9], even), (digits, digits, even[:, :9]), (digits + 1, digits, even),
        (digits, digits - 1, even),
        (digits * 1.5, digits, even), (digits, digits, np.full((10, 10), "0.1")), (digits[:0], digits[:0], even[:0]),
        (np.array([{}] * 10), digits, even),
    ):  # fmt: skip
        write_arrays(folder, *arrays)
        assert read_predictions(folder) is None
