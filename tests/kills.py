"""Signals at random moments: the command is killed, often more than once, and at last ends as if nothing had happened.

Each command runs in a fork of this process, so that torch is imported once; those whose jobs have processes of their
own start them as ever. `python tests/kills.py [--kills 100] [--seed 0] [--case NAME]` prints a table.
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
AGAIN = 0.5
"""How likely a command that goes on is killed again."""
MOVED = 0.3
"""How likely the folder of a killed command is moved before it goes on."""
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
SHARES = {
    "everything": 6, "defaults": 5, "without validation": 4, "compiled": 1, "sweep": 2, "side by side": 1, "joblib": 1,
}  # fmt: skip
"""How often each is tried, on average, out of twenty."""


@dataclass
class Command:
    """`train` with these overrides, in whatever folder it is given."""

    name: str
    root: Path
    seconds: float = 0.0
    unbroken: dict[str, Any] = field(default_factory=dict)

    def start(self, folder: Path) -> Fork:
        """Begin it in this folder, made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        return fork(lambda: self._train(folder))

    def _train(self, folder: Path) -> None:
        from hydra.core.global_hydra import GlobalHydra

        from mnist_mlp.train import main

        os.chdir(folder)
        sys.argv = ["train", *CASES[self.name], f"data.root={self.root}"]
        sys.argv += [one for one in TINY if one.partition("=")[0] not in {two.partition("=")[0] for two in sys.argv}]
        GlobalHydra.instance().clear()
        main()

    def measure(self, folder: Path) -> None:
        """Run it once to its end."""
        begun = self.start(folder)
        code, output = begun.end()
        assert code == 0, output
        self.seconds = time.monotonic() - begun.began
        self.unbroken = outcome(folder)


@dataclass
class Killed:
    """What came of a command that was killed at random moments: signals that met it alive, moves, what was wrong."""

    signals: list[str] = field(default_factory=list)
    moves: int = 0
    faults: list[str] = field(default_factory=list)


def killed_at_random(command: Command, folder: Path, chance: random.Random, most: int = 5) -> Killed:
    """Kill the command at random moments, go on with it until it is done, and compare with the unbroken one."""
    met, begun = Killed(), []
    while len(met.signals) < most and (not met.signals or chance.random() < AGAIN):
        number, moment = chance.choice(SIGNALS), chance.uniform(0, command.seconds)
        running = command.start(folder)
        begun.append(running.pid)
        if running.ended_after(moment):
            met.faults += _wrong_end(running, None, f"not killed, {moment:.2f} s")
            break
        met.signals.append(number.name)
        running.kill(number, group=number == signal.SIGINT)  # as a terminal does
        met.faults += _wrong_end(running, number, f"{number.name} after {moment:.2f} of {command.seconds:.2f} s")
        if chance.random() < MOVED:
            met.moves += 1
            folder = folder.rename(folder.with_name(f"{folder.name}'"))
    code, output = command.start(folder).end()
    if code != 0:
        met.faults.append(f"the same command then ends with {code}\n{output[-2000:]}")
    elif different := differences(outcome(folder), command.unbroken):
        met.faults.append(f"another outcome: {', '.join(different)}")
    for pid in begun:
        with suppress(ProcessLookupError):  # workers whose parent was killed
            os.killpg(pid, signal.SIGKILL)
    if not met.faults:
        shutil.rmtree(folder)
    return met


def _wrong_end(running: Fork, number: signal.Signals | None, how: str) -> list[str]:
    """What is wrong with how a command ended: another exit code than it should, or more than a line of complaint."""
    code, output = running.end()
    killed = number == signal.SIGKILL
    allowed = {0} if number is None else {0, -number if killed else 128 + number}  # 0: it ended just then
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
    parser.add_argument("--kills", type=int, default=100, help="signals that meet a command alive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", choices=CASES, action="append", help="these alone")
    parser.add_argument("--keep", type=Path, help="leave here what went wrong")
    options = parser.parse_args()
    prepare()
    chance = random.Random(options.seed)
    total: dict[str, Counter[str]] = {}
    wrong = chains = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        commands: dict[str, Command] = {}
        root = write_digits(work / "digits")
        while sum(map(Counter.total, total.values())) < options.kills:
            names = options.case or list(CASES)
            (name,) = chance.choices(names, [SHARES[one] for one in names])
            if name not in commands:
                commands[name] = Command(name, root)
                commands[name].measure(work / f"{name}-unbroken")
                print(f"{name}: {commands[name].seconds:.1f} s unbroken", flush=True)
            chains += 1
            met = killed_at_random(commands[name], work / f"{name}-{chains}", chance)
            total.setdefault(name, Counter()).update(met.signals)
            wrong += bool(met.faults)
            print(
                f"{name}, chain {chains}: {', '.join(met.signals) or 'it was quicker'}, {met.moves} moves", flush=True
            )
            for fault in met.faults:
                print(f"{name}, chain {chains} ({', '.join(met.signals)}): {fault}", flush=True)
    for name, signals in total.items():
        print(f"{name:20} {signals.total():4} signals: {', '.join(f'{n} {one}' for one, n in signals.items())}")
    print(f"{sum(map(Counter.total, total.values()))} signals in {chains} chains (seed {options.seed}), {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
