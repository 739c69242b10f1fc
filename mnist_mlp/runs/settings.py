"""Versions, processor and commit that a result was measured with. Imports no torch."""

import hashlib
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnist_mlp.config import Config, non_result_keys, subset_name, to_dict
from mnist_mlp.runs.files import JSON

SHORT = 6
"""A number of so few characters is shown as it was given, 1.0 and not 1."""


def flatten(config: Mapping[Any, Any], prefix: str = "") -> JSON:
    """A nested config with dotted keys."""
    rows: JSON = {}
    for key, value in config.items():
        rows |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return rows


def settings(config: Mapping[str, Any]) -> JSON:
    """The part of a nested config that affects the result, with dotted keys."""
    left_out = non_result_keys()
    return {key: value for key, value in sorted(flatten(config).items()) if key not in left_out}


def complete_settings(config: Mapping[str, Any]) -> JSON:
    """The settings of a config that an earlier version may have written: a missing key means its default."""
    return with_defaults(settings(config))


def with_defaults(flat: Mapping[str, Any]) -> JSON:
    """Dotted keys with those that are missing and affect the result at their default, in the order of the options."""
    rows = {**_defaults(), **flat}
    if isinstance(subset := rows["data.subset"], str):
        rows["data.subset"] = subset_name(subset)  # earlier versions kept other spellings
    return rows


@cache
def _defaults() -> JSON:
    return {key: value for key, value in flatten(to_dict(Config())).items() if key not in non_result_keys()}


def fingerprint(flat_settings: Mapping[str, Any], digest: str | None = None) -> str:
    """A hash of all that decides a result: the settings that affect it, and the digest of the digits."""
    digits = {} if digest is None else {"data.digest": digest}
    return hashlib.sha256(json.dumps({**flat_settings, **digits}, sort_keys=True).encode()).hexdigest()[:16]


def describe(config: JSON, overrides: Iterable[str], digest: str | None = None) -> JSON:
    """The content of run.json: overrides, config (nested, every `auto` resolved), fingerprint, digest of the digits."""
    run = {
        "overrides": list(overrides),
        "config": config,
        "fingerprint": fingerprint(settings(config), digest),
    }
    return run if digest is None else {**run, "data": {"digest": digest}}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What decides the result and differs between two runs, as `differences` gives it; empty where they are the same.

    before, now: the content of a run.json or result.json, or what a checkpoint says of its run. A setting that one of
    them does not know has its default there.
    """
    return differences(_decisive(before), _decisive(now))


def _decisive(run: Mapping[str, Any]) -> JSON:
    digits = {"data.digest": run["data"]["digest"]} if "digest" in run.get("data", {}) else {}
    return {**complete_settings(run["config"]), **digits}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys that differ, as "key: old -> new"; "-" for a missing key."""
    if old == new:
        return []
    texts = [{key: json.dumps(value) for key, value in one.items()} for one in (old, new)]
    keys = [key for key in sorted(old.keys() | new.keys()) if texts[0].get(key) != texts[1].get(key)]
    return [f"{key}: {old.get(key, '-')} -> {new.get(key, '-')}" for key in keys]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The shortest name that tells each key from the others: its last part, or all of it."""
    last = [key.removesuffix(".id").rpartition(".")[2] for key in keys]
    return {
        key: short if last.count(short) == 1 and short != "name" else key for key, short in zip(keys, last, strict=True)
    }


def value_text(value: Any) -> str:
    """A setting as people read it."""
    return "-".join(map(str, value)) if isinstance(value, list) else "-" if value in (None, "") else str(value)


def short_values(values: Iterable[Any]) -> dict[str, str]:
    """By `value_text`, the values of one setting with as few significant digits, three at least, as tell them apart."""
    shown = {value_text(value): value for value in values}
    numbers = {text: value for text, value in shown.items() if isinstance(value, float)}
    found = {text: text for text in shown}
    for digits in range(3, 17):
        rounded = {text: f"{value:.{digits}g}" for text, value in numbers.items()}
        times = Counter(rounded.values())
        long = [text for text in numbers if found[text] == text and len(text) > SHORT]
        found |= {text: rounded[text] for text in long if times[rounded[text]] == 1}
    return found


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
