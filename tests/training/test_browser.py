"""TensorBoard in a browser, on trained runs; needs Debian's chromium and chromium-driver."""

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
const texts = [];
const walk = node => {
    if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent.trim());
    if (node.tagName === "STYLE" || node.tagName === "SCRIPT") return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
};
walk(document.body);
return texts.filter(Boolean).join("\\n");
"""
LOADED_IMAGES = """
const widths = [];
const walk = node => {
    if (node.tagName === "IMG" && node.complete && node.naturalWidth > 300) widths.push(node.naturalWidth);
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
};
walk(document.body);
return widths.length;
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of TensorBoard with two short runs on the sample."""
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


def serve(outputs: Path, run: bytes = b"depth_2") -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(outputs), "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{address}/data/runs", run))
        yield address
    finally:
        server.terminate()
        server.wait()


def answers(address: str, run: bytes) -> bool:
    try:
        with urlopen(address, timeout=5) as response:
            return run in response.read()
    except OSError:
        return False


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.3)
    return value


def shows(browser: Any, *texts: str) -> bool:
    page_text = browser.execute_script(ALL_TEXT)
    return all(text in page_text for text in texts)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("tab", "texts"),
    [
        ("timeseries", ("train/depth_1/tensorboard", "wall_time/epoch_seconds", "train/accuracy")),
        ("images", ("visual_test/confusion_matrix", "visual_test/calibration")),
        ("text", ("classification_report/text_summary", "weighted avg")),
        ("custom_scalars", ("training against validation",)),
        ("hparams", ("train/depth_2/tensorboard", "data.batch_size", "val/accuracy", "64")),
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


@pytest.mark.integration
def test_accuracy_and_swept_settings_come_first_under_short_names(browser: Any, tmp_path: Path) -> None:
    from mnist_mlp.compare.load import find_jobs
    from mnist_mlp.reporting.tensorboard import board_runs, link_runs

    link_runs(board_runs(find_jobs([train_sweep(tmp_path / "lrs")])), tmp_path / "links")
    for address in serve(tmp_path / "links", b"lr=0.2"):
        browser.get("about:blank")
        browser.get(f"{address}/?smoothing=0")
        wait_for(lambda: shows(browser, "lr=0.1, seed 0", "lr=0.2, seed 1", "/accuracy"))
        lines = browser.execute_script(ALL_TEXT).split("\n")
        assert not any(line.endswith("tensorboard") for line in lines)
        groups = [line for line in lines if line in ("train", "val", "wall_time", "whole_run", "visual_test")]
        assert groups[0] == "train"
        browser.get("about:blank")
        browser.get(f"{address}/#hparams")
        wait_for(lambda: shows(browser, "Trial ID", "lr=0.1, seed 0", "optim.lr", "val/accuracy"))
        lines = browser.execute_script(ALL_TEXT).split("\n")
        columns = lines[lines.index("Trial ID") :]
        assert columns.index("optim.lr") < columns.index("lr=0.1, seed 0")


def train_sweep(folder: Path) -> Path:
    """Train two learning rates with two seeds each, like a sweep."""
    from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, Source, TrainerConfig
    from mnist_mlp.training.fit import fit

    for lr in (0.1, 0.2):
        for seed in (0, 1):
            config = Config(
                seed=seed,
                data=DataConfig(source=Source.sample, subset="0.2"),
                model=ModelConfig(hidden_layers=1, hidden_units=[16]),
                optim=OptimConfig(lr=lr),
                trainer=TrainerConfig(max_epochs=2, progress=False, figures=False),
            )
            fit(config, folder / f"lr-{lr}_seed-{seed}", [f"optim.lr={lr}", f"seed={seed}"])
    return folder
