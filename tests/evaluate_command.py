"""Every sentence and number of the command evaluate, of its --json, and of a model card, on made-up predictions."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from made_up_runs import TRUTH as LABELS
from made_up_runs import made_up_result, predicted_with

from mnist_mlp import DigitClassifier, evaluate
from mnist_mlp.config import ModelConfig
from mnist_mlp.serve import evaluate as evaluation
from mnist_mlp.serve import nets

TRUTH = "Of 100 test images, a misclassifies 3, b the same and 5 others; augmentation corrects one of a's."
WRONG = {"a": range(3), "b": range(8), "augmented": range(1, 3)}


def made_up_evaluation(run: Any, split: str, root: str | None = None, augment: int = 0, seed: int = 0) -> Any:
    """What `evaluate_run` returns: logits of 3 for the predicted digit, 0 for the others."""
    name = getattr(run, "name", run)
    predicted = predicted_with(list(WRONG["augmented" if augment and name == "a" else name]))
    logits = 3 * np.eye(10, dtype=np.float32)[predicted]
    images = np.zeros((100, 28, 28), np.uint8)
    arrays = images, LABELS, np.arange(100), logits
    return evaluation.Evaluation(name, split, "mnist", *arrays, augment, evaluations="mnist 2, qmnist50k 1")


def sentences() -> Iterator[tuple[str, str]]:
    """Every sentence and number, with the command or file where it stands."""
    plain = made_up_evaluation("a", "test")
    result = made_up_result(WRONG["a"])
    result.metrics.update({f"test/{name}": value for name, value in plain.metrics.items()})
    for title, arguments, stored in (
        ("equal", ["a", "--augment", "4"], result),
        ("differs", ["a"], made_up_result(WRONG["b"])),
        ("ensemble", ["a", "b", "--augment", "4"], None),
    ):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "evaluation.json"
            with (
                mock.patch.object(evaluation, "evaluate_run", made_up_evaluation),
                mock.patch.object(nets, "locate", lambda run, stored=stored: _net(run, stored)),
                contextlib.redirect_stdout(io.StringIO()) as printed,
                contextlib.suppress(SystemExit),
            ):
                evaluate.main([*arguments, "--no-figures", "--json", str(file)])
            yield from ((title, line) for line in printed.getvalue().splitlines() if line and folder not in line)
            yield from (("--json", text) for text in _flat(json.loads(file.read_text())))
    torch.manual_seed(0)
    model = DigitClassifier(model=ModelConfig(hidden_layers=1, hidden_units=[16]))
    card = nets.model_card(SimpleNamespace(name="a", result=lambda: result), model, nets.dense_net(model))  # type: ignore[arg-type]
    yield from (("card", f"{name}: {text}") for name, text in card.items() if name not in ("fingerprint", "made by"))


def _net(name: str, stored: Any) -> SimpleNamespace:
    checkpoint = f"{name}/best.ckpt"
    return SimpleNamespace(name=name, checkpoint=checkpoint, home=Path(name), folder=None, result=lambda: stored)


def _flat(content: Any, path: str = "") -> Iterator[str]:
    """Numbers and texts by key, without those by digit."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in ("confusion_matrix", "per_class"):
                yield from _flat(value, f"{path}.{key}".lstrip("."))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _flat(value, f"{path}[{index}]")
    else:
        yield f"{path} {content:.4f}" if isinstance(content, float) else f"{path} {content}"
