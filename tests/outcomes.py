"""All that has to be the same when a run or a sweep was broken off and gone on with: everything but times."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def outcome(folder: Path) -> dict[str, Any]:
    """By the path below this folder, each run that is there, the tables of a sweep, and the names of all other files.

    Equal where results, weights, rows, predictions, figures and TensorBoard's points are, none missing and none twice.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if (
            ".set_aside" in name or path.is_dir() or path.name == ".lock"
        ):  # a free lock stays where the holder was killed
            continue
        if path.name == "result.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "timing"}
        elif path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            found[name] = {key: value.numpy().tobytes() for key, value in state.items()}
        elif path.suffix == ".csv":
            found[name] = untimed(path)
        elif path.suffix == ".png" or path.name in ("predictions.npz", "classification_report.txt"):
            found[name] = path.read_bytes()
        elif path.name.startswith("events.out.tfevents"):
            place = f"{path.parent.relative_to(folder)}/events"
            found[place] = sorted([*found.get(place, ()), *points(path)])
        else:
            found[name] = "there"
    assert any(name.endswith("result.json") for name in found), f"no result in {folder}"
    return found


def points(path: Path) -> list[tuple[str, int, bytes]]:
    """Tag, step and value of all that is in an event file: scalars, pictures, texts, settings."""
    found = []
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            about = value.metadata.plugin_data
            if value.tag.startswith("_hparams_"):  # its order of keys is another in every process
                about.content = HParamsPluginData.FromString(about.content).SerializeToString(deterministic=True)
            found.append((value.tag, event.step, b"" if "second" in value.tag else value.SerializeToString()))
    return found


def untimed(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file without the columns that tell times."""
    with path.open() as file:
        return [{key: cell for key, cell in row.items() if "second" not in key} for row in csv.DictReader(file)]


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
