"""Report pages of any number of made-up runs, and what a page is held to in a real browser.

`page_of` writes the runs and their page, `opened` shows it at a width, light or dark, and `faults` says what is wrong
with it as it then stands: console messages, requests to a network, scrolling sideways, broken images, axe's findings.
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
"""How many runs a page has to bear."""
SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]
"""Width in CSS pixels, and whether the system asks for dark."""
HEIGHT = 900
HOSTILE = "<script>alert('x')</script> & \"more\" \u2028"
"""Text of a run folder that has to stay text."""
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
WIDTHS = ([16], [64], [64, 32, 16], [256, 128])
AXE_PACKAGES = ("axe_playwright_python", "axe_core_python")
"""Where axe.min.js is looked for, newest first; the extra `dev` installs the last, which needs nothing else."""
AXE_SECONDS = 900
"""Until axe is given up; it looks at the colours of every cell of a table of 1,000 rows."""
SERIOUS = ("serious", "critical")
ONLY_FILES = ("data:", "blob:", "file:", "about:", "chrome:", "devtools:")
RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  found => done(JSON.stringify(found.violations.map(one => ({id: one.id, impact: one.impact, help: one.help,
    nodes: one.nodes.map(node => `${node.target.join(" ")}: ${node.html.slice(0, 160)} ${node.any.map(
      check => check.message).join("; ")}`)})))),
  error => done(JSON.stringify([{id: "axe failed", impact: "critical", help: String(error), nodes: []}])));
"""
STICKS_OUT = """
const boxed = one => { for (let up = one; up !== document.body; up = up.parentElement)
  if (up === null || getComputedStyle(up).overflowX !== "visible") return true; return false; };
const over = [...document.querySelectorAll("body *")].filter(
  one => one.getBoundingClientRect().right > innerWidth + 1 && !boxed(one));
return [document.documentElement.scrollWidth, innerWidth, over.slice(0, 5).map(one => one.outerHTML.slice(0, 120))];
"""


def write_runs(folder: Path, count: int, root: Path) -> Path:
    """Runs over learning rates, widths and seeds, better ones and worse ones; the folder that holds them.

    root: where their digits are. From 12 runs on four of them have failed, diverged, not finished, or cannot be read.
    """
    others = 4 if count >= 12 else 0
    for number in range(count - others):
        lr = LEARNING_RATES[number // 2 % len(LEARNING_RATES)]
        units = WIDTHS[number // 10 % len(WIDTHS)]
        wrong = [(7 * place + number) % len(TRUTH) for place in range(3 + number // 2 % 5 + number % 2)]
        run = write_run(
            folder / f"{number:04d}", wrong, seed=number % 2 + number // 40 * 2, optim__lr=lr,
            model__hidden_units=units, data__root=str(root), trainer__max_epochs=3,
        )  # fmt: skip
        write_curves(run, [2.0 / (1 + epoch + number % 5) for epoch in range(3)])
    if others:
        write_failure(folder / "failed", f"out of memory {HOSTILE} " * 12, optim__lr=0.3)
        write_run(folder / "diverged", range(60), "diverged", optim__lr=1.0, data__root=str(root))
        write_unfinished(folder / "unfinished", optim__lr=0.01, model__hidden_units=[512])
        broken = write_run(folder / "broken", optim__lr=0.02, data__root=str(root))
        (broken / "result.json").write_text('{"metrics": ')
    return folder


def page_of(folder: Path, count: int, root: Path) -> Path:
    """The page of `count` runs, which are written below the folder first."""
    runs = write_runs(folder / f"sweep_of_{count}", count, root)
    return write_page([runs], runs / "report.html")


@contextmanager
def opened(browser: Any, page: Path, width: int = 1280, dark: bool = False, scripts: bool = True) -> Iterator[Any]:
    """The page from disk in a window this wide, its system light or dark; all as before afterwards."""
    browser.get("about:blank")  # or the same file with other settings would not be loaded again
    _settings(browser, width, dark, scripts)
    for log in ("browser", "performance"):
        browser.get_log(log)
    try:
        browser.get(page.as_uri())
        yield browser
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _settings(browser: Any, width: int, dark: bool, scripts: bool) -> None:
    screen = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    calm = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, calm]})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})


def faults(browser: Any) -> list[str]:
    """What is wrong with the page that is open, a line each; to be asked again after each thing done with it."""
    return [*messages(browser), *requests(browser), *sideways(browser), *broken_images(browser), *findings(browser)]


def messages(browser: Any) -> list[str]:
    """The console's messages since they were last read: errors, warnings, anything."""
    return [f"console: {entry['message']}" for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """The requests, since they were last read, that went anywhere but to the disk or into the page itself."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    ]
    return [f"request: {address[:200]}" for address in addresses if not address.startswith(ONLY_FILES)]


def sideways(browser: Any) -> list[str]:
    """Whether the page is wider than its window, and the elements that stick out."""
    width, window, out = browser.execute_script(STICKS_OUT)
    return [f"scrolls sideways: {width} px in a window of {window}: {out}"] if width > window else []


def broken_images(browser: Any) -> list[str]:
    script = "return [...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.alt)"
    return [f"broken image: {alt}" for alt in browser.execute_script(script)]


def findings(browser: Any) -> list[str]:
    """What axe-core calls serious or critical; skips the test where axe is not installed."""
    browser.set_script_timeout(AXE_SECONDS)
    if not browser.execute_script("return Boolean(window.axe)"):
        browser.execute_script(f"{axe()}; window.axe = axe")
    return [
        f"axe: {one['id']} ({one['impact']}), {one['help']}: {node}"
        for one in json.loads(browser.execute_async_script(RUN_AXE))
        if one["impact"] in SERIOUS
        for node in one["nodes"][:3] or [""]
    ]


@cache
def axe() -> str:
    """The source of axe-core."""
    for package in AXE_PACKAGES:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations if found else None) or ():
            if (file := Path(folder) / "axe.min.js").is_file():
                return file.read_text(encoding="utf-8")
    pytest.skip("needs axe-core: pip install axe-core-python, which is in the extra dev")


def screenshot(browser: Any, target: Path, whole: bool = True) -> Path:
    """A PNG of the whole page, or of what the window shows."""
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(taken["data"]))
    return target


def printed(browser: Any, target: Path, paper: tuple[float, float] = (8.27, 11.69)) -> Path:
    """The page as a PDF, on A4 unless other inches are given, as the print dialogue would make it."""
    sheet = {"paperWidth": paper[0], "paperHeight": paper[1], "printBackground": True, "preferCSSPageSize": True}
    made = browser.execute_cdp_cmd("Page.printToPDF", sheet)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(made["data"]))
    return target


def press(browser: Any, *keys: str) -> None:
    """Press keys one after the other where the focus is; names as in selenium's Keys, or single characters."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        ActionChains(browser).send_keys(getattr(Keys, key) if len(key) > 1 else key).perform()


def texts(browser: Any, selector: str) -> Sequence[str]:
    """The texts of the elements that a CSS selector finds."""
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent.trim())"
    found: Sequence[str] = browser.execute_script(script, selector)
    return found
