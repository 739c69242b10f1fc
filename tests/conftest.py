"""Fixtures: small synthetic digits in the official format, isolation of tests, a browser. Does not import torch."""

import gc
import os
import shutil
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

# test workers share the cores, so waiting OpenMP threads should sleep early; read when torch is imported
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write an IDX file of unsigned bytes (yann.lecun.com/exdb/mnist): magic number, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def made_up_digits(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Learnable, class-balanced images and labels: ten fixed random patterns with noise, in random order."""
    patterns = np.random.default_rng(0).random((10, 28, 28)) < 0.2
    random = np.random.default_rng((1, seed))
    labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
    noise = random.integers(-60, 61, (count, 28, 28))
    return np.clip(patterns[labels] * 190 + noise, 0, 255).astype(np.uint8), labels


if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # the workers share the cores
    os.environ["MNIST_MLP_PARALLEL_JOBS"] = os.environ["PYTEST_XDIST_WORKER_COUNT"]

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # in background shells and under nohup
        signal.signal(number, handler)


def pytest_collection_finish() -> None:
    """Exempt imported objects, about a million, from garbage collection."""
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # otherwise triton reports objects that were never freed


@pytest.fixture
def idx_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `data.root` with 300 synthetic training and 100 test digits in torchvision's layout."""
    return write_digits(tmp_path_factory.mktemp("digits"))


def write_digits(root: Path) -> Path:
    """Write 300 synthetic training and 100 test digits in torchvision's layout; return the folder."""
    raw = root / "MNIST" / "raw"
    for split, count, seed in (("train", 300, 0), ("t10k", 100, 1)):
        images, labels = made_up_digits(count, seed)
        write_idx(raw / f"{split}-images-idx3-ubyte", images)
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels)
    return root


@pytest.fixture
def mnist_root() -> str:
    root = os.environ.get("MNIST_MLP_DATA")
    if not root:
        pytest.skip("needs the full MNIST: set MNIST_MLP_DATA")
    return root


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; get_log("browser") returns the console, get_log("performance") the requests."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs a browser: install Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "window-size=1400,1200"),
        *("disable-background-networking", "disable-component-update", "disable-sync", f"user-data-dir={profile}"),
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield page
    page.quit()


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """trainer.compile=true traces the step but does not compile C++, which would take many seconds."""
    import torch

    torch_compile = torch.compile

    def traced(step: Any, options: Any, **kwargs: Any) -> Any:
        return torch_compile(step, backend="aot_eager", **kwargs)

    monkeypatch.setattr("mnist_mlp.training.compile.torch.compile", traced)
    monkeypatch.setattr("mnist_mlp.training.fast.native_objective", lambda objective, precision: objective)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
    yield
    torch.compiler.reset()


@pytest.fixture(autouse=True)
def _forget_digits() -> Iterator[None]:
    """Clear the cache of `load_digits`; the next test may have other files at the same path."""
    yield
    digits = sys.modules.get("mnist_mlp.data.mnist")
    if digits is not None:
        digits.read_digits.cache_clear()
