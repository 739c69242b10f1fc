"""The image browser in a real browser: mouse, keyboard, all widths, with and without JavaScript."""

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
WRONG = [index for index in range(100) if TRUTH[index] == 4][:3]
"""Three fours, which the synthetic runs predict as fives."""
READY = "return document.querySelector('.digits').dataset.ready === 'true'"
FOCUS = "const element = document.activeElement; return element.getAttribute('aria-label') || element.tagName"
RECORD = "window.selections = []; document.addEventListener('select-runs', event => selections.push(event.detail))"


@contextmanager
def digits(browser: Any, page: Path, width: int = 1280, dark: bool = False) -> Iterator[Any]:
    with opened(browser, page, width, dark):
        wait(browser)
        yield browser


def wait(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(READY))


def cell(browser: Any, truth: int, predicted: int) -> Any:
    selector = f".confusion tbody tr:nth-child({truth + 1}) td:nth-child({predicted + 2})"
    return browser.find_element("css selector", selector)


def head(browser: Any) -> str:
    return texts(browser, ".panel .head")[0]


@pytest.fixture
def run_page(tmp_path: Path, idx_root: Path) -> Path:
    run = write_run(tmp_path / "one", WRONG, data__root=str(idx_root))
    return write_page([run], tmp_path / "one.html")


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_a_cell_opens_its_images_with_their_predictions(browser: Any, run_page: Path, width: int, dark: bool) -> None:
    with digits(browser, run_page, width, dark):
        assert head(browser) == "true 4, predicted 5: 1 of 3"  # the most frequent confusion is open initially
        cell(browser, 7, 7).click()
        assert head(browser) == "true 7, predicted 7: 1 of 10"
        cell(browser, 4, 5).click()
        assert texts(browser, ".answers p")[1] == "predicted 5 ✗"
        assert texts(browser, ".bars tbody tr .value") == [
            *(["1 %"] * 4), "1 % true", "91 %", *(["1 %"] * 4),
        ]  # fmt: skip
        titles = []
        for number in range(3):
            assert head(browser) == f"true 4, predicted 5: {number + 1} of 3"
            titles.append(texts(browser, ".answers p")[0])
            press(browser, "ARROW_RIGHT")
        assert sorted(titles) == sorted(f"True 4 test image {index}" for index in WRONG)
        assert head(browser).endswith("3 of 3")  # no wrapping around at the end
        assert faults(browser) == []


def test_the_browser_is_usable_by_keyboard_and_restores_the_focus(browser: Any, run_page: Path) -> None:
    with digits(browser, run_page):
        cell(browser, 0, 0).click()
        press(browser, "ESCAPE")
        assert not browser.find_element("css selector", ".panel").is_displayed()
        assert browser.execute_script(FOCUS) == "true 0, predicted 0: 10"
        press(browser, *["ARROW_DOWN"] * 4, "END", *["ARROW_LEFT"] * 4)
        assert browser.execute_script(FOCUS) == "true 4, predicted 5: 3"
        press(browser, "ENTER")
        assert browser.execute_script(FOCUS) == "Images in the cell"
        press(browser, "END")
        assert head(browser) == "true 4, predicted 5: 3 of 3"
        is_selected = browser.execute_script(
            "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).ariaSelected"
        )
        assert is_selected == "true"
        press(browser, "ESCAPE")
        assert browser.execute_script(FOCUS) == "true 4, predicted 5: 3"
        press(browser, "ARROW_LEFT", "ARROW_LEFT", " ")
        assert head(browser) == "true 4, predicted 3: no images"
        assert browser.execute_script(FOCUS) == "true 4, predicted 3: 0"  # an empty cell keeps the focus
        assert faults(browser) == []


def test_the_displayed_image_is_the_image_of_the_dataset(browser: Any, run_page: Path, idx_root: Path) -> None:
    raw = (idx_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    image = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[WRONG[0]].astype(int)
    script = """
        const done = arguments[1], tile = [...document.querySelectorAll(".strip .digit")].find(thumbnail => {
          thumbnail.click();
          return document.querySelector(".answers p").textContent.endsWith(` ${arguments[0]}`);
        });
        const picture = new Image(), style = getComputedStyle(tile);
        picture.onload = () => {
          const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
          canvas.width = canvas.height = 28;
          pen.drawImage(picture, -28 * style.getPropertyValue("--x"), -28 * style.getPropertyValue("--y"));
          done([...pen.getImageData(0, 0, 28, 28).data].filter((_, index) => index % 4 === 0));
        };
        picture.src = style.getPropertyValue("--sprite").slice(4, -1).replaceAll('"', "");
    """
    with digits(browser, run_page):
        shown = np.array(browser.execute_async_script(script, WRONG[0])).reshape(28, 28)
    assert np.abs(255 - shown - image).max() <= 8


def test_two_runs_are_compared_by_the_images_on_which_they_differ(browser: Any, tmp_path: Path, idx_root: Path) -> None:
    first = write_run(tmp_path / "first", [1, 2, 3], data__root=str(idx_root), optim__lr=0.1)
    second = write_run(tmp_path / "second", [3, 10, 11, 12, 13], data__root=str(idx_root), optim__lr=0.2)
    page = write_page([first, second], tmp_path / "pair.html")
    with digits(browser, page):
        modes = texts(browser, ".modes button")
        assert modes == [
            "4 correct only in A", "2 correct only in B", "0 incorrect in both, different predictions",
        ]  # fmt: skip
        assert head(browser) == "correct only in A: 1 of 4"
        marks = texts(browser, ".answers p")[1:]
        assert [text[0] + text[-1] for text in marks] == ["A✓", "B✗"]
        assert len(texts(browser, ".bars tbody tr:first-child .value")) == 2
        browser.find_element("css selector", ".modes button:nth-child(2)").click()
        indices = {text.split()[-1] for text in texts(browser, ".answers p:first-child")}
        press(browser, "TAB")
        assert indices <= {"1", "2"}
        assert head(browser) == "correct only in B: 1 of 2"
        assert faults(browser) == []


def test_the_selection_is_shared_with_the_page_in_both_directions(browser: Any, tmp_path: Path, idx_root: Path) -> None:
    runs = [
        write_run(tmp_path / "sweep" / str(n), range(n + 1), data__root=str(idx_root), optim__lr=n + 1.0)
        for n in range(3)
    ]
    page = write_page(runs, tmp_path / "three.html")
    with digits(browser, page):
        browser.execute_script(RECORD)
        assert texts(browser, ".modes button") == []
        select = browser.find_element("css selector", ".digits select")
        select.find_element("css selector", "option:nth-of-type(3)").click()
        assert browser.execute_script("return selections") == [{"runs": [2], "from": "digits"}]
        assert sum(int(text or 0) for text in texts(browser, ".confusion tbody td.miss")) == 3
        browser.execute_script("document.dispatchEvent(new CustomEvent('select-runs', {detail: {runs: [0]}}))")
        assert sum(int(text or 0) for text in texts(browser, ".confusion tbody td.miss")) == 1
        browser.execute_script("document.dispatchEvent(new CustomEvent('select-runs', {detail: {runs: [0, 2]}}))")
        assert texts(browser, ".modes button")[0] == "2 correct only in A"
        assert faults(browser) == []
        browser.get("about:blank")
        browser.get(f"{page.as_uri()}#runs=3")
        wait(browser)
        assert sum(int(text or 0) for text in texts(browser, ".confusion tbody td.miss")) == 3


def test_a_group_shows_the_mean_over_seeds_and_the_votes_of_its_seeds(
    browser: Any, tmp_path: Path, idx_root: Path
) -> None:
    for name, lr, seed, wrong in (("a", 0.1, 0, WRONG), ("b", 0.1, 1, WRONG[:1]), ("c", 0.2, 0, []), ("d", 0.2, 1, [])):
        write_run(tmp_path / "sweep" / name, wrong, data__root=str(idx_root), optim__lr=lr, seed=seed)
    page = write_page([tmp_path / "sweep"], tmp_path / "groups.html")
    with digits(browser, page, 390):
        first, second = browser.find_elements("css selector", ".digits select")
        groups = texts(browser, ".digits select:first-of-type optgroup[label='Mean over seeds'] option")
        assert groups[:2] == ["lr=0.2 (2 seeds)", "lr=0.1 (2 seeds)"]
        browser.execute_script(RECORD)
        first.find_element("css selector", "option:nth-of-type(2)").click()
        assert [sorted(event["runs"]) for event in browser.execute_script("return selections")] == [[2, 3]]
        assert cell(browser, 4, 5).text == "2"  # the mean of three and one
        cell(browser, 4, 5).click()
        answers = set()
        for _ in range(3):
            answers.add((texts(browser, ".answers p")[0], texts(browser, ".answers p")[1]))
            press(browser, "ARROW_RIGHT")
        assert (f"True 4 test image {WRONG[0]}", "predicted 5 ✗ 2 of 2 seeds") in answers
        assert texts(browser, ".bars caption") == ["mean probability over 2 seeds"]
        assert texts(browser, ".bars tbody tr .value")[4:6] == ["46 % true", "46 %"]  # one seed predicts each
        second.find_element("css selector", "optgroup option:nth-of-type(1)").click()
        assert list(texts(browser, ".modes button")) == [
            "0 correct only in A", "1 correct only in B", "0 incorrect in both, different predictions",
        ]  # fmt: skip
        assert cell(browser, 4, 5).text == "+2"
        assert faults(browser) == []


def test_without_javascript_only_the_confusion_matrix_is_shown(browser: Any, run_page: Path) -> None:
    with opened(browser, run_page, scripts=False):
        html = browser.page_source
    assert "true 4, predicted 5" not in html
    assert 'class="miss" style="--heat: 1.000">3<' in html


def test_without_the_dataset_files_a_note_states_the_reason(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", WRONG, data__root=str(tmp_path / "nowhere"))
    page = write_page([run], tmp_path / "one.html")
    assert str(tmp_path) not in page.read_text().replace(str(tmp_path / "nowhere"), "", 1)
    with opened(browser, page):
        assert "No images are shown: the official files are not in data.root." in texts(browser, ".note")
        assert len(texts(browser, ".confusion tbody td")) == 100
        assert faults(browser) == []
