"""What the diagnosis of a run advises, against the truth: its neighbors, trained.

    python tests/diagnosed_settings.py FOLDER > tests/diagnosed_settings.md

Trains some fifty settings, most of them flawed, on a twentieth of MNIST, and for each its neighbors: other learning
rates, more and fewer epochs, a wider net, dropout, augmentation and weight decay added or removed, and for deep nets
batch norm and half the layers. Prints a Markdown
table with a judgement of each diagnosis and the counts. Runs are kept in FOLDER.

The rule: a diagnosis advises the neighbors that the phrases of `ADVICE` in its text stand for. It is

- right, if it advises a neighbor that gains at least 0.3 points of test accuracy, or nothing and no neighbor gains more
  than 1 point,
- silent, if it advises nothing and a neighbor gains more than 1 point,
- wrong, if it advises something, but no advised neighbor gains 0.3 points.
"""

import argparse
import contextlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mnist_mlp
from mnist_mlp.compare.diagnosis import Finding, diagnose
from mnist_mlp.compare.load import load_job
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_curves

BASE: dict[str, Any] = {
    "data.subset": 0.05, "model.hidden_units": 128, "trainer.max_epochs": 10, "trainer.figures": False,
    "trainer.progress": False,
    "trainer.threads": 1, "trainer.accelerator": "cpu",
}  # fmt: skip
MUCH, SOME = 1.0, 0.3
"""Points of test accuracy: a neighbor that gains more refutes "nothing wrong"; one that gains less is no remedy."""
LOWER, HIGHER = ("lr / 10", "lr / 3"), ("lr x 3", "lr x 10")
ADVICE: dict[str, Sequence[str]] = {
    "learning rate too high|lower learning rate|or a lower one|tenth of optim.lr": LOWER,
    "higher learning rate|learning rate too low": HIGHER,
    "train longer|more epochs": ("epochs x 3",),
    "larger network": ("wider",),
    "batch norm or fewer layers": ("batch norm", "fewer layers"),
    "less dropout, noise or augmentation": ("no dropout", "no augmentation"),
    "augmentation could narrow": ("augmentation",),
}
"""Neighbors by the phrase that advises them; that fewer epochs give better probabilities is no advice on accuracy."""


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


def held_out_settings() -> Iterator[dict[str, Any]]:
    """Settings that were trained after the rules of the diagnosis had been chosen."""
    yield from ({"optim.name": "adam", "optim.lr": 0.02}, {"optim.lr": 0.06, "trainer.max_epochs": 5})
    yield {"model.activation": "tanh", "optim.lr": 0.02}
    yield {"model.hidden_units": 32, "optim.lr": 0.02, "trainer.max_epochs": 6}
    yield {"model.dropout": 0.3, "trainer.max_epochs": 15}
    yield {"data.batch_size": 256, "optim.lr": 0.1}
    yield {"optim.name": "adamw", "optim.lr": 0.002, "trainer.max_epochs": 15}
    yield {"model.batch_norm": True, "optim.lr": 0.03}
    yield {"model.hidden_layers": 2, "model.hidden_units": 256, "optim.lr": 0.2}
    yield {"optim.name": "adam", "optim.lr": 0.0005, "optim.label_smoothing": 0.2}
    yield from ({"augment.rotation": 30.0, "trainer.max_epochs": 5}, {"optim.weight_decay": 0.01})
    yield {"model.dropout": 0.7, "trainer.max_epochs": 5, "optim.lr": 0.03}
    yield {"optim.momentum": 0.0, "optim.lr": 0.1}


def neighbors(setting: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes that a diagnosis may advise, by name."""
    lr, epochs = setting.get("optim.lr", 0.01), setting.get("trainer.max_epochs", 10)
    changes: dict[str, dict[str, Any]] = {
        name: {"optim.lr": float(f"{lr * factor:.3g}")}
        for name, factor in zip(LOWER + HIGHER, (0.1, 1 / 3, 3, 10), strict=True)
    }
    changes["epochs x 3"] = {"trainer.max_epochs": 3 * epochs}
    changes["epochs / 3"] = {"trainer.max_epochs": max(2, epochs // 3)}
    dropout = setting.get("model.dropout", 0.0)
    if setting.get("model.hidden_layers", 3) > 0:
        changes["no dropout" if dropout else "dropout"] = {"model.dropout": 0.0 if dropout else 0.2}
        changes["wider"] = {"model.hidden_units": 4 * setting.get("model.hidden_units", 128)}
    if (layers := setting.get("model.hidden_layers", 3)) > 3:
        changes["batch norm"] = {"model.batch_norm": True}
        changes["fewer layers"] = {"model.hidden_layers": layers // 2}
    if setting.get("optim.weight_decay"):
        changes["no weight decay"] = {"optim.weight_decay": 0.0}
    if setting.get("augment.rotation"):
        changes["no augmentation"] = {"augment.rotation": 0.0, "augment.translate": 0.0}
    else:
        changes["augmentation"] = {"augment.rotation": 10.0, "augment.translate": 1.0}
    return changes


def train(folder: Path, setting: dict[str, Any]) -> tuple[float, Finding]:
    """Train a setting, or read what was trained before; return its test accuracy in percent and its diagnosis."""
    name = f"{describe(setting).replace(' ', ',')},seed=0"
    if (job := load_job(folder / name)) is None or job.result is None:
        with contextlib.redirect_stdout(sys.stderr):
            mnist_mlp.fit({**BASE, **setting, "seed": 0}, folder / name)
        job = load_job(folder / name)
    assert job is not None
    assert job.result is not None
    # an accuracy of a run whose loss became non-finite is that of its best checkpoint
    return 100 * job.result.metrics["test/accuracy"], diagnose(job, read_curves(RunFolder(job.folder).metrics_file))


def describe(setting: dict[str, Any]) -> str:
    """Name a setting by its options, without their groups."""
    values = {key.rpartition(".")[2]: value for key, value in sorted(setting.items())}
    return " ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )


def advised(finding: Finding, names: Sequence[str]) -> list[str]:
    """The neighbors, of these, that a diagnosis advises."""
    text = str(finding)
    return [name for name in names if any(name in of and re.search(key, text, re.I) for key, of in ADVICE.items())]


def judgement(gains: dict[str, float], advice: Sequence[str]) -> str:
    """Right, silent or wrong, by the rule above."""
    if advice:
        return "right" if max(gains[name] for name in advice) >= SOME else "wrong"
    return "silent" if max(gains.values()) > MUCH else "right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows, totals = [], []
    for name, settings in (("adapted to", flawed_settings()), ("held out", held_out_settings())):
        counts, largest = Counter[str](), 0
        for setting in settings:
            accuracy, finding = train(folder, setting)
            others = {change: train(folder, {**setting, **of})[0] for change, of in neighbors(setting).items()}
            gains = {change: other - accuracy for change, other in others.items()}
            advice = advised(finding, list(gains))
            judged, best = judgement(gains, advice), max(gains, key=gains.__getitem__)
            counts[judged] += 1
            largest += best in advice
            advice_text = ", ".join(f"{change} ({gains[change]:+.1f})" for change in advice) or "nothing"
            best_text = f"{best} ({gains[best]:+.1f})"
            cells = [describe(setting), f"{accuracy:.1f}", best_text, str(finding), advice_text, judged, name]
            rows.append(f"| {' | '.join(cells)} |")
        total = ", ".join(f"{counts[key]} {key}" for key in ("right", "silent", "wrong"))
        totals.append(f"- {counts.total()} settings {name}: {total}; {largest} name the best neighbor.")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    print("# Diagnoses against trained neighbors\n")
    print(*totals, "", sep="\n")
    print("| setting | accuracy | best neighbor (gain) | diagnosis | advised neighbors (gain) | judgement | rules |")
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")
    print(
        "\n*Test accuracy in percent and its change in points. Settings not shown: "
        + describe({key: value for key, value in BASE.items() if not key.startswith("trainer.") or "epochs" in key})
        + f" (2,750 training images). One seed (0), commit {commit.strip()}."
        " The held-out settings had 8 right, 5 silent and 1 wrong (adamw at 0.002) before a rule was changed: a"
        " jump to a small loss no longer means too high a learning rate. tests/diagnosed_settings.py prints this page"
        " and defines right, silent and wrong. The rules of commit a9f1f90 had 38 right, 10 silent and 2 wrong of the"
        " 50, and 9, 4 and 1 of the held-out 14.*"
    )


if __name__ == "__main__":
    main()
