"""The outcome of a run or sweep without times: what must be equal whether or not it was interrupted."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def outcome(folder: Path) -> dict[str, Any]:
    """Collect results, weights, tables, predictions, figures and TensorBoard points by relative path.

    Of all other files only the names. Equal outcomes have no missing and no duplicate entries.
    """
    entries: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # a killed process leaves its released lock file
        if ".set_aside" in name or path.is_dir() or path.name == ".lock":
            continue
        if path.name == "result.json":
            content = json.loads(path.read_text())
            entries[name] = {key: value for key, value in content.items() if key not in ("timing", "started")}
        elif path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            entries[name] = {key: value.numpy().tobytes() for key, value in state.items()}
        elif path.suffix == ".csv":
            entries[name] = untimed(path)
        elif path.suffix == ".png" or path.name in ("predictions.npz", "classification_report.txt"):
            entries[name] = path.read_bytes()
        elif path.name.startswith("events.out.tfevents"):
            events = f"{path.parent.relative_to(folder)}/events"
            entries[events] = sorted([*entries.get(events, ()), *points(path)])
        else:
            entries[name] = "exists"
    assert any(name.endswith("result.json") for name in entries), f"no result in {folder}"
    return entries


def points(path: Path) -> list[tuple[str, int, bytes]]:
    """Tag, step and value of all entries of an event file: scalars, images, texts, hyperparameters."""
    entries = []
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            plugin = value.metadata.plugin_data
            if value.tag.startswith("_hparams_"):  # the order of keys differs between processes
                plugin.content = HParamsPluginData.FromString(plugin.content).SerializeToString(deterministic=True)
            entries.append((value.tag, event.step, b"" if "second" in value.tag else value.SerializeToString()))
    return entries


def untimed(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file without columns of times."""
    with path.open() as file:
        return [{key: cell for key, cell in row.items() if "second" not in key} for row in csv.DictReader(file)]


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The names of entries that differ."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
