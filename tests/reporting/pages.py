"""Report pages with any number of synthetic runs, and checks of a page in a real browser.

`page_of` writes runs and their page, `opened` opens it at a width in light or dark mode, and `faults` lists problems of
its current state: console messages, network requests, horizontal scrolling, broken images, and axe violations.
"""

import base64
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import TRUTH, write_curves, write_failure, write_run, write_unfinished

from mnist_mlp.reporting.page import write_page

COUNTS = (1, 2, 12, 100, 1000)
"""Numbers of runs that a page must support."""
SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]
"""Width in CSS pixels, and whether the system prefers dark mode."""
HEIGHT = 900
HOSTILE = "<script>alert('x')</script> & \"more\" \u2028"
"""Text of a run folder that must be escaped."""
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
WIDTHS = ([16], [64], [64, 32, 16], [256, 128])
AXE_PACKAGES = ("axe_playwright_python", "axe_core_python")
"""Packages that contain axe.min.js, newest first; the extra `dev` installs the last one."""
AXE_SECONDS = 900
"""Timeout of axe, which checks the colors of every cell in tables of 1,000 rows."""
SERIOUS = ("serious", "critical")
ONLY_FILES = ("data:", "blob:", "file:", "about:", "chrome:", "devtools:")
RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  results => done(JSON.stringify(results.violations.map(rule => ({id: rule.id, impact: rule.impact, help: rule.help,
    nodes: rule.nodes.map(node => `${node.target.join(" ")}: ${node.html.slice(0, 160)} ${node.any.map(
      check => check.message).join("; ")}`)})))),
  error => done(JSON.stringify([{id: "axe failed", impact: "critical", help: String(error), nodes: []}])));
"""
LOADED = "return location.href !== 'about:blank' && document.readyState === 'complete'"
OVERFLOW = """
const isClipped = element => { for (let node = element; node !== document.body; node = node.parentElement)
  if (node === null || getComputedStyle(node).overflowX !== "visible") return true; return false; };
const overflowing = [...document.querySelectorAll("body *")].filter(
  element => element.getBoundingClientRect().right > innerWidth + 1 && !isClipped(element));
const examples = overflowing.slice(0, 5).map(element => element.outerHTML.slice(0, 120));
return [document.documentElement.scrollWidth, innerWidth, examples];
"""


def write_runs(folder: Path, count: int, root: Path) -> Path:
    """Write runs over learning rates, widths and seeds into a folder, and return it.

    root: the data folder. With 12 runs or more, one each has failed, diverged, not finished, or is unreadable.
    """
    broken_runs = 4 if count >= 12 else 0
    for number in range(count - broken_runs):
        lr = LEARNING_RATES[number // 2 % len(LEARNING_RATES)]
        units = WIDTHS[number // 10 % len(WIDTHS)]
        wrong = [(7 * n + number) % len(TRUTH) for n in range(3 + number // 2 % 5 + number % 2)]
        run = write_run(
            folder / f"{number:04d}", wrong, seed=number % 2 + number // 40 * 2, optim__lr=lr,
            model__hidden_units=units, data__root=str(root), trainer__max_epochs=3,
        )  # fmt: skip
        write_curves(run, [2.0 / (1 + epoch + number % 5) for epoch in range(3)])
    if broken_runs:
        write_failure(folder / "failed", f"out of memory {HOSTILE} " * 12, optim__lr=0.3)
        write_run(folder / "diverged", range(60), "diverged", optim__lr=1.0, data__root=str(root))
        write_unfinished(folder / "unfinished", optim__lr=0.01, model__hidden_units=[512])
        broken = write_run(folder / "broken", optim__lr=0.02, data__root=str(root))
        (broken / "result.json").write_text('{"metrics": ')
    return folder


def page_of(folder: Path, count: int, root: Path) -> Path:
    """Write `count` runs below the folder, and their page; return the page."""
    runs = write_runs(folder / f"sweep_of_{count}", count, root)
    return write_page([runs], runs / "report.html")


@contextmanager
def opened(browser: Any, page: Path, width: int = 1280, dark: bool = False, scripts: bool = True) -> Iterator[Any]:
    """Open the page from disk at a width, in light or dark mode; restore the browser afterwards."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")  # otherwise the same file would not be reloaded with new settings
    _emulate(browser, width, dark, scripts)
    for log in ("browser", "performance"):
        browser.get_log(log)
    try:
        browser.get(page.as_uri())
        # without scripts, get may return early
        WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(LOADED))
        yield browser
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _emulate(browser: Any, width: int, dark: bool, scripts: bool) -> None:
    screen = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    motion = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, motion]})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})


def faults(browser: Any) -> list[str]:
    """Problems of the open page in its current state, one line each."""
    checks = (messages, requests, overflow, broken_images, axe_violations)
    return [fault for check in checks for fault in check(browser)]


def messages(browser: Any) -> list[str]:
    """Console messages of any level since the last call."""
    return [f"console: {entry['message']}" for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """Network requests since the last call, apart from local files and data inside the page."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    ]
    return [f"request: {address[:200]}" for address in addresses if not address.startswith(ONLY_FILES)]


def overflow(browser: Any) -> list[str]:
    """Horizontal overflow of the page, and the elements that cause it."""
    width, window, elements = browser.execute_script(OVERFLOW)
    return [f"scrolls horizontally: {width} px in a window of {window}: {elements}"] if width > window else []


def broken_images(browser: Any) -> list[str]:
    script = "return [...document.images].filter(img => !img.complete || !img.naturalWidth).map(img => img.alt)"
    return [f"broken image: {alt}" for alt in browser.execute_script(script)]


def axe_violations(browser: Any) -> list[str]:
    """Serious and critical violations reported by axe-core; skips the test if axe is not installed."""
    browser.set_script_timeout(AXE_SECONDS)
    if not browser.execute_script("return Boolean(window.axe)"):
        browser.execute_script(f"{axe()}; window.axe = axe")
    return [
        f"axe: {rule['id']} ({rule['impact']}), {rule['help']}: {node}"
        for rule in json.loads(browser.execute_async_script(RUN_AXE))
        if rule["impact"] in SERIOUS
        for node in rule["nodes"][:3] or [""]
    ]


@cache
def axe() -> str:
    """The source of axe-core."""
    for package in AXE_PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            if (file := Path(folder) / "axe.min.js").is_file():
                return file.read_text(encoding="utf-8")
    pytest.skip("needs axe-core: pip install axe-core-python, which is in the extra dev")


def screenshot(browser: Any, target: Path, whole: bool = True) -> Path:
    """Write a PNG of the whole page, or of the visible part."""
    capture = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(capture["data"]))
    return target


def printed(browser: Any, target: Path, paper: tuple[float, float] = (8.27, 11.69)) -> Path:
    """Write the page as a PDF, like the print dialog. paper: width and height in inches, by default A4."""
    sheet = {"paperWidth": paper[0], "paperHeight": paper[1], "printBackground": True, "preferCSSPageSize": True}
    pdf = browser.execute_cdp_cmd("Page.printToPDF", sheet)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(pdf["data"]))
    return target


def press(browser: Any, *keys: str) -> None:
    """Press keys in sequence on the focused element: names from selenium's Keys, or single characters."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        ActionChains(browser).send_keys(getattr(Keys, key) if len(key) > 1 else key).perform()


def texts(browser: Any, selector: str) -> Sequence[str]:
    """The texts of the elements that match a CSS selector."""
    script = "return [...document.querySelectorAll(arguments[0])].map(element => element.textContent.trim())"
    matches: Sequence[str] = browser.execute_script(script, selector)
    return matches
