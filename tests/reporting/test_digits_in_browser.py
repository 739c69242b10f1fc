"""The digit browser as its reader uses it: by mouse, by keyboard, at any width, with scripts and without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import TRUTH, write_run
from reporting.pages import SCREENS, faults, opened, press, texts

from mnist_mlp.reporting.page import write_page

pytestmark = pytest.mark.browser
WRONG = [place for place in range(100) if TRUTH[place] == 4][:3]
"""Three fours, which the made-up runs take for fives."""
READY = "return document.querySelector('.digits').dataset.ready === 'true'"
FOCUS = "const at = document.activeElement; return at.getAttribute('aria-label') || at.tagName"
TOLD = "window.told = []; document.addEventListener('select-runs', event => told.push(event.detail))"


@contextmanager
def digits(browser: Any, page: Path, width: int = 1280, dark: bool = False) -> Iterator[Any]:
    from selenium.webdriver.support.ui import WebDriverWait

    with opened(browser, page, width, dark):
        WebDriverWait(browser, 20).until(lambda one: one.execute_script(READY))
        yield browser


def cell(browser: Any, truth: int, said: int) -> Any:
    return browser.find_element("css selector", f".confusion tbody tr:nth-child({truth + 1}) td:nth-child({said + 2})")


def head(browser: Any) -> str:
    return texts(browser, ".panel .head")[0]


@pytest.fixture
def one(tmp_path: Path, idx_root: Path) -> Path:
    run = write_run(tmp_path / "one", WRONG, data__root=str(idx_root))
    return write_page([run], tmp_path / "one.html")


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_a_cell_opens_its_digits_with_what_the_net_said_of_them(
    browser: Any, one: Path, width: int, dark: bool
) -> None:
    with digits(browser, one, width, dark):
        assert head(browser) == "true 4, predicted 5: 1 of 3"  # the worst confusion is open from the start
        cell(browser, 7, 7).click()
        assert head(browser) == "true 7, predicted 7: 1 of 10"
        cell(browser, 4, 5).click()
        assert texts(browser, ".says p")[1] == "says 5 ✗"
        assert texts(browser, ".bars tbody tr .value") == [
            *(["1 %"] * 4), "1 % true", "91 %", *(["1 %"] * 4),
        ]  # fmt: skip
        seen = []
        for number in range(3):
            assert head(browser) == f"true 4, predicted 5: {number + 1} of 3"
            seen.append(texts(browser, ".says p")[0])
            press(browser, "ARROW_RIGHT")
        assert sorted(seen) == sorted(f"True 4 test image {place}" for place in WRONG)
        assert head(browser).endswith("3 of 3")  # the last one is the last one
        assert faults(browser) == []


def test_everything_is_reached_by_keys_and_the_focus_comes_back(browser: Any, one: Path) -> None:
    with digits(browser, one):
        cell(browser, 0, 0).click()
        press(browser, "ESCAPE")
        assert not browser.find_element("css selector", ".panel").is_displayed()
        assert browser.execute_script(FOCUS) == "true 0, predicted 0: 10"
        press(browser, *["ARROW_DOWN"] * 4, "END", *["ARROW_LEFT"] * 4)
        assert browser.execute_script(FOCUS) == "true 4, predicted 5: 3"
        press(browser, "ENTER")
        assert browser.execute_script(FOCUS) == "Digits of the cell"
        press(browser, "END")
        assert head(browser) == "true 4, predicted 5: 3 of 3"
        chosen = browser.execute_script(
            "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).ariaSelected"
        )
        assert chosen == "true"
        press(browser, "ESCAPE")
        assert browser.execute_script(FOCUS) == "true 4, predicted 5: 3"
        press(browser, "ARROW_LEFT", "ARROW_LEFT", " ")
        assert head(browser) == "true 4, predicted 3: no images"
        assert browser.execute_script(FOCUS) == "true 4, predicted 3: 0"  # nothing to step through: the focus stays
        assert faults(browser) == []


def test_the_picture_shown_is_the_image_of_the_file(browser: Any, one: Path, idx_root: Path) -> None:
    raw = (idx_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    image = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[WRONG[0]].astype(int)
    script = """
        const done = arguments[1], tile = [...document.querySelectorAll(".strip .digit")].find(one => {
          one.click();
          return document.querySelector(".says p").textContent.endsWith(` ${arguments[0]}`);
        });
        const picture = new Image(), style = getComputedStyle(tile);
        picture.onload = () => {
          const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
          canvas.width = canvas.height = 28;
          pen.drawImage(picture, -28 * style.getPropertyValue("--x"), -28 * style.getPropertyValue("--y"));
          done([...pen.getImageData(0, 0, 28, 28).data].filter((_, place) => place % 4 === 0));
        };
        picture.src = style.getPropertyValue("--sprite").slice(4, -1).replaceAll('"', "");
    """
    with digits(browser, one):
        shown = np.array(browser.execute_async_script(script, WRONG[0])).reshape(28, 28)
    assert np.abs(255 - shown - image).max() <= 8


def test_two_runs_are_compared_by_the_digits_on_which_they_differ(browser: Any, tmp_path: Path, idx_root: Path) -> None:
    first = write_run(tmp_path / "first", [1, 2, 3], data__root=str(idx_root), optim__lr=0.1)
    other = write_run(tmp_path / "other", [3, 10, 11, 12, 13], data__root=str(idx_root), optim__lr=0.2)
    page = write_page([first, other], tmp_path / "pair.html")
    with digits(browser, page):
        modes = texts(browser, ".modes button")
        assert modes == ["4 right in A, wrong in B", "2 wrong in A, right in B", "0 wrong in both, differently"]
        assert head(browser) == "right in A, wrong in B: 1 of 4"
        marks = texts(browser, ".says p")[1:]
        assert [text[0] + text[-1] for text in marks] == ["A✓", "B✗"]
        assert len(texts(browser, ".bars tbody tr:first-child .value")) == 2
        browser.find_element("css selector", ".modes button:nth-child(2)").click()
        places = {text.split()[-1] for text in texts(browser, ".says p:first-child")}
        press(browser, "TAB")
        assert places <= {"1", "2"}
        assert head(browser) == "wrong in A, right in B: 1 of 2"
        assert faults(browser) == []


def test_choices_are_told_to_the_page_and_followed_from_it(browser: Any, tmp_path: Path, idx_root: Path) -> None:
    runs = [
        write_run(tmp_path / "sweep" / str(n), range(n + 1), data__root=str(idx_root), optim__lr=n + 1.0)
        for n in range(3)
    ]
    page = write_page(runs, tmp_path / "three.html")
    with digits(browser, page):
        browser.execute_script(TOLD)
        assert texts(browser, ".modes button") == []
        select = browser.find_element("css selector", ".digits select")
        select.find_element("css selector", "option:nth-of-type(3)").click()
        assert browser.execute_script("return told") == [{"runs": [2], "from": "digits"}]
        assert sum(int(text or 0) for text in texts(browser, ".confusion tbody td.miss")) == 3
        browser.execute_script("document.dispatchEvent(new CustomEvent('select-runs', {detail: {runs: [0]}}))")
        assert sum(int(text or 0) for text in texts(browser, ".confusion tbody td.miss")) == 1
        browser.execute_script("document.dispatchEvent(new CustomEvent('select-runs', {detail: {runs: [0, 2]}}))")
        assert texts(browser, ".modes button")[0] == "2 right in A, wrong in B"
        assert faults(browser) == []


def test_a_group_shows_the_mean_over_its_seeds_and_how_many_of_them_say_so(
    browser: Any, tmp_path: Path, idx_root: Path
) -> None:
    for name, lr, seed, wrong in (("a", 0.1, 0, WRONG), ("b", 0.1, 1, WRONG[:1]), ("c", 0.2, 0, []), ("d", 0.2, 1, [])):
        write_run(tmp_path / "sweep" / name, wrong, data__root=str(idx_root), optim__lr=lr, seed=seed)
    page = write_page([tmp_path / "sweep"], tmp_path / "groups.html")
    with digits(browser, page, 390):
        first, second = browser.find_elements("css selector", ".digits select")
        groups = texts(browser, ".digits select:first-of-type optgroup[label='Mean over seeds'] option")
        assert groups[:2] == ["lr=0.2 (2 seeds)", "lr=0.1 (2 seeds)"]
        browser.execute_script(TOLD)
        first.find_element("css selector", "option:nth-of-type(2)").click()
        assert [sorted(told["runs"]) for told in browser.execute_script("return told")] == [[2, 3]]
        assert cell(browser, 4, 5).text == "2"  # three and one
        cell(browser, 4, 5).click()
        said = set()
        for _ in range(3):
            said.add((texts(browser, ".says p")[0], texts(browser, ".says p")[1]))
            press(browser, "ARROW_RIGHT")
        assert (f"True 4 test image {WRONG[0]}", "says 5 ✗ 2 of 2 seeds") in said
        assert texts(browser, ".bars caption") == ["mean probability of 2 seeds"]
        assert texts(browser, ".bars tbody tr .value")[4:6] == ["46 % true", "46 %"]  # of one seed each
        second.find_element("css selector", "optgroup option:nth-of-type(1)").click()
        assert list(texts(browser, ".modes button")) == [
            "0 right in A, wrong in B", "1 wrong in A, right in B", "0 wrong in both, differently",
        ]  # fmt: skip
        assert cell(browser, 4, 5).text == "+2"
        assert faults(browser) == []


def test_without_scripts_the_matrix_is_there_and_nothing_else_promises(browser: Any, one: Path) -> None:
    with opened(browser, one, scripts=False):
        html = browser.page_source
    assert "true 4, predicted 5" not in html
    assert 'class="miss" style="--heat: 1.000">3<' in html


def test_without_the_data_files_a_sentence_says_why(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", WRONG, data__root=str(tmp_path / "nowhere"))
    page = write_page([run], tmp_path / "one.html")
    assert str(tmp_path) not in page.read_text().replace(str(tmp_path / "nowhere"), "", 1)
    with opened(browser, page):
        assert "No digits are shown: the official files are not in data.root." in texts(browser, ".note")
        assert len(texts(browser, ".confusion tbody td")) == 100
        assert faults(browser) == []
