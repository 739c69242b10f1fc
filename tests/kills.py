"""Kill commands at random moments, often repeatedly; repeating them must give the result of an uninterrupted command.

Each command runs in a fork of this process, so torch is imported only once; jobs in separate processes start as usual.
`python tests/kills.py [--kills 100] [--seed 0] [--case NAME]` prints a table.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forks import Fork, fork
from outcomes import differences, outcome

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_AGAIN_PROBABILITY = 0.5
MOVE_PROBABILITY = 0.3  # of the folder, before the command is repeated
TINY = (
    *("data.val_size=60", "data.batch_size=20", "model.hidden_layers=1", "model.hidden_units=[16]", "optim.lr=0.05"),
    *("trainer.max_epochs=4", "trainer.threads=1", "name=x"),
)
CASES: dict[str, tuple[str, ...]] = {
    "everything": (
        *("model.dropout=0.2", "model.batch_norm=true", "augment.rotation=10", "augment.translate=2"),
        *("optim.schedule=one_cycle", "optim.name=adamw", "trainer.early_stopping=2", "trainer.test_curve=true"),
        "trainer.figures=false",
    ),
    "defaults": (),
    "without validation": ("data.val_size=0", "optim.schedule=cosine", "trainer.figures=false"),
    "compiled": ("trainer.compile=true", "model.dropout=0.2", "trainer.figures=false"),
    "sweep": ("-m", "seed=0,1", "model.dropout=0.2", "trainer.figures=false", "hydra/launcher=basic"),
    "side by side": ("-m", "seed=0,1,2", "trainer.figures=false", "hydra.launcher.n_jobs=2"),
    "joblib": ("-m", "seed=0,1,2", "trainer.figures=false", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
}
WEIGHTS = {
    "everything": 6, "defaults": 5, "without validation": 4, "compiled": 1, "sweep": 2, "side by side": 1, "joblib": 1,
}  # fmt: skip
"""Relative frequency of each case."""


@dataclass
class Command:
    """`train` with the overrides of a case."""

    name: str
    root: Path
    seconds: float = 0.0
    expected: dict[str, Any] = field(default_factory=dict)

    def start(self, folder: Path) -> Fork:
        """Start it in this folder, which is created if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        return fork(lambda: self._train(folder))

    def _train(self, folder: Path) -> None:
        from hydra.core.global_hydra import GlobalHydra

        from mnist_mlp.train import main

        os.chdir(folder)
        sys.argv = ["train", *CASES[self.name], f"data.root={self.root}"]
        keys = {override.partition("=")[0] for override in sys.argv}
        sys.argv += [override for override in TINY if override.partition("=")[0] not in keys]
        GlobalHydra.instance().clear()
        main()

    def measure(self, folder: Path) -> None:
        """Run it once without interruption."""
        child = self.start(folder)
        code, output = child.end()
        assert code == 0, output
        self.seconds = time.monotonic() - child.start_time
        self.expected = outcome(folder)


@dataclass
class Killed:
    """A command killed at random moments: signals received, number of moves, and faults detected."""

    signals: list[str] = field(default_factory=list)
    moves: int = 0
    faults: list[str] = field(default_factory=list)


def killed_at_random(command: Command, folder: Path, rng: random.Random, max_kills: int = 5) -> Killed:
    """Kill the command at random moments, repeat it until it finishes, and compare the outcomes."""
    killed, pids = Killed(), []
    while len(killed.signals) < max_kills and (not killed.signals or rng.random() < KILL_AGAIN_PROBABILITY):
        number, moment = rng.choice(SIGNALS), rng.uniform(0, command.seconds)
        running = command.start(folder)
        pids.append(running.pid)
        if running.has_ended_after(moment):
            killed.faults += _wrong_end(running, None, f"not killed, {moment:.2f} s")
            break
        killed.signals.append(number.name)
        running.kill(number, group=number == signal.SIGINT)  # as a terminal does
        killed.faults += _wrong_end(running, number, f"{number.name} after {moment:.2f} of {command.seconds:.2f} s")
        if rng.random() < MOVE_PROBABILITY:
            killed.moves += 1
            folder = folder.rename(folder.with_name(f"{folder.name}'"))
    code, output = command.start(folder).end()
    if code != 0:
        killed.faults.append(f"repeating the command ends with {code}\n{output[-2000:]}")
    elif different := differences(outcome(folder), command.expected):
        killed.faults.append(f"different outcome: {', '.join(different)}")
    for pid in pids:
        with suppress(ProcessLookupError):  # workers whose parent was killed
            os.killpg(pid, signal.SIGKILL)
    if not killed.faults:
        shutil.rmtree(folder)
    return killed


def _wrong_end(running: Fork, number: signal.Signals | None, how: str) -> list[str]:
    """Faults in how a command ended: an unexpected exit code, or a traceback instead of one line."""
    code, output = running.end()
    is_killed = number == signal.SIGKILL
    allowed = {0} if number is None else {0, -number if is_killed else 128 + number}  # 0: it finished just before
    if code not in allowed or "Traceback" in output or "Exception ignored" in output:
        return [f"{how}: exit code {code}\n{output[-2000:]}"]
    return []


def prepare() -> None:
    """Import what the commands need."""
    from tensorboard.compat import tf

    from mnist_mlp.cli import application as command
    from mnist_mlp.reporting import page
    from mnist_mlp.reporting import tensorboard as means
    from mnist_mlp.training import artifacts, fit

    assert all((tf.__name__, command, means, page, artifacts, fit))


def main() -> int:
    from conftest import write_digits

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of signals sent to running commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", choices=CASES, action="append", help="run only these cases")
    parser.add_argument("--keep", type=Path, help="keep the folders of failed cases here")
    options = parser.parse_args()
    prepare()
    rng = random.Random(options.seed)
    total: dict[str, Counter[str]] = {}
    failed = chains = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        commands: dict[str, Command] = {}
        root = write_digits(work / "digits")
        while sum(map(Counter.total, total.values())) < options.kills:
            names = options.case or list(CASES)
            (name,) = rng.choices(names, [WEIGHTS[case] for case in names])
            if name not in commands:
                commands[name] = Command(name, root)
                commands[name].measure(work / f"{name}-expected")
                print(f"{name}: {commands[name].seconds:.1f} s uninterrupted", flush=True)
            chains += 1
            killed = killed_at_random(commands[name], work / f"{name}-{chains}", rng)
            total.setdefault(name, Counter()).update(killed.signals)
            failed += bool(killed.faults)
            signals = ", ".join(killed.signals) or "finished before the signal"
            print(f"{name}, chain {chains}: {signals}, {killed.moves} moves", flush=True)
            for fault in killed.faults:
                print(f"{name}, chain {chains} ({', '.join(killed.signals)}): {fault}", flush=True)
    for name, counts in total.items():
        print(f"{name:20} {counts.total():4} signals: {', '.join(f'{n} {number}' for number, n in counts.items())}")
    print(
        f"{sum(map(Counter.total, total.values()))} signals in {chains} chains (seed {options.seed}), {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
