"""What the diagnosis of a run advises, against the truth: its neighbors, trained.

    python tests/diagnosed_settings.py FOLDER [--seeds 2]

Trains some fifty settings, most of them flawed, on a twentieth of MNIST, and for each its neighbors: other learning
rates, more and fewer epochs, a wider net, dropout added or removed. A diagnosis is right if the neighbor that it
advises gains test accuracy, or, if it advises nothing, if no neighbor gains much. Runs are kept in FOLDER.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mnist_mlp

BASE: dict[str, Any] = {
    "data.subset": 0.05, "model.hidden_units": 128, "trainer.max_epochs": 10, "trainer.figures": False,
    "trainer.progress": False,
    "trainer.threads": 1, "trainer.accelerator": "cpu",
}  # fmt: skip
MUCH, SOME = 1.0, 0.3
"""Points of test accuracy: a neighbor that gains more refutes "nothing wrong"; one that gains less is no remedy."""


def flawed_settings() -> Iterator[dict[str, Any]]:
    """The settings to diagnose; the first are those of an audit that met wrong advice."""
    yield {"optim.lr": 0.3}
    yield {"optim.lr": 0.01, "trainer.max_epochs": 40}
    yield {"model.dropout": 0.8}
    yield {"optim.name": "adam", "optim.lr": 0.03}
    for epochs in (3, 10):
        yield from ({"optim.lr": lr, "trainer.max_epochs": epochs} for lr in (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003))
    yield from ({"optim.name": "adam", "optim.lr": lr} for lr in (0.1, 0.01, 0.003, 0.001, 0.0001))
    yield from ({"optim.name": "adamw", "optim.lr": 0.001, "trainer.max_epochs": epochs} for epochs in (10, 40))
    yield from ({"model.dropout": 0.5, "trainer.max_epochs": epochs} for epochs in (5, 30))
    yield from ({"model.activation": "sigmoid", "optim.lr": lr} for lr in (0.01, 0.1, 1.0))
    yield from ({"model.hidden_layers": layers, "model.hidden_units": 64} for layers in (1, 6, 10))
    yield from ({"model.hidden_units": units} for units in (4, 16, 512))
    yield from ({"data.batch_size": size} for size in (8, 512))
    yield from ({"data.batch_size": 8, "optim.lr": lr} for lr in (0.1, 0.001))
    yield from ({"optim.schedule": schedule, "optim.lr": 0.05} for schedule in ("cosine", "linear", "one_cycle"))
    yield from ({"optim.label_smoothing": smoothing, "trainer.max_epochs": 30} for smoothing in (0.1, 0.4))
    yield from ({"optim.weight_decay": decay} for decay in (0.001, 0.05))
    yield {"augment.rotation": 15.0, "augment.translate": 2.0}
    yield {"augment.rotation": 180.0}
    yield {"model.hidden_layers": 0, "trainer.max_epochs": 30}
    yield {"data.normalization": "raw", "optim.lr": 0.001}
    yield {"model.batch_norm": True, "optim.lr": 0.3}
    yield {"optim.momentum": 0.0, "optim.lr": 0.003}
    yield {"optim.momentum": 0.99, "optim.lr": 0.03}


def neighbors(setting: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes that a diagnosis may advise, by name."""
    lr, epochs = setting.get("optim.lr", 0.01), setting.get("trainer.max_epochs", 10)
    changes: dict[str, dict[str, Any]] = {
        f"lr x {factor:g}": {"optim.lr": float(f"{lr * factor:.3g}")} for factor in (0.1, 1 / 3, 3, 10)
    }
    changes["epochs x 3"] = {"trainer.max_epochs": 3 * epochs}
    changes["epochs / 3"] = {"trainer.max_epochs": max(2, epochs // 3)}
    dropout = setting.get("model.dropout", 0.0)
    if setting.get("model.hidden_layers", 3) > 0:
        changes["no dropout" if dropout else "dropout"] = {"model.dropout": 0.0 if dropout else 0.2}
        changes["wider"] = {"model.hidden_units": 4 * setting.get("model.hidden_units", 128)}
    if setting.get("optim.weight_decay"):
        changes["no weight decay"] = {"optim.weight_decay": 0.0}
    if setting.get("augment.rotation"):
        changes["no augmentation"] = {"augment.rotation": 0.0, "augment.translate": 0.0}
    return changes


def train(folder: Path, setting: dict[str, Any], seeds: int) -> list[mnist_mlp.Run]:
    """Train a setting, or read what was trained before."""
    name = ",".join(
        f"{key.rpartition('.')[2]}={value:g}" if isinstance(value, float) else f"{key.rpartition('.')[2]}={value}"
        for key, value in sorted(setting.items())
    )
    return [
        mnist_mlp.fit({**BASE, **setting, "seed": seed}, folder / f"{name or 'default'},seed={seed}")
        for seed in range(seeds)
    ]


def accuracy(runs: list[mnist_mlp.Run]) -> float:
    """Mean test accuracy in percent."""
    return 100 * sum(run.metrics["test/accuracy"] for run in runs) / len(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    lines = []
    for setting in flawed_settings():
        own = accuracy(train(args.folder, setting, args.seeds))
        gains = {
            name: accuracy(train(args.folder, {**setting, **change}, args.seeds)) - own
            for name, change in neighbors(setting).items()
        }
        lines.append({"setting": setting, "accuracy": own, "gains": gains})
        print(json.dumps(lines[-1]), flush=True)


if __name__ == "__main__":
    main()
