"""The printed page: nothing is cut off or separated from its heading. Also needs Debian's poppler-utils."""

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_curves, write_run
from reporting.pages import messages, opened, printed
from reporting.test_browser import ready

from mnist_mlp.reporting.page import write_page

pytestmark = [pytest.mark.browser, pytest.mark.integration]
PAPERS = {"A4": (8.27, 11.69), "Letter": (8.5, 11.0)}
POINTS_PER_INCH = 72
MARGIN = 14 / 25.4
"""Inches, as in print.css."""
CHARTS = {
    "Learning curves": "epoch",
    "Main effects": "dropout",
    "Accuracy vs cost": "fit time (s)",
    "Parallel coordinates": "weight_decay",
}
"""Headings, and text in their charts."""
PUSH = "document.querySelector('header').style.paddingBottom = `${arguments[0]}px`"
WIDER = """
dispatchEvent(new Event("beforeprint"));
const wider = [...document.querySelectorAll("table")].filter(table => table.offsetWidth)
  .map(table => [table.getBoundingClientRect(), table.closest("section").getBoundingClientRect(), table])
  .filter(([box, section]) => box.right > section.right + 1)
  .map(([box, section, table]) => `${table.closest("section").id}: ${box.right} > ${section.right}`);
const tables = document.querySelectorAll("table").length;
dispatchEvent(new Event("afterprint"));
return [tables, wider];
"""
AXIS_COLOR = """
dispatchEvent(new Event(arguments[0]));
const chart = echarts.getInstanceByDom(document.querySelector(".chart[data-chart=scatter] .canvas"));
return chart.getOption().xAxis[0].nameTextStyle.color;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four factors with long values, two seeds each: 32 runs, more than fit on one sheet."""
    sweep = tmp_path_factory.mktemp("outputs") / "sweep"
    for n in range(32):
        run = write_run(
            sweep / f"run_{n:02d}", range(2 + n % 7), seed=n & 1, data__root="nowhere",
            model__dropout=0.25 if n & 2 else 0.125, optim__weight_decay=0.00025 if n & 4 else 0.0,
            optim__lr=0.0375 if n & 8 else 0.00125, model__hidden_units=[512, 256, 128] if n & 16 else [1024, 32],
        )  # fmt: skip
        write_curves(run, [2 / (1 + epoch + n / 8) for epoch in range(6)])
    return write_page([sweep], sweep / "report.html")


def text_of(content: Path, *options: str) -> str:
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("needs pdftotext: install Debian's poppler-utils")
    return subprocess.run([program, *options, content, "-"], capture_output=True, text=True, check=True).stdout


def pages_of(content: Path) -> list[str]:
    """The text of each sheet."""
    return text_of(content, "-layout").rstrip("\f").split("\f")


@pytest.mark.parametrize("paper", PAPERS)
def test_nothing_is_cut_off_and_omitted_columns_are_named(browser: Any, page: Path, tmp_path: Path, paper: str) -> None:
    with opened(browser, page):
        ready(browser)
        tables, wider = browser.execute_script(WIDER)
        assert tables >= 6
        assert wider == []
        content = printed(browser, tmp_path / "page.pdf", PAPERS[paper])
        text = " ".join(text_of(content).split())
        assert "Columns omitted in print: " in text
        assert "columns filter" not in text
        assert not {"LaTeX", "smoothing", "logarithmic", "↕"} & set(text.split())
        assert "omitted in print" not in browser.execute_script("return document.body.innerText")
        for sheet in ElementTree.fromstring(text_of(content, "-bbox")).iter("{http://www.w3.org/1999/xhtml}page"):
            right = float(sheet.get("width", 0)) - POINTS_PER_INCH * MARGIN
            assert [word.text for word in sheet if float(word.get("xMax", 0)) > right + 1] == []
        assert messages(browser) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_headings_are_on_the_same_sheet_as_their_charts_at_any_offset(
    browser: Any, page: Path, tmp_path: Path, paper: str
) -> None:
    with opened(browser, page, dark=True):
        ready(browser)
        for pushed in range(0, 900, 150):
            browser.execute_script(PUSH, pushed)
            sheets = pages_of(printed(browser, tmp_path / f"{pushed}.pdf", PAPERS[paper]))
            for heading, words in CHARTS.items():
                (text,) = [sheet for sheet in sheets if f"\n{heading}" in f"\n{sheet}"]
                assert words in text.partition(heading)[2], f"{heading}, {pushed} px further down"


def test_a_table_on_two_sheets_repeats_its_header(browser: Any, page: Path, tmp_path: Path) -> None:
    with opened(browser, page):
        ready(browser)
        sheets = pages_of(printed(browser, tmp_path / "page.pdf"))
        first = next(number for number, sheet in enumerate(sheets) if "All runs" in sheet)
        assert "seed 1" in sheets[first + 1]
        assert sheets[first + 1].strip().startswith(("run ", "test "))


def test_charts_are_light_in_print_and_dark_again_afterwards(browser: Any, page: Path) -> None:
    with opened(browser, page, dark=True):
        ready(browser)
        assert browser.execute_script(AXIS_COLOR, "beforeprint") == "#59616e"
        assert browser.execute_script(AXIS_COLOR, "afterprint") == "#a3abb8"


def pictures(browser: Any, event: str) -> int:
    dispatch = "if (arguments[0]) dispatchEvent(new Event(arguments[0]));"
    count: int = browser.execute_script(f"{dispatch} return document.querySelectorAll('.chart img').length", event)
    return count


def test_a_picture_replaces_charts_that_are_not_yet_or_cannot_be_drawn(browser: Any, page: Path) -> None:
    text, modified = page.read_text(), page.with_name("modified.html")
    modified.write_text(text.replace("await unpack();", "await new Promise(() => {});"))
    with opened(browser, modified):
        assert [pictures(browser, event) for event in ("", "beforeprint", "afterprint")] == [0, 1, 0]
        assert messages(browser) == []
    modified.write_text(text.replace("new DecompressionStream(", "new NoSuchThing("))
    with opened(browser, modified):
        ready(browser)
        assert pictures(browser, "") == 1
        assert "cannot draw the charts" in browser.execute_script("return document.body.innerText")
