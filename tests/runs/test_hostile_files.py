"""Property tests: arbitrary files in a run folder are read or reported with a reason, and text stays text."""

import copy
import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hostile_input import cases
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs, load_job
from mnist_mlp.compare.tables import as_markdown, as_text
from mnist_mlp.reporting.page import render_page
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves, read_predictions

STATUSES = {"finished", "diverged", "failed", "unfinished", "unreadable"}
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner), max_leaves=6
)
WRITERS = {
    "result.json": lambda folder: write_run(folder),
    "run.json": lambda folder: write_unfinished(folder),
    "failure.json": lambda folder: write_failure(folder, "a reason"),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("originals")
    for name, write in WRITERS.items():
        write(root / name.partition(".")[0])
    return {name: json.loads((root / name.partition(".")[0] / name).read_text()) for name in WRITERS}


def key_paths(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all nested values, each a tuple of keys."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [*([path] if path else []), *(deeper for key, value in inner for deeper in key_paths(value, (*path, key)))]


def replace_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def assert_has_valid_summary(folder: Path) -> None:
    job = load_job(folder)
    assert job is not None
    assert job.status in STATUSES
    assert job.reason or job.status not in ("unreadable",)
    summary = summarize([job])
    (as_text(summary) + as_markdown(summary)).encode()


@pytest.mark.parametrize("name", WRITERS)
@cases(20, 1500)
@given(data=st.data())
def test_a_file_with_any_value_changed_is_read_or_reported(
    name: str, data: st.DataObject, originals: dict[str, Any], tmp_path: Path
) -> None:
    path = data.draw(st.sampled_from(key_paths(originals[name])))
    (tmp_path / name).write_text(json.dumps(replace_value(originals[name], path, data.draw(values))))
    assert_has_valid_summary(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
@cases(15, 700)
@given(data=st.data())
def test_a_file_with_any_bytes_changed_is_read_or_reported(
    name: str, data: st.DataObject, originals: dict[str, Any], tmp_path: Path
) -> None:
    content = bytearray(json.dumps(originals[name]).encode())
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    content[start:end] = data.draw(st.binary(max_size=20))
    (tmp_path / name).write_bytes(content)
    assert_has_valid_summary(tmp_path)


@cases(30, 1000)
@given(content=st.binary(max_size=200) | st.text(alphabet="epoch,train/loss.0123456789eE+-\n\"'", max_size=300))
def test_curves_are_always_numbers(content: bytes | str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for column in read_curves(tmp_path / "metrics.csv").values():
        assert all(isinstance(value, float) and not abs(value) > 1e100 for value in column)


@cases(15, 800)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_predictions_are_always_digits(seed: int, count: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = RunFolder(tmp_path_factory.getbasetemp() / "predicted")
    if not folder.path.exists():
        write_run(folder.path)
        (folder.path / "original").write_bytes(folder.predictions_file.read_bytes())
    content, generator = bytearray((folder.path / "original").read_bytes()), random.Random(seed)
    for _ in range(count):
        content[generator.randrange(len(content))] = generator.randrange(256)
    folder.predictions_file.write_bytes(content)
    predictions = read_predictions(folder)
    assert predictions is None or (predictions.truth.min() >= 0 and predictions.predicted.max() <= 9)


MARKUP = ["<script>x</script>", "'\"><img src=x onerror=y>", "$\\frac$", "{{7*7}}", "</td><td onclick=z>"]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        assert not any(name.startswith("on") for name, _ in attrs)


@cases(2, 300)
@given(text=st.text(max_size=12) | st.sampled_from(MARKUP))
def test_text_from_a_run_folder_is_escaped_on_the_page(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("page")
    marked = write_failure(root / "failed", f"x{text.encode('utf-8', 'replace').decode()}")
    plain = write_failure(root / "plain", "x")
    tags = [Tags(render_page(find_jobs([folder]), title)).counts for folder, title in ((marked, text), (plain, "x"))]
    assert tags[0] == tags[1]
