"""What a reader sees first of the page of a sweep, on a monitor and on a phone; needs a browser."""

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_curves, write_run
from reporting.pages import faults, opened, press, screenshot, texts

from mnist_mlp.reporting.page import write_page

pytestmark = [pytest.mark.browser, pytest.mark.integration]
BOTTOM = (
    "return Math.max(...[...document.querySelectorAll(arguments[0])].map(item => item.getBoundingClientRect().bottom))"
)
CONTENTS = "return document.querySelector('.contents dl').checkVisibility()"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two factors with two levels and three seeds."""
    sweep = tmp_path_factory.mktemp("outputs") / "sweep"
    for n in range(12):
        run = write_run(
            sweep / str(n), range(3 + n % 3 + 4 * (n // 6)), seed=n % 3, data__root="nowhere",
            optim__lr=0.1 if n // 3 % 2 else 0.2, optim__momentum=0.9 if n // 6 else 0.5,
        )  # fmt: skip
        write_curves(run, [2 / (1 + epoch + n / 8) for epoch in range(6)])
    return write_page([sweep], sweep / "report.html")


def test_the_first_screen_has_the_winner_all_settings_the_effects_and_the_facts(browser: Any, page: Path) -> None:
    with opened(browser, page):
        assert "is best" in texts(browser, ".lead strong")[0]
        assert len(texts(browser, ".answer tbody tr")) == 4
        assert len(texts(browser, ".effects li")) == 2
        assert browser.execute_script(BOTTOM, ".answer tr, .effects li") < 800
        assert browser.execute_script(CONTENTS)
        browser.execute_script("scrollTo(0, 1500)")
        assert 0 < browser.execute_script(BOTTOM, ".contents") <= 900  # the menu stays


def test_a_phone_has_the_answer_within_two_screens_and_the_facts_on_demand(browser: Any, page: Path) -> None:
    with opened(browser, page, 390):
        assert browser.execute_script(BOTTOM, ".answer tr, .effects li") < 2 * 844
        assert not browser.execute_script(CONTENTS)
        browser.find_element("css selector", ".contents summary").click()
        assert browser.execute_script(CONTENTS)
        assert faults(browser) == []


def test_a_row_of_the_chart_is_selected_with_mouse_and_keyboard(browser: Any, page: Path) -> None:
    with opened(browser, page):
        rows = browser.find_elements("css selector", ".answer tbody tr")
        rows[1].find_element("css selector", ".axis").click()
        runs = rows[1].get_attribute("data-runs")
        assert browser.execute_script("return Report.selection().join(' ')") == runs
        assert "selected" in rows[1].get_attribute("class")
        assert len(browser.find_elements("css selector", f"tr.selected[data-runs='{runs}']")) > 1
        press(browser, "ESCAPE")
        browser.execute_script("arguments[0].querySelector('button').focus()", rows[2])
        press(browser, "ENTER")
        assert "selected" in rows[2].get_attribute("class")


def test_the_chart_needs_no_scripts(browser: Any, page: Path, tmp_path: Path) -> None:
    with opened(browser, page, scripts=False):
        assert min(dot.size["width"] for dot in browser.find_elements("css selector", ".answer .mean")) > 5
        assert screenshot(browser, tmp_path / "page.png").stat().st_size > 0
