"""Settings that affect the result, fingerprint, environment, and text forms of settings. Imports no torch."""

import hashlib
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnist_mlp.config import Config, non_result_keys, subset_name
from mnist_mlp.datasets import DIGITS, MNIST_STATISTICS
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON

NEWER_OPTIONS = {
    "model.network": "", "data.name": "mnist", "trainer.max_seconds": 0.0, "optim.nesterov": False,
    "optim.gradient_clip_val": 0.0, "optim.warmup_epochs": 0.0, "optim.step_size": 5, "optim.milestones": [5, 8],
    "optim.gamma": 0.1, "optim.plateau_patience": 3,
}  # fmt: skip
"""Options added after version 0.1.0. Their defaults are not hashed, which keeps earlier fingerprints valid."""
NEWER_DATA = {"classes": list(DIGITS), "mean": MNIST_STATISTICS[0], "std": MNIST_STATISTICS[1]}
"""Keys of `data` in run.json added after version 0.1.0, with values that are not part of the identity."""


def flatten(config: Mapping[Any, Any], prefix: str = "") -> JSON:
    """Flatten a nested config to dotted keys."""
    rows: JSON = {}
    for key, value in config.items():
        rows |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return rows


def settings(config: Mapping[str, Any]) -> JSON:
    """Return the settings of a nested config that affect the result, with dotted keys."""
    return {key: value for key, value in sorted(flatten(config).items()) if key not in non_result_keys()}


def with_defaults(flat: Mapping[str, Any]) -> JSON:
    """Fill in settings that earlier versions lacked with their defaults, in the order of the options."""
    rows = {**_defaults(), **flat}
    if isinstance(subset := rows["data.subset"], str):
        rows["data.subset"] = subset_name(subset)  # earlier versions stored other spellings
    return rows


@cache
def _defaults() -> JSON:
    return {key: value for key, value in flatten(to_dict(Config())).items() if key not in non_result_keys()}


def describe(config: JSON, overrides: Iterable[str], data: JSON | None = None, callbacks: Sequence[str] = ()) -> JSON:
    """Build the content of run.json, including the fingerprint: a hash of everything that affects the result.

    Args:
        config: Nested config with every `auto` resolved.
        overrides: Overrides as the user typed them.
        data: `Digits.describe` of the dataset.
        callbacks: State keys of the user's Lightning callbacks that can change the result.
    """
    run: JSON = {"overrides": list(overrides), "config": config}
    run |= {"data": data} if data is not None else {}
    run |= {"callbacks": list(callbacks)} if callbacks else {}
    hashed = {key: value for key, value in settings(config).items() if NEWER_OPTIONS.get(key) != value}
    content = json.dumps({**hashed, **_data_and_callbacks(run)}, sort_keys=True)
    return {**run, "fingerprint": hashlib.sha256(content.encode()).hexdigest()[:16]}


def identity(run: Mapping[str, Any]) -> JSON:
    """Return everything that affects a run's result (from run.json or result.json) by dotted key, defaults included."""
    return {**with_defaults(settings(run["config"])), **_data_and_callbacks(run)}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between the `identity` of two runs, as "key: old -> new"."""
    return differences(identity(before), identity(now))


def _data_and_callbacks(run: Mapping[str, Any]) -> JSON:
    """Return what affects a result in addition to the settings: properties of the data and the user's callbacks."""
    data = run.get("data", {})
    keys = [key for key in ("digest", *NEWER_DATA) if key in data and data[key] != NEWER_DATA.get(key)]
    rows = {f"data.{key}": data[key] for key in keys}
    return {**rows, "callbacks": run["callbacks"]} if run.get("callbacks") else rows


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the keys that differ, as "key: old -> new"; "-" marks a missing key."""
    if old == new:
        return []
    before, now = ({key: json.dumps(value) for key, value in flat.items()} for flat in (old, new))
    keys = [key for key in sorted(old.keys() | new.keys()) if before.get(key) != now.get(key)]
    return [f"{key}: {old.get(key, '-')} -> {new.get(key, '-')}" for key in keys]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Map each key to its last component, or to itself if that is ambiguous."""
    short = {key: key.removesuffix(".id").rpartition(".")[2] for key in keys}
    counts = Counter(short.values())
    return {key: name if counts[name] == 1 and name != "name" else key for key, name in short.items()}


def value_text(value: Any) -> str:
    """Format the value of a setting for display."""
    return "-".join(map(str, value)) if isinstance(value, list) else "-" if value in (None, "") else str(value)


def joined(texts: Iterable[str], word: str = "and") -> str:
    """Return the unique texts as "a, b and c"."""
    unique = list(dict.fromkeys(texts))
    return f" {word} ".join(filter(None, [", ".join(unique[:-1]), *unique[-1:]]))


def short_values(values: Iterable[Any]) -> dict[str, str]:
    """Map the `value_text` of each value to a shorter text: at least three significant digits, all texts distinct."""
    shown = {value_text(value): value for value in values}
    numbers = {text: value for text, value in shown.items() if isinstance(value, float)}
    texts = {text: text for text in shown}
    for digits in range(3, 17):
        rounded = {text: f"{value:.{digits}g}" for text, value in numbers.items()}
        counts = Counter(rounded.values())
        long = [text for text in numbers if texts[text] == text and len(text) > 6]
        texts |= {text: rounded[text] for text in long if counts[rounded[text]] == 1}
    return texts


def environment(device: str, threads: int) -> JSON:
    """Return the `environment` of result.json; `device` is the GPU's name or "cpu"."""
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
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the checkout's commit, with "+" if files are modified; None if the package is installed."""
    root = Path(__file__).resolve().parents[2]
    describe_head = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    if (root / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            return subprocess.check_output(describe_head, stderr=subprocess.DEVNULL, text=True).strip()
    return None
