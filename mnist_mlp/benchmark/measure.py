"""Measuring: rounds of epochs in this process, start-up and memory in fresh ones."""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch

from mnist_mlp.benchmark.baselines import BASELINES, Setup, images_of
from mnist_mlp.errors import UserError
from mnist_mlp.models.mlp import layer_sizes
from mnist_mlp.runs.environment import environment
from mnist_mlp.training.processes import cores_of_job
from mnist_mlp.training.threads import step_work, threads_for
from mnist_mlp.training.trainer import choose_accelerator

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
