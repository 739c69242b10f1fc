"""Versions, processor and commit that a result was measured with. Imports no torch."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from mnist_mlp.runs.files import JSON


def environment(device: str, threads: int) -> JSON:
    """The `environment` of result.json. device: a GPU's name, or "cpu"."""
    return {
        "device": f"cpu ({_processor()})" if device == "cpu" else device,
        "threads": threads,
        "python": platform.python_version(),
        "torch": version("torch"),
        "lightning": version("pytorch-lightning"),
        "torchmetrics": version("torchmetrics"),
        "hydra": version("hydra-core"),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout this package runs from, with "+" where files differ; None when installed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    commit = _git(here, "rev-parse", "HEAD")
    return commit and commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
