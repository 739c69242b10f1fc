"""Pages of any number of runs in a real browser, at every width, light and dark."""

from pathlib import Path
from typing import Any

import pytest
from reporting.pages import COUNTS, SCREENS, faults, findings, messages, opened, page_of, requests, sideways

pytestmark = pytest.mark.browser
FEW = 12
SIZES = [pytest.param(count, marks=pytest.mark.slow if count > FEW else ()) for count in COUNTS]


@pytest.mark.parametrize("count", SIZES)
def test_a_page_of_any_number_of_runs_is_in_order_everywhere(
    browser: Any, tmp_path: Path, idx_root: Path, count: int
) -> None:
    page = page_of(tmp_path, count, idx_root)
    for width, dark in SCREENS:
        with opened(browser, page, width, dark):
            assert faults(browser) == [], f"{width} px, {'dark' if dark else 'light'}"


def test_what_is_wrong_with_a_page_is_found(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><html><head><title>bad</title></head><body><img src='http://127.0.0.1:9/x.png'>"
        "<p style='width: 2000px; color: #ccc; background: #fff'>pale</p><script>throw new Error('broken')</script>"
    )
    with opened(browser, page):
        assert any("broken" in line for line in messages(browser))
        assert requests(browser) == ["request: http://127.0.0.1:9/x.png"]
        assert len(sideways(browser)) == 1
        found = " ".join(findings(browser))
        assert all(rule in found for rule in ("image-alt", "color-contrast", "html-has-lang"))
    with opened(browser, page, scripts=False):
        assert not any("broken'" in line for line in messages(browser))
    with opened(browser, page, 390, dark=True):
        assert browser.execute_script("return [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [
            390, True,
        ]  # fmt: skip
