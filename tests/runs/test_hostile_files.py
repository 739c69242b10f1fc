"""Properties of whatever a run folder may hold: it is read, or it is a row with a reason; text stays text."""

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

from mnist_mlp.compare.collect import find_jobs, load_job, summarize
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
    made = tmp_path_factory.mktemp("originals")
    for name, write in WRITERS.items():
        write(made / name.partition(".")[0])
    return {name: json.loads((made / name.partition(".")[0] / name).read_text()) for name in WRITERS}


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of keys to every value in a nested one."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [*([path] if path else []), *(one for key, value in inner for one in places(value, (*path, key)))]


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(content)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made


def shown(folder: Path) -> None:
    """Everything that is made of a folder is made of it."""
    job = load_job(folder)
    assert job is not None
    assert job.status in STATUSES
    assert job.reason or job.status not in ("unreadable",)
    summary = summarize([job])
    (as_text(summary) + as_markdown(summary)).encode()


@pytest.mark.parametrize("name", WRITERS)
@cases(20, 1500)
@given(data=st.data())
def test_a_file_with_any_value_changed_is_read_or_refused(
    name: str, data: st.DataObject, originals: dict[str, Any], tmp_path: Path
) -> None:
    place = data.draw(st.sampled_from(places(originals[name])))
    (tmp_path / name).write_text(json.dumps(changed(originals[name], place, data.draw(values))))
    shown(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
@cases(15, 700)
@given(data=st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(
    name: str, data: st.DataObject, originals: dict[str, Any], tmp_path: Path
) -> None:
    content = bytearray(json.dumps(originals[name]).encode())
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    content[start:end] = data.draw(st.binary(max_size=20))
    (tmp_path / name).write_bytes(content)
    shown(tmp_path)


@cases(30, 1000)
@given(content=st.binary(max_size=200) | st.text(alphabet="epoch,train/loss.0123456789eE+-\n\"'", max_size=300))
def test_curves_are_numbers_whatever_the_file_holds(content: bytes | str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for column in read_curves(tmp_path / "metrics.csv").values():
        assert all(isinstance(value, float) and not abs(value) > 1e100 for value in column)


@cases(15, 800)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_predictions_are_digits_whatever_the_file_holds(
    seed: int, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = RunFolder(tmp_path_factory.getbasetemp() / "predicted")
    if not folder.path.exists():
        write_run(folder.path)
        (folder.path / "whole").write_bytes(folder.predictions_file.read_bytes())
    content, random_place = bytearray((folder.path / "whole").read_bytes()), random.Random(seed)
    for _ in range(count):
        content[random_place.randrange(len(content))] = random_place.randrange(256)
    folder.predictions_file.write_bytes(content)
    found = read_predictions(folder)
    assert found is None or (found.truth.min() >= 0 and found.predicted.max() <= 9)


EVIL = ["<script>x</script>", "'\"><img src=x onerror=y>", "$\\frac$", "{{7*7}}", "</td><td onclick=z>"]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.kinds: dict[str, int] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds[tag] = self.kinds.get(tag, 0) + 1
        assert not any(name.startswith("on") for name, _ in attrs)


@cases(2, 300)
@given(text=st.text(max_size=12) | st.sampled_from(EVIL))
def test_text_from_a_run_folder_is_text_on_the_page(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = tmp_path_factory.mktemp("page")
    write_failure(made / "failed", f"x{text.encode('utf-8', 'replace').decode()}")
    plain = write_failure(made / "plain", "x")
    pages = ((made / "failed", text), (plain, "x"))
    tags = [Tags(render_page(find_jobs([folder]), title)).kinds for folder, title in pages]
    assert tags[0] == tags[1]
