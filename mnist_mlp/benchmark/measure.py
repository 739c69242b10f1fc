"""A sweep as `train -m` runs it beside bare loops one after the other: whole programs, timed from outside."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from mnist_mlp.benchmark.loops import BASELINES, LR, MOMENTUM, Setup, images_of
from mnist_mlp.config import layer_sizes
from mnist_mlp.errors import UserError
from mnist_mlp.runs.settings import environment
from mnist_mlp.training.processes import cores_of_job
from mnist_mlp.training.trainer import choose_accelerator, step_work, threads_for

KIBIBYTE = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of ru_maxrss."""


def setup_of(given: argparse.Namespace) -> Any:
    """The baselines' `Setup`; UserError for what `mnist_mlp.train` would not take."""

    work = step_work(layer_sizes(len(given.net), given.net), given.batch_size)
    threads = given.threads or threads_for(work, cores_of_job())
    setup = Setup(given.net, given.batch_size, given.device, threads, given.data, given.source, given.val_size)
    return replace(setup, accelerator=choose_accelerator(setup.config(1, compiled=False)))


def chosen(given: argparse.Namespace) -> list[str]:
    """Names of the baselines, the bare loop first in any case."""

    asked = given.only.split(",") if given.only else list(BASELINES)
    unknown = [name for name in asked if name not in BASELINES]
    if unknown:
        raise UserError(f"--only {given.only}: no {', '.join(unknown)}; there are {', '.join(BASELINES)}")
    return [name for name in BASELINES if name in asked or name == "bare"]


def measure(given: argparse.Namespace, setup: Any) -> dict[str, Any]:
    """The figures of the table, and the single measurements behind them."""

    names = chosen(given)
    images = images_of(setup)
    torch.set_num_threads(setup.threads)
    baselines = {name: BASELINES[name][0](setup, images) for name in names}
    rounds: dict[str, list[list[Any]]] = {name: [] for name in names}
    compile_seconds = 0.0
    for number in range(1 + given.rounds):
        for name, baseline in baselines.items():
            _show_progress(f"round {number} of {given.rounds}: {name}" if number else f"warming up: {name}")
            epochs = baseline.run(given.epochs if number else 1)
            compile_seconds = compile_seconds or getattr(baseline, "compile_seconds", 0.0)
            if number:
                rounds[name].append(epochs)
    fresh = {name: list(starts(given, name)) for name in names if name != "floor"}
    _show_progress("")
    return {
        "net": [784, *given.net, 10],
        "batch_size": setup.batch_size,
        "images": {"train": len(images.train), "val": len(images.val)},
        "rounds": given.rounds,
        "epochs": given.epochs,
        "baselines": {name: summary(rounds[name], rounds["bare"], fresh.get(name, [])) for name in names},
        "compile_seconds": compile_seconds,
        "import_torch_seconds": import_torch_seconds(given.starts),
        "environment": environment(_device_name(setup.accelerator), setup.threads),
    }


def summary(rounds: list[list[Any]], bare: list[list[Any]], starts: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, and each round's ratio to the bare loop. A round is a list of `Epoch`."""

    def seconds(turn: list[Any]) -> float:
        return float(statistics.median(epoch.train for epoch in turn))

    wholes = [epoch.whole for turn in rounds for epoch in turn if epoch.whole is not None]
    ratios = [seconds(turn) / seconds(beside) for turn, beside in zip(rounds, bare, strict=True)]
    return {
        "train_seconds": statistics.median(map(seconds, rounds)),
        "whole_seconds": statistics.median(wholes) if wholes else None,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "start": {name: statistics.median(start[name] for start in starts) for name in (starts[0] if starts else ())},
        "rounds": rounds,
    }


def starts(given: argparse.Namespace, name: str) -> Iterator[dict[str, float]]:
    """`alone` in fresh processes."""
    for _ in range(given.starts):
        _show_progress(f"start-up and memory: {name}")
        command = [sys.executable, "-m", "mnist_mlp.benchmark", *alone_arguments(given, name), f"--since={time.time()}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{name} alone failed: {done.stderr.strip().splitlines()[-1]}")
        yield json.loads(done.stdout.splitlines()[-1])


def alone_arguments(given: argparse.Namespace, name: str) -> list[str]:
    """The same command line, for one baseline alone."""
    options = {**vars(given), "net": "-".join(map(str, given.net or (0,))), "alone": name}
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items() if value is not None]


def alone(given: argparse.Namespace, began: float) -> dict[str, float]:
    """Seconds to start up a process that trains one epoch, and its peak memory in bytes.

    imports: from the start of the process until all is imported, Hydra too; data: until the images are in memory;
    first_step: until the first optimiser step is done (with several per Lightning batch: the first batch).
    """
    since = given.since or began
    import_module("mnist_mlp.cli.application")  # as `mnist_mlp.train` does; all else was imported with this module
    setup = setup_of(given)
    imported = time.time()
    images = images_of(setup)
    loaded = time.time()
    baseline = BASELINES[given.alone][0](setup, images)
    baseline.run(1)
    return {
        "imports": imported - since,
        "data": loaded - imported,
        "first_step": baseline.first_step - loaded,
        "peak_bytes": _peak_bytes(setup.accelerator),
    }


def _device_name(accelerator: str) -> str:
    return torch.cuda.get_device_name() if accelerator == "gpu" else "cpu"


def import_torch_seconds(starts: int) -> float | None:
    """Median time of a process that only imports torch: the part of start-up that this package cannot change."""
    times = []
    for _ in range(starts):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times) if times else None


def _peak_bytes(accelerator: str) -> int:
    if accelerator == "gpu":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


def _show_progress(line: str) -> None:
    """Replace the last such line, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)


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
