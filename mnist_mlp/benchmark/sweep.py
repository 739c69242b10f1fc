"""A sweep as `train -m` runs it beside bare loops one after the other: whole programs, timed from outside."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_mlp.benchmark.loop import LR, MOMENTUM
from mnist_mlp.errors import UserError

COMMANDS = {
    "bare": "N programs that train by a bare loop, one after the other, on as many threads as torch takes",
    "sweep": "mnist_mlp.train -m with N seeds, everything logged, as many at once as it chooses",
    "compiled": "the same with trainer.compile=true, its code compiled before",
}
"""What is timed, by name. Ratios are to the first."""


def measure_sweep(given: argparse.Namespace) -> dict[str, Any]:
    """The figures of the table: seconds of whole programs by name, round by round."""
    names = _chosen(given.only)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        if "compiled" in names:  # what is compiled is kept for later runs
            _run(_train(given, "compiled", epochs=1, jobs=1), Path(folder) / "warm")
        for number in range(1, given.rounds + 1):
            for name in names:
                place = Path(folder) / f"{name}-{number}"
                began = time.perf_counter()
                commands = [_bare(given)] * given.sweep if name == "bare" else [_train(given, name)]
                for command in commands:
                    _run(command, place)
                seconds[name].append(time.perf_counter() - began)
                _show(f"round {number} of {given.rounds}: {name} {seconds[name][-1]:.1f} s")
    return {
        "jobs": given.sweep,
        "epochs": given.epochs,
        "net": [784, *given.net, 10],
        "batch_size": given.batch_size,
        "bare_threads": given.threads or None,
        "seconds": seconds,
        "ratios": {name: ratios(seconds, name) for name in names},
    }


def sweep_table(report: Mapping[str, Any]) -> str:
    """The figures as text."""
    threads = report["bare_threads"] or "torch's own number of"
    lines = [
        f"{report['jobs']} jobs of {report['epochs']} epochs, {'-'.join(map(str, report['net']))}, "
        f"batch {report['batch_size']}; whole programs, {len(report['seconds']['bare'])} rounds in turn; "
        f"the bare loops on {threads} threads",
        "",
        f"{'':<10} {'seconds':>9} {'jobs a minute':>14} {'to bare':>8} {'lowest-highest':>15}",
    ]
    for name, times in report["seconds"].items():
        middle, ratios = statistics.median(times), report["ratios"][name]
        lines.append(
            f"{name:<10} {middle:9.1f} {60 * report['jobs'] / middle:14.1f} {statistics.median(ratios):8.2f} "
            f"{f'{min(ratios):.2f}-{max(ratios):.2f}':>15}"
        )
    return "\n".join([*lines, "", *(f"{name}: {COMMANDS[name]}" for name in report["seconds"])])


def _chosen(only: str | None) -> list[str]:
    asked = only.split(",") if only else list(COMMANDS)
    if unknown := [name for name in asked if name not in COMMANDS]:
        raise UserError(f"--only {only}: no {', '.join(unknown)}; with --sweep there are {', '.join(COMMANDS)}")
    return [name for name in COMMANDS if name in asked or name == "bare"]


def ratios(seconds: Mapping[str, Sequence[float]], name: str) -> list[float]:
    """Of each round, to the bare loops of that round."""
    return [one / bare for one, bare in zip(seconds[name], seconds["bare"], strict=True)]


def _bare(given: argparse.Namespace) -> list[str]:
    """A program that trains one net by a bare loop."""
    net = "-".join(map(str, given.net or (0,)))
    return [
        *(sys.executable, "-m", "mnist_mlp.benchmark.bare_program", net, str(given.batch_size), str(given.epochs)),
        *(given.data, given.source, str(given.val_size), str(given.threads)),
    ]


def _train(given: argparse.Namespace, name: str, epochs: int = 0, jobs: int = 0) -> list[str]:
    return [
        *(sys.executable, "-m", "mnist_mlp.train", "-m", f"seed=range({jobs or given.sweep})", "name=benchmark"),
        *(f"data.root={Path(given.data).absolute()}", f"data.source={given.source}", f"data.val_size={given.val_size}"),
        *(f"data.batch_size={given.batch_size}", f"model.hidden_layers={len(given.net)}"),
        f"model.hidden_units=[{','.join(map(str, given.net or (1,)))}]",
        *(f"optim.lr={LR}", f"optim.momentum={MOMENTUM}", f"trainer.max_epochs={epochs or given.epochs}"),
        *("trainer.accelerator=cpu", f"trainer.compile={str(name == 'compiled').lower()}"),
    ]


def _run(command: Sequence[str], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if "FAILED" in line] or done.stderr.strip().splitlines()
        raise UserError(f"{' '.join(command[1:3])} failed: {(told or ['no reason'])[-1]}")


def _show(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
