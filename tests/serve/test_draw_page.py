"""The draw page in a real browser; needs Debian's chromium and chromium-driver."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strokes
import torch
from numpy.typing import NDArray
from pictures import ink
from PIL import Image

from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.picture import frame, prepare
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.serve.export import export_run
from mnist_mlp.serve.nets import load_classifier

pytestmark = pytest.mark.browser
PHONE, DESKTOP = (390, 844), (1200, 950)
PREDICTION = """
const [digit, sentence] = ["digit", "sentence"].map(name => element(name).textContent);
return [Array.from(networkInput()), sheet.toDataURL(), digit, sentence];
"""
FRAMED = """
const [width, height, values] = JSON.parse(arguments[0]);
return Array.from(frame({ width, height, data: Uint8Array.from(values) }));
"""
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(trained, "html", tmp_path_factory.mktemp("page") / "draw.html").path


@pytest.fixture
def window(browser: Any, page: Path) -> Iterator[Any]:
    """The page, newly opened; afterwards the console must be empty, and emulations are reset."""
    browser.get_log("browser")
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def resize(browser: Any, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.mark.parametrize(("size", "pointer"), [(DESKTOP, "mouse"), (PHONE, "touch"), (DESKTOP, "pen")])
def test_drawn_digits_are_preprocessed_and_classified_as_in_python(
    window: Any, trained: Path, size: tuple[int, int], pointer: str
) -> None:
    resize(window, size)
    model = load_classifier(RunFolder(trained).best_checkpoint)
    correct = 0
    for digit in range(10) if pointer != "pen" else (4, 7):
        strokes.draw(window, digit, pointer)
        pixels, picture, predicted, sentence = window.execute_script(PREDICTION)
        prepared = prepare(base64.b64decode(picture.split(",")[1]))
        assert prepared.ravel().tolist() == pixels, digit
        probabilities = model.probabilities(torch.from_numpy(prepared[None]))[0]
        assert int(predicted) == int(probabilities.argmax())
        assert f" {predicted} (" in sentence
        percentages = window.execute_script("return bars.map(bar => parseFloat(bar.value.textContent))")
        np.testing.assert_allclose(percentages, 100 * probabilities.numpy(), atol=0.3)
        correct += int(predicted) == digit
    assert correct >= (9 if pointer != "pen" else 1)  # the network was trained on 3,500 images
    assert not window.execute_script(
        "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )


def test_any_ink_is_framed_as_in_python(window: Any) -> None:
    random = np.random.default_rng(5)
    digits = load_digits("sample", "").test_images.numpy()
    maps: list[NDArray[np.uint8]] = []
    for number, digit in enumerate(digits[random.permutation(len(digits))[:24]]):
        drawn = np.uint8(255 * ink(digit, int(random.integers(2, 12))))
        shape = tuple(int(side * random.uniform(0.5, 1.5)) for side in drawn.shape)
        drawn = np.array(Image.fromarray(drawn).resize(shape))
        drawn[drawn < 32] = 0
        maps.append(drawn if number % 3 else np.where(drawn > 200, 255, 0).astype(np.uint8))
    maps += [np.full((3, 200), 255, np.uint8), np.full((1, 1), 40, np.uint8), np.eye(150, dtype=np.uint8) * 255]
    for drawn in maps:
        rows, columns = drawn.shape
        framed = window.execute_script(FRAMED, json.dumps([columns, rows, drawn.ravel().tolist()]))
        assert framed == frame(drawn).ravel().tolist()


def test_a_speck_is_removed_as_in_python(window: Any) -> None:
    strokes.draw(window, 0)
    window.execute_script("pen.fillStyle = '#fff'; pen.fillRect(10, 10, 8, 8);")
    pixels, picture, *_ = window.execute_script(PREDICTION)
    assert prepare(base64.b64decode(picture.split(",")[1])).ravel().tolist() == pixels


def test_keys_clear_and_undo_and_predictions_are_announced_to_screen_readers(window: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        chain = ActionChains(window)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()

    count = "return strokes.length"
    strokes.draw(window, 4)
    assert window.execute_script(count) == 2
    press("u")
    assert window.execute_script(count) == 1
    press(Keys.CONTROL, "z")
    assert window.execute_script(count) == 0
    strokes.draw(window, 4)
    wait = "const end = arguments[0]; setTimeout(() => end(element('spoken').textContent), ANNOUNCE_AFTER_MS + 100)"
    assert window.execute_async_script(wait) == window.execute_script("return element('sentence').textContent")
    assert window.execute_script("return element('spoken').getAttribute('aria-live')") == "polite"
    press(Keys.ESCAPE)
    assert window.execute_script(count) == 0
    assert window.execute_script("return element('clear').disabled && element('undo').disabled")


def test_contributions_are_first_order(window: Any) -> None:
    """A contribution predicts, to first order, how the margin changes when its pixel is scaled."""
    strokes.draw(window, 3)
    predicted, units, change = window.execute_script("""
        const input = networkInput(), result = forward(net, input);
        const order = result.logits.map((_, d) => d).sort((a, b) => result.logits[b] - result.logits[a]);
        const [first, second] = order, contributions = contributionsTo(net, result, first, second);
        const sizes = Array.from(contributions.pixels, Math.abs), i = sizes.indexOf(Math.max(...sizes));
        const dimmed = Array.from(input);
        dimmed[i] *= 0.99;
        const margin = ({ logits }) => logits[first] - logits[second];
        const change = margin(result) - margin(forward(net, dimmed));
        return [0.01 * contributions.pixels[i], contributions.units.length, change];
    """)
    assert units == 48
    assert change == pytest.approx(predicted, rel=0.05)
    assert window.execute_script("return element('units').children.length") == 8


def test_the_page_follows_the_color_scheme(window: Any) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        window.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        backgrounds.append(window.execute_script(BACKGROUND))
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]


def test_the_page_loads_no_external_resources(window: Any, page: Path) -> None:
    assert window.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert "http" not in page.read_text().replace("http-equiv", "")
