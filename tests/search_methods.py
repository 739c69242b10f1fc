"""Compare random search, TPE and halving at equal training time: python tests/search_methods.py made-up REPEATS, or
python tests/search_methods.py mnist REPEATS FOLDER.

Drives the sweeper with a launcher that trains plainly in this process. Time is CPU time on MNIST and epochs on the
made-up space, whose learning curves have a plateau and a speed that depend on five settings.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from zlib import crc32

import numpy as np
import optuna
import torch
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli.launcher import Sampler
from mnist_mlp.cli.search import OptunaSweeper
from mnist_mlp.config import Config
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.model import MLP
from mnist_mlp.options import to_dict

EPOCHS = 27
SPACE = {
    "optim.lr": "tag(log, interval(0.0001, 1))",
    "optim.name": "choice(sgd, adam)",
    "model.hidden_layers": "int(interval(1, 3))",
    "model.hidden_units": "choice(32, 64, 128)",
    "model.dropout": "interval(0.0, 0.5)",
}
METHODS: dict[str, tuple[str, int | None]] = {"random": ("random", None), "TPE": ("tpe", None), "halving": ("tpe", 1)}


class MadeUpRun:
    """A learning curve without training."""

    def __init__(self, settings: dict[str, str], seed: int) -> None:
        rng = np.random.default_rng(crc32(f"{settings} {seed}".encode()))
        best = -2.5 if settings["optim.name"] == "adam" else -1.0
        distance = (math.log10(float(settings["optim.lr"])) - best) ** 2
        width, depth = math.log2(int(settings["model.hidden_units"]) / 32), int(settings["model.hidden_layers"])
        dropout = (float(settings["model.dropout"]) - 0.15) ** 2
        self._plateau = 0.97 - 0.04 * distance + 0.004 * width - 0.003 * (depth - 2) ** 2 - 0.1 * dropout
        self._speed = 0.5 * math.exp(-0.6 * distance) / depth
        self._noise, self.accuracy, self.epochs = rng, 0.0, 0

    def train(self, epochs: int) -> float:
        """Continue to this many epochs; return the time."""
        before, self.epochs = self.epochs, epochs
        for epoch in range(before + 1, epochs + 1):
            reached = self._plateau * (1 - 0.5 * (1 + epoch) ** -(0.3 + self._speed))
            self.accuracy = max(self.accuracy, reached + self._noise.normal(0, 0.002))
        return float(epochs - before)


class Run:
    """A plain training of the package's MLP on 2,750 images of MNIST, with 2,500 for validation."""

    digits = None

    def __init__(self, settings: dict[str, str], seed: int) -> None:
        if Run.digits is None:
            digits = load_digits("mnist", sys.argv[3])
            order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))[:5250]
            images = (digits.train_images[order].float() / 255 - 0.1307) / 0.3081
            Run.digits = images.flatten(1), digits.train_labels[order].long()
        torch.manual_seed(seed)
        layers, units = int(settings["model.hidden_layers"]), int(settings["model.hidden_units"])
        self._model = MLP(layers, [units], dropout=float(settings["model.dropout"]))
        rate, parameters = float(settings["optim.lr"]), self._model.parameters()
        is_sgd = settings["optim.name"] == "sgd"
        self._optimizer: Any = (
            torch.optim.SGD(parameters, rate, momentum=0.9) if is_sgd else torch.optim.Adam(parameters, rate)
        )
        self.accuracy, self.epochs, self._seed = 0.0, 0, seed

    def train(self, epochs: int) -> float:
        """Continue to this many epochs; return the CPU time."""
        start = time.process_time()
        assert Run.digits is not None
        images, labels = Run.digits
        while self.epochs < epochs:
            torch.manual_seed(1000 * self._seed + self.epochs)
            self._model.train()
            for batch in torch.randperm(2750).split(64):
                self._optimizer.zero_grad()
                torch.nn.functional.cross_entropy(self._model(images[batch]), labels[batch]).backward()
                self._optimizer.step()
            self._model.eval()
            with torch.no_grad():
                correct = self._model(images[2750:]).argmax(1) == labels[2750:]
            self.accuracy = max(self.accuracy, correct.float().mean().item())
            self.epochs += 1
        return time.process_time() - start


class Launcher:
    """Trains jobs one after another and records total time and best accuracy so far."""

    def __init__(self, run: Any, seed: int) -> None:
        self._run, self._seed = run, seed
        self._runs: dict[str, Any] = {}
        self.curve: list[tuple[float, float]] = [(0.0, 0.0)]

    def launch(self, jobs: Sequence[Sequence[str]], number: int) -> list[SimpleNamespace]:
        """Train a batch."""
        returned = []
        for texts in jobs:
            settings = dict(text.split("=") for text in texts)
            epochs, _ = int(settings.pop("trainer.max_epochs", EPOCHS)), settings.pop("hydra.sweep.subdir", "")
            run = self._runs.setdefault(str(settings), None) or self._run(settings, self._seed)
            self._runs[str(settings)] = run
            seconds, best = self.curve[-1]
            self.curve.append((seconds + run.train(epochs), max(best, run.accuracy)))
            returned.append(SimpleNamespace(return_value=run.accuracy))
        return returned


def search_config(space: Mapping[str, str], *task: str, storage: str | None = None, **options: Any) -> DictConfig:
    """The composed configuration of a search, as far as the sweeper reads it; options: of `hydra.sweeper`."""
    sweeper = {"n_trials": 20, "n_jobs": 1, "min_epochs": None, "sampler": "tpe", "study_name": "search"}
    hydra = {
        "sweeper": {**sweeper, "storage": storage, "params": dict(space), **options},
        "sweep": {"dir": "outputs"},
        "overrides": {"task": list(task)},
    }
    return OmegaConf.create({"hydra": hydra, **to_dict(Config())})


def run_search(config: DictConfig, launcher: Any) -> None:
    """Run the sweeper with this launcher; every job is taken to be valid."""
    loader = SimpleNamespace(load_sweep_config=lambda master, overrides: OmegaConf.create(to_dict(Config())))
    task = SimpleNamespace(swept=[], total=0)
    options = {key: value for key, value in config.hydra.sweeper.items() if key not in ("sampler", "storage")}
    sweeper = OptunaSweeper(**options, sampler=Sampler(config.hydra.sweeper.sampler))
    with mock.patch.object(Plugins, "instantiate_launcher", return_value=launcher):
        context: Any = SimpleNamespace(config_loader=loader)
        sweeper.setup(hydra_context=context, task_function=task, config=config)  # type: ignore[arg-type]
    sweeper.sweep([])


def search(method: str, run: Any, seed: int, trials: int) -> list[tuple[float, float]]:
    """Best accuracy by total time."""
    sampler, min_epochs = METHODS[method]
    config = search_config(SPACE, n_trials=trials, sampler=sampler, min_epochs=min_epochs)
    config.seed, config.trainer.max_epochs = seed, EPOCHS
    launcher = Launcher(run, seed)
    run_search(config, launcher)
    return launcher.curve


def main() -> None:
    """Run the searches."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, repeats = sys.argv[1], int(sys.argv[2])
    run: Any = MadeUpRun if space == "made-up" else Run
    scale = 2 if space == "made-up" else 1
    trials = {"random": 14 * scale, "TPE": 14 * scale, "halving": 49 * scale}  # of about equal time
    for method in sys.argv[4:] or METHODS:
        curves = []
        for seed in range(repeats):
            curves.append(search(method, run, seed, trials[method]))
            Path(f"search_{space}_{method}.json").write_text(json.dumps(curves))


def table(space: str) -> None:
    """Print the mean and standard deviation over the repeats after the same times."""
    curves = {method: json.loads(Path(f"search_{space}_{method}.json").read_text()) for method in METHODS}
    total = statistics.fmean(curve[-1][0] for repeats in curves.values() for curve in repeats)
    for method, repeats in curves.items():
        for fraction in (0.125, 0.25, 0.5, 1.0):
            at = [max(best for seconds, best in curve if seconds <= fraction * total) for curve in repeats]
            mean, deviation = 100 * statistics.fmean(at), 100 * statistics.stdev(at)
            print(f"{method:8} {fraction * total:6.1f}: {mean:.2f} ± {deviation:.2f} (n={len(at)})")


if __name__ == "__main__":
    main()
    table(sys.argv[1])
