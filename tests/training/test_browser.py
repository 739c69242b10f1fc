"""TensorBoard in a real browser, on real runs; needs Debian's chromium and chromium-driver."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.browser
WAIT_SECONDS = 60
ALL_TEXT = """
const parts = [];
const walk = node => {
    if (node.nodeType === Node.TEXT_NODE) parts.push(node.textContent.trim());
    if (node.tagName === "STYLE" || node.tagName === "SCRIPT") return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
};
walk(document.body);
return parts.filter(Boolean).join("\\n");
"""
LOADED_IMAGES = """
const found = [];
const walk = node => {
    if (node.tagName === "IMG" && node.complete && node.naturalWidth > 300) found.push(node.naturalWidth);
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
};
walk(document.body);
return found.length;
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a TensorBoard over two short runs on the sample."""
    from mnist_mlp.config import Config, DataConfig, ModelConfig, Source, TrainerConfig
    from mnist_mlp.training.fit import fit

    outputs = tmp_path_factory.mktemp("outputs")
    for depth in (1, 2):
        config = Config(
            data=DataConfig(source=Source.sample, subset="0.2"),
            model=ModelConfig(hidden_layers=depth, hidden_units=[16]),
            trainer=TrainerConfig(max_epochs=2, progress=False),
        )
        fit(config, outputs / "train" / f"depth_{depth}")
    yield from serve(outputs)


def serve(outputs: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(outputs), "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{address}/data/runs"))
        yield address
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as response:
            return b"depth_2" in response.read()
    except OSError:
        return False


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return value


def shows(browser: Any, *texts: str) -> bool:
    shown = browser.execute_script(ALL_TEXT)
    return all(text in shown for text in texts)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("tab", "texts"),
    [
        ("timeseries", ("train/depth_1/tensorboard", "wall_time/epoch_seconds", "train/accuracy")),
        ("images", ("visual_test/confusion_matrix", "visual_test/calibration")),
        ("text", ("classification_report/text_summary", "weighted avg")),
        ("custom_scalars", ("training against validation",)),
        ("hparams", ("train/depth_2/tensorboard", "data.normalization", "val/accuracy", "standard")),
    ],
)
def test_tensorboard_shows_what_was_written(browser: Any, board: str, tab: str, texts: tuple[str, ...]) -> None:
    browser.get("about:blank")
    browser.get(f"{board}/#{tab}")
    if tab == "timeseries":
        search = wait_for(lambda: browser.find_elements("css selector", "input[placeholder^='Filter tags']"))
        search[0].send_keys("epoch_seconds|train/accuracy")
    wait_for(lambda: shows(browser, *texts))
    if tab == "images":
        wait_for(lambda: browser.execute_script(LOADED_IMAGES) >= 2)
