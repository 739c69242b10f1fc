"""Invalid files in a run folder are reported with their path and the reason; reading never blocks or crashes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import row_label, summarize
from mnist_mlp.compare.load import find_jobs, load_job
from mnist_mlp.compare.tables import as_markdown, write_summary
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.files import UnreadableFileError, read_object
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves, read_predictions


def damage(path: Path, fault: str) -> None:
    path.unlink(missing_ok=True)
    if fault == "fifo":
        os.mkfifo(path)
    elif fault == "folder":
        path.mkdir()
    elif fault == "link to itself":
        path.symlink_to(path.name)
    else:
        path.write_bytes(CONTENTS[fault])


CONTENTS = {
    "empty": b"",
    "truncated": b'{"status": "fin',
    "a list": b"[]",
    "not a number": b'{"status": NaN}',
    "not UTF-8": b'{"status": "\xff"}',
    "deep": b'{"a":' * 100_000,
    "less deep": b'{"a":' * 30 + b"1" + b"}" * 30,
    "long number": b'{"a": ' + b"9" * 5000 + b"}",
}
REASONS = {
    "fifo": "not a regular file", "folder": "not a regular file", "link to itself": "symbolic link", "empty": "empty",
    "truncated": "Unterminated string", "a list": "not a JSON object", "not a number": "NaN is not valid JSON",
    "not UTF-8": "not UTF-8", "deep": "nested too deeply",
    "less deep": "nested too deeply", "long number": "4300 digits",
}  # fmt: skip


@pytest.mark.parametrize("fault", REASONS)
def test_an_unreadable_file_is_a_one_line_error_with_the_reason(tmp_path: Path, fault: str) -> None:
    damage(tmp_path / "x.json", fault)
    with pytest.raises(UnreadableFileError, match=REASONS[fault]) as caught:
        read_object(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_object(tmp_path / "x.json") is None
    assert RunFolder(tmp_path / "missing").result() is None


def test_a_lone_surrogate_becomes_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ["\\ud800"]}')
    assert read_object(tmp_path / "x.json") == {"a": ["?"]}


CHANGES: list[tuple[str, Any, str]] = [
    ("schema_version", 2, "'schema_version' must be 1 for this version of mnist_mlp, got 2"),
    ("status", "done", "'status' must be 'finished' or 'diverged', got 'done'"),
    ("epochs", True, "'epochs' must be an integer >= 1, got True"),
    ("metrics.test/accuracy", "0.9", "'metrics.test/accuracy' must be a number from 0 to 1 or null, got '0.9'"),
    ("metrics.test/accuracy", 97.5, "'metrics.test/accuracy' must be a number from 0 to 1 or null, got 97.5"),
    ("metrics.test/loss", 10**400, "'metrics.test/loss' must be a number or null, got 1000"),
    ("metrics.val/accuracy", [], "'metrics.val/accuracy' must be a number from 0 to 1 or null, got a list"),
    ("per_class.f1", [0.9], "'per_class', 'confusion_matrix' and 'config.reference' must have 10 classes"),
    ("confusion_matrix", [[1] * 10] * 9, "'per_class', 'confusion_matrix' and 'config.reference' must have 10 classes"),
    ("confusion_matrix", [[2] * 10] * 10, "'confusion_matrix' has 200 images, but 'data.test' is 100"),
    ("config.seed", "0", "'config.seed' must be an integer >= 0, got '0'"),
    ("config.optim", 5, "'config.optim' must be an object, got 5"),
    ("config.model.hidden_units", [None], "'config.model.hidden_units' must be an integer >= 1, got None"),
    ("config.reference.f1_per_class", [0.9], "'config.reference' must have 10 classes"),
    ("config.reference.f1_per_class", ["0.9"], "'config.reference.f1_per_class' must be a number, got '0.9'"),
    ("config.reference.claims", [{"claim": 3}], "must be a string, got 3"),
    ("environment.threads", None, "'environment.threads' must be an integer >= 0, got None"),
]


@pytest.mark.parametrize(("key", "value", "reason"), CHANGES, ids=[f"{key}={value!s:.12}" for key, value, _ in CHANGES])
def test_an_invalid_value_in_a_result_is_reported_with_its_key(
    tmp_path: Path, key: str, value: Any, reason: str
) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    content = json.loads(folder.result_file.read_text())
    *groups, name = key.split(".")
    parent = content
    for group in groups:
        parent = parent[group]
    parent[name] = value
    folder.result_file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFileError) as caught:
        folder.result()
    assert reason in str(caught.value)
    job = load_job(folder.path)
    assert job is not None
    assert job.status == "unreadable"
    assert reason in job.reason


@pytest.mark.parametrize("key", ["metrics", "config", "environment", "data"])
def test_a_missing_key_in_a_result_is_reported(tmp_path: Path, key: str) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    content = json.loads(folder.result_file.read_text())
    del content[key]
    folder.result_file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFileError, match=f"'{key}' is missing"):
        folder.result()


@pytest.mark.parametrize("name", ["result.json", "run.json", "failure.json"])
@pytest.mark.parametrize("fault", ["fifo", "deep", "a list"])
def test_an_unreadable_run_is_a_row_with_the_reason(tmp_path: Path, name: str, fault: str) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"valid_{seed}", seed=seed)
    write_failure(tmp_path / "failed", "a reason")
    write_unfinished(tmp_path / "unfinished")
    (tmp_path / "damaged").mkdir()
    damage(tmp_path / "damaged" / name, fault)
    summary = write_summary(tmp_path)
    assert summary is not None
    assert sorted(job.status for row in summary.rows for job in row.jobs) == [
        *("failed", "finished", "finished", "unfinished", "unreadable"),
    ]
    assert f"{name} cannot be read ({REASONS[fault]}" in as_markdown(summary)
    page = write_page([tmp_path], tmp_path / "page.html").read_text()
    assert f"{name} cannot be read ({REASONS[fault]}" in page
    assert summary.keys == summarize(find_jobs([tmp_path / "valid_0", tmp_path / "valid_1"])).keys


def test_unreadable_runs_count_for_their_setting_or_if_it_is_unknown_have_their_own_row(tmp_path: Path) -> None:
    for seed in (0, 1, 2, 3):
        write_unfinished(tmp_path / f"damaged_{seed}", seed=seed)
        damage(tmp_path / f"damaged_{seed}" / "result.json", "deep")
    for seed in (2, 3):
        (tmp_path / f"damaged_{seed}" / "run.json").unlink()
    summary = summarize(find_jobs([tmp_path]))
    names = [[job.folder.name for job in row.jobs] for row in summary.rows]
    assert names == [["damaged_0", "damaged_1"], ["damaged_2"], ["damaged_3"]]
    assert [row_label(summary, row) for row in summary.rows] == ["", "damaged_2", "damaged_3"]
    assert summary.notes[0] == "Of the only setting, 2 of 2 runs unreadable (not in the means)."
    assert summary.notes[1] == "Unreadable, so in no setting: damaged_2, damaged_3."


@pytest.mark.parametrize("fault", ["fifo", "folder", "empty", "not UTF-8"])
def test_unreadable_curves_and_predictions_are_treated_as_missing(tmp_path: Path, fault: str) -> None:
    folder = RunFolder(write_run(tmp_path / "run"))
    assert read_curves(folder.metrics_file)
    assert read_predictions(folder)
    for path in (folder.metrics_file, folder.predictions_file):
        damage(path, fault)
    assert "train/loss" not in read_curves(folder.metrics_file)
    assert read_predictions(folder) is None
    write_page([folder.path], tmp_path / "page.html")


def write_arrays(folder: RunFolder, truth: Any, prediction: Any, probabilities: Any) -> None:
    np.savez(folder.predictions_file, truth=truth, prediction=prediction, probabilities=probabilities)


def test_invalid_arrays_are_not_read_as_predictions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    digits, uniform = np.arange(10), np.full((10, 10), 0.1)
    write_arrays(folder, digits, digits, uniform)
    assert read_predictions(folder) is not None
    for arrays in (
        (digits, digits[:9], uniform), (digits, digits, uniform[:, :9]), (digits + 1, digits, uniform),
        (digits, digits - 1, uniform), (digits * 1.5, digits, uniform), (np.array([{}] * 10), digits, uniform),
        (digits, digits, np.full((10, 10), "0.1")), (digits[:0], digits[:0], uniform[:0]),
    ):  # fmt: skip
        write_arrays(folder, *arrays)
        assert read_predictions(folder) is None
