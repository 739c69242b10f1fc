"""Minimal synthetic run folders, sufficient for reports. Does not import torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conftest import made_up_digits

from mnist_mlp.config import Config
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import write_json
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import describe

TRUTH = made_up_digits(100, 1)[1].astype(int)
"""Labels of the test digits of the fixture idx_root."""


def predicted_with(wrong: Sequence[int]) -> list[int]:
    """Predictions that equal TRUTH except at these indices, where they are one higher (modulo 10)."""
    return [(int(digit) + (index in wrong)) % 10 for index, digit in enumerate(TRUTH)]


def config_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The resolved default configuration with these settings by dotted key."""
    config: dict[str, Any] = to_dict(Config())
    for key, value in {"data.source": "mnist", "trainer.accelerator": "cpu", **settings}.items():
        section = config
        *groups, name = key.split(".")
        for group in groups:
            section = section[group]
        assert name in section, key
        section[name] = value
    return config


def write_curves(folder: Path, losses: Sequence[float]) -> None:
    """Write a metrics.csv with these training losses and slightly higher validation losses."""
    lines = ["epoch,train/loss,train/accuracy,val/loss,val/accuracy"]
    lines += [f"{n + 1},{loss},{1 - loss / 4},{loss + 0.01},{0.99 - loss / 4}" for n, loss in enumerate(losses)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def made_up_result(wrong: Sequence[int] = (0, 1, 2), status: str = "finished", **settings: Any) -> RunResult:
    """The result of a run that misclassifies these indices; settings such as optim__lr=0.1."""
    config = config_of({key.replace("__", "."): value for key, value in settings.items()})
    predicted = np.array(predicted_with(wrong))
    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (TRUTH, predicted), 1)
    accuracy = float((predicted == TRUTH).mean())
    f1 = [float(2 * matrix[d, d] / (matrix[d].sum() + matrix[:, d].sum())) for d in range(10)]
    return RunResult(
        status=status,
        **describe(config, []),
        data={"source": config["data"]["source"], "train": 240, "val": 60, "test": 100},
        parameters=1000,
        epochs=3,
        best_epoch=3,
        metrics={
            "val/accuracy": accuracy,
            "test/accuracy": accuracy,
            "test/f1_macro": sum(f1) / 10,
            "test/loss": None if status == "diverged" else 1 - accuracy,
        },
        per_class={"precision": f1, "recall": f1, "f1": f1, "support": matrix.sum(1).tolist()},
        confusion_matrix=matrix.tolist(),
        timing={"fit_seconds": 1.5, "epoch_seconds": 0.5},
        environment={"device": "cpu (made up)", "threads": 1, "torch": "2.0", "commit": "0123456789abcdef"},
    )


def write_run(
    folder: Path, wrong: Sequence[int] = (0, 1, 2), status: str = "finished", curves: bool = True, **settings: Any
) -> Path:
    """Write a finished run: `made_up_result`, its predictions and, if `curves`, its metrics.csv."""
    folder.mkdir(parents=True)
    result = made_up_result(wrong, status, **settings)
    write_json(folder / "result.json", result.to_json())
    predicted = np.array(predicted_with(wrong))
    probabilities = np.full((100, 10), 0.01)
    probabilities[range(100), predicted] = 0.91
    np.savez(RunFolder(folder).predictions_file, truth=TRUTH, prediction=predicted, probabilities=probabilities)
    if curves:
        write_curves(folder, (2.0, 1.0, 0.9))
    return folder


def write_failure(folder: Path, reason: str, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    config = config_of({key.replace("__", "."): value for key, value in settings.items()})
    (folder / "failure.json").write_text(json.dumps({"reason": reason, "overrides": [], "config": config}))
    return folder


def write_unfinished(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    config = config_of({key.replace("__", "."): value for key, value in settings.items()})
    (folder / "run.json").write_text(json.dumps({"config": config, "fingerprint": "f", "overrides": []}))
    write_curves(folder, (2.0, 1.5))
    return folder
