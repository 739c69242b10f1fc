"""What decides a result: settings, fingerprint, environment; how settings are shown. Imports no torch."""

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
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON

NEWER_OPTIONS = {"model.network": ""}
"""Options that earlier versions did not have. At their defaults they are not hashed: old fingerprints stay valid."""


def flatten(config: Mapping[Any, Any], prefix: str = "") -> JSON:
    """A nested config with dotted keys."""
    rows: JSON = {}
    for key, value in config.items():
        rows |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return rows


def settings(config: Mapping[str, Any]) -> JSON:
    """The part of a nested config that affects the result, with dotted keys."""
    return {key: value for key, value in sorted(flatten(config).items()) if key not in non_result_keys()}


def with_defaults(flat: Mapping[str, Any]) -> JSON:
    """Add the settings that an earlier version did not know, at their defaults, in the order of the options."""
    rows = {**_defaults(), **flat}
    if isinstance(subset := rows["data.subset"], str):
        rows["data.subset"] = subset_name(subset)  # earlier versions kept other spellings
    return rows


@cache
def _defaults() -> JSON:
    return {key: value for key, value in flatten(to_dict(Config())).items() if key not in non_result_keys()}


def describe(config: JSON, overrides: Iterable[str], digest: str | None = None, callbacks: Sequence[str] = ()) -> JSON:
    """Describe a run as run.json does, with the fingerprint, the hash of all that decides the result.

    Args:
        config: nested, with every `auto` resolved.
        overrides: as the user typed them.
        digest: of the images and labels.
        callbacks: state keys of the user's own Lightning callbacks that can change the result.
    """
    run: JSON = {"overrides": list(overrides), "config": config}
    run |= {"data": {"digest": digest}} if digest is not None else {}
    run |= {"callbacks": list(callbacks)} if callbacks else {}
    hashed = {key: value for key, value in settings(config).items() if NEWER_OPTIONS.get(key) != value}
    content = json.dumps({**hashed, **_beside_settings(run)}, sort_keys=True)
    return {**run, "fingerprint": hashlib.sha256(content.encode()).hexdigest()[:16]}


def identity(run: Mapping[str, Any]) -> JSON:
    """All that decides the result of a run, by dotted key; settings that it lacks take their defaults.

    run: the content of a run.json or result.json, or the same part of a checkpoint.
    """
    return {**with_defaults(settings(run["config"])), **_beside_settings(run)}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what decides the result and differs between two runs, as "key: old -> new"; see `identity`."""
    return differences(identity(before), identity(now))


def _beside_settings(run: Mapping[str, Any]) -> JSON:
    """What decides a result besides the settings: the digest of the data and the user's own callbacks."""
    digits = {"data.digest": run["data"]["digest"]} if "digest" in run.get("data", {}) else {}
    return {**digits, "callbacks": run["callbacks"]} if run.get("callbacks") else digits


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys that differ, as "key: old -> new"; "-" for a missing key."""
    if old == new:
        return []
    before, now = ({key: json.dumps(value) for key, value in flat.items()} for flat in (old, new))
    keys = [key for key in sorted(old.keys() | new.keys()) if before.get(key) != now.get(key)]
    return [f"{key}: {old.get(key, '-')} -> {new.get(key, '-')}" for key in keys]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The shortest unambiguous name of each key: its last component, or all of it."""
    short = {key: key.removesuffix(".id").rpartition(".")[2] for key in keys}
    times = Counter(short.values())
    return {key: name if times[name] == 1 and name != "name" else key for key, name in short.items()}


def value_text(value: Any) -> str:
    """A setting as people read it."""
    return "-".join(map(str, value)) if isinstance(value, list) else "-" if value in (None, "") else str(value)


def short_values(values: Iterable[Any]) -> dict[str, str]:
    """By `value_text`, the values of one setting in the fewest significant digits, at least three, that differ."""
    shown = {value_text(value): value for value in values}
    numbers = {text: value for text, value in shown.items() if isinstance(value, float)}
    texts = {text: text for text in shown}
    for digits in range(3, 17):
        rounded = {text: f"{value:.{digits}g}" for text, value in numbers.items()}
        times = Counter(rounded.values())
        long = [text for text in numbers if texts[text] == text and len(text) > 6]  # others are shown as they are
        texts |= {text: rounded[text] for text in long if times[rounded[text]] == 1}
    return texts


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
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout this package runs from, with "+" if files differ; None when installed."""
    here = Path(__file__).resolve().parents[2]
    describe_head = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    if (here / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            return subprocess.check_output(describe_head, stderr=subprocess.DEVNULL, text=True).strip()
    return None
