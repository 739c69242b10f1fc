"""Pages with different numbers of runs in a real browser, at every width, in light and dark mode."""

from pathlib import Path
from typing import Any

import pytest
from reporting.pages import COUNTS, SCREENS, axe_violations, faults, messages, opened, overflow, page_of, requests

pytestmark = pytest.mark.browser
FEW = 12
SIZES = [pytest.param(count, marks=pytest.mark.slow if count > FEW else ()) for count in COUNTS]


@pytest.mark.parametrize("count", SIZES)
def test_a_page_with_any_number_of_runs_has_no_faults(browser: Any, tmp_path: Path, idx_root: Path, count: int) -> None:
    page = page_of(tmp_path, count, idx_root)
    for width, dark in SCREENS:
        with opened(browser, page, width, dark):
            assert faults(browser) == [], f"{width} px, {'dark' if dark else 'light'}"


def test_the_checks_detect_a_faulty_page(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><html><head><title>bad</title></head><body><img src='http://127.0.0.1:9/x.png'>"
        "<p style='width: 2000px; color: #ccc; background: #fff'>pale</p><script>throw new Error('broken')</script>"
    )
    with opened(browser, page):
        assert any("broken" in line for line in messages(browser))
        assert requests(browser) == ["request: http://127.0.0.1:9/x.png"]
        assert len(overflow(browser)) == 1
        violations = " ".join(axe_violations(browser))
        assert all(rule in violations for rule in ("image-alt", "color-contrast", "html-has-lang"))
    with opened(browser, page, scripts=False):
        assert not any("broken'" in line for line in messages(browser))
    with opened(browser, page, 390, dark=True):
        assert browser.execute_script("return [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [
            390, True,
        ]  # fmt: skip
