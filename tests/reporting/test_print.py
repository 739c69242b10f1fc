"""The page on paper: nothing is cut off, or without what it belongs to. Needs Debian's poppler-utils, too."""

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
"""Inches, as print.css has it."""
CHARTS = {
    "Training and validation": "epoch",
    "What each factor does": "dropout",
    "What accuracy costs": "fit time (s)",
    "All settings at once": "weight_decay",
}
"""Headings, and what stands in their charts."""
PUSH = "document.querySelector('header').style.paddingBottom = `${arguments[0]}px`"
WIDER = """
dispatchEvent(new Event("beforeprint"));
const found = [...document.querySelectorAll("table")].filter(one => one.offsetWidth)
  .map(one => [one.getBoundingClientRect(), one.closest("section").getBoundingClientRect(), one])
  .filter(([table, section]) => table.right > section.right + 1)
  .map(([table, section, one]) => `${one.closest("section").id}: ${table.right} > ${section.right}`);
const tables = document.querySelectorAll("table").length;
dispatchEvent(new Event("afterprint"));
return [tables, found];
"""
AXIS_COLOUR = """
dispatchEvent(new Event(arguments[0]));
const chart = echarts.getInstanceByDom(document.querySelector(".chart[data-chart=scatter] .canvas"));
return chart.getOption().xAxis[0].nameTextStyle.color;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four factors with long values, two seeds each: 32 runs, more than a sheet's worth of them."""
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
def test_nothing_is_cut_off_and_columns_that_are_left_out_are_named(
    browser: Any, page: Path, tmp_path: Path, paper: str
) -> None:
    with opened(browser, page):
        ready(browser)
        tables, wider = browser.execute_script(WIDER)
        assert tables >= 6
        assert wider == []
        content = printed(browser, tmp_path / "page.pdf", PAPERS[paper])
        text = " ".join(text_of(content).split())
        assert "Not on paper for want of room, but in the page and the runs' files: " in text
        assert "columns filter" not in text
        assert not {"LaTeX", "smoothing", "logarithmic", "↕"} & set(text.split())
        assert "Not on paper" not in browser.execute_script("return document.body.innerText")
        for sheet in ElementTree.fromstring(text_of(content, "-bbox")).iter("{http://www.w3.org/1999/xhtml}page"):
            right = float(sheet.get("width", 0)) - POINTS_PER_INCH * MARGIN
            assert [word.text for word in sheet if float(word.get("xMax", 0)) > right + 1] == []
        assert messages(browser) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_no_heading_is_on_another_sheet_than_its_chart_wherever_they_fall(
    browser: Any, page: Path, tmp_path: Path, paper: str
) -> None:
    with opened(browser, page, dark=True):
        ready(browser)
        for pushed in range(0, 900, 150):
            browser.execute_script(PUSH, pushed)
            sheets = pages_of(printed(browser, tmp_path / f"{pushed}.pdf", PAPERS[paper]))
            for heading, told in CHARTS.items():
                (sheet,) = [one for one in sheets if f"\n{heading}" in f"\n{one}"]
                assert told in sheet.partition(heading)[2], f"{heading}, {pushed} px further down"


def test_a_table_over_two_sheets_has_its_header_on_both(browser: Any, page: Path, tmp_path: Path) -> None:
    with opened(browser, page):
        ready(browser)
        sheets = pages_of(printed(browser, tmp_path / "page.pdf"))
        first = next(number for number, sheet in enumerate(sheets) if "Every run" in sheet)
        assert "seed=1" in sheets[first + 1]
        assert sheets[first + 1].strip().startswith(("run ", "test "))


def test_charts_are_light_on_paper_and_dark_again_afterwards(browser: Any, page: Path) -> None:
    with opened(browser, page, dark=True):
        ready(browser)
        assert browser.execute_script(AXIS_COLOUR, "beforeprint") == "#59616e"
        assert browser.execute_script(AXIS_COLOUR, "afterprint") == "#a3abb8"


def pictures(browser: Any, event: str) -> int:
    fire = "if (arguments[0]) dispatchEvent(new Event(arguments[0]));"
    found: int = browser.execute_script(f"{fire} return document.querySelectorAll('.chart img').length", event)
    return found


def test_a_picture_stands_for_the_curves_that_are_not_drawn_yet_or_cannot_be(browser: Any, page: Path) -> None:
    text, other = page.read_text(), page.with_name("other.html")
    other.write_text(text.replace("await unpack();", "await new Promise(() => {});"))
    with opened(browser, other):
        assert [pictures(browser, event) for event in ("", "beforeprint", "afterprint")] == [0, 1, 0]
        assert messages(browser) == []
    other.write_text(text.replace("new DecompressionStream(", "new NoSuchThing("))
    with opened(browser, other):
        ready(browser)
        assert pictures(browser, "") == 1
        assert "cannot draw the charts" in browser.execute_script("return document.body.innerText")
