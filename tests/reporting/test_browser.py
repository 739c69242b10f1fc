"""The report page in a real browser, opened from disk; needs Debian's chromium and chromium-driver."""

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_failure, write_run

from mnist_mlp.reporting.page import write_page

pytestmark = pytest.mark.browser
WIDER_THAN_THE_WINDOW = "return document.documentElement.scrollWidth > window.innerWidth"
BROKEN_IMAGES = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"


def test_the_page_opens_from_disk_without_an_error_and_with_all_its_images(
    browser: Any, tmp_path: Path, idx_root: Path
) -> None:
    for n, units in enumerate(([16], [64], [64, 32, 16])):
        for seed in (0, 1):
            write_run(
                tmp_path / "sweep" / f"{n}_{seed}", range(n + seed), seed=seed, model__hidden_units=units,
                data__root=str(idx_root),
            )  # fmt: skip
    write_failure(tmp_path / "sweep" / "failed", "a long reason " * 30)
    page = write_page([tmp_path / "sweep"], tmp_path / "report.html")
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.title == "sweep"
    assert browser.execute_script(BROKEN_IMAGES) == 0
    size = browser.get_window_size()
    browser.set_window_size(600, 900)
    assert not browser.execute_script(WIDER_THAN_THE_WINDOW)  # a wide table scrolls in its own box
    browser.set_window_size(size["width"], size["height"])
    assert browser.get_log("browser") == []
