"""Command: our training beside a bare PyTorch loop, the conventional Lightning example and the matrix products."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from mnist_mlp.errors import UserError
from mnist_mlp.runs import write_json

KIBIBYTE = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of ru_maxrss."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.benchmark` and of the script `mnist-mlp-benchmark`."""
    began = time.time()
    given = parser().parse_args(arguments)
    try:
        if given.alone:
            print(json.dumps(alone(given, began)))
            return
        setup = setup_of(given)
        given.output.parent.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
        if given.output.is_dir():
            raise UserError(f"--output {given.output} is a folder: give a file")
        report = measure(given, setup)
        print(table(report))
        write_json(given.output, report)
    except (UserError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted") from None
    print(given.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnist_mlp.benchmark",
        description="Time an epoch of several ways to train one MLP, side by side: in turn, round after round, in one"
        " process. Figures are medians over the rounds; ratios are taken within a round, to the bare loop.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--net", type=widths, default="256-128-64", metavar="N-N-...", help="widths of the hidden layers")
    made.add_argument("--batch-size", type=at_least(1), default=64, metavar="N", help="images per optimiser step")
    made.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to train")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads of PyTorch; 0: all cores")
    made.add_argument("--rounds", type=at_least(1), default=5, metavar="N", help="how often each one's turn comes")
    made.add_argument("--epochs", type=at_least(1), default=3, metavar="N", help="epochs per turn")
    made.add_argument(
        "--starts",
        type=at_least(0),
        default=3,
        metavar="N",
        help="fresh processes of each, for start-up and memory; 0: none",
    )
    made.add_argument("--only", metavar="NAME,...", help="of bare, conventional, ours, compiled, floor")
    made.add_argument("--data", default=os.environ.get("MNIST_MLP_DATA", "./data"), help="as data.root")
    made.add_argument("--source", choices=("auto", "mnist", "sample"), default="auto", help="as data.source")
    made.add_argument("--val-size", type=int, default=5000, metavar="N", help="as data.val_size")
    made.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/benchmark") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json",
        metavar="FILE",
        help="where the figures go as JSON",
    )
    # one contender in this process, for start-up and memory
    made.add_argument("--alone", help=argparse.SUPPRESS)
    made.add_argument("--since", type=float, help=argparse.SUPPRESS)  # time.time() when the process was started
    return made


def widths(text: str) -> tuple[int, ...]:
    """Widths of hidden layers from "256-128-64"; "0" is the linear classifier."""
    numbers = tuple(int(number) for number in text.split("-"))
    return () if numbers == (0,) else numbers


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: an integer from `least`."""

    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is out of range: at least {least}")
        return int(text)

    return integer


def setup_of(given: argparse.Namespace) -> Any:
    """The contenders' `Setup`; UserError for what `mnist_mlp.train` would not take."""
    from mnist_mlp.build import choose_accelerator  # deferred, as all that imports torch: --help waits for nothing
    from mnist_mlp.contenders import Setup
    from mnist_mlp.fit import threads_per_job

    threads = given.threads or threads_per_job()
    setup = Setup(given.net, given.batch_size, given.device, threads, given.data, given.source, given.val_size)
    return replace(setup, accelerator=choose_accelerator(setup.config(1, compiled=False)))


def chosen(given: argparse.Namespace) -> list[str]:
    """Names of the contenders, the bare loop first in any case."""
    from mnist_mlp.contenders import CONTENDERS

    asked = given.only.split(",") if given.only else list(CONTENDERS)
    unknown = [name for name in asked if name not in CONTENDERS]
    if unknown:
        raise UserError(f"--only {given.only}: no {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    return [name for name in CONTENDERS if name in asked or name == "bare"]


def measure(given: argparse.Namespace, setup: Any) -> dict[str, Any]:
    """Everything that the table shows, and the single measurements behind it."""
    import torch

    from mnist_mlp.contenders import CONTENDERS, images_of
    from mnist_mlp.environment import environment
    from mnist_mlp.fit import quiet_lightning

    names = chosen(given)
    images = images_of(setup)
    torch.set_num_threads(setup.threads)
    contenders = {name: CONTENDERS[name][0](setup, images) for name in names}
    rounds: dict[str, list[list[Any]]] = {name: [] for name in names}
    compile_seconds = 0.0
    with quiet_lightning():
        for number in range(1 + given.rounds):
            for name, contender in contenders.items():
                _tell(f"round {number} of {given.rounds}: {name}" if number else f"warming up: {name}")
                epochs = contender.run(given.epochs if number else 1)
                compile_seconds = compile_seconds or getattr(contender, "compile_seconds", 0.0)
                if number:
                    rounds[name].append(epochs)
    fresh = {name: list(starts(given, name)) for name in names if name != "floor"}
    _tell("")
    return {
        "net": [784, *given.net, 10],
        "batch_size": setup.batch_size,
        "images": {"train": len(images.train), "val": len(images.val)},
        "rounds": given.rounds,
        "epochs": given.epochs,
        "contenders": {name: summary(rounds[name], rounds["bare"], fresh.get(name, [])) for name in names},
        "compile_seconds": compile_seconds,
        "import_torch_seconds": import_torch_seconds(given.starts),
        "environment": environment(setup.device),
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
        _tell(f"start-up and memory: {name}")
        command = [sys.executable, "-m", "mnist_mlp.benchmark", *alone_arguments(given, name), f"--since={time.time()}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{name} alone failed: {done.stderr.strip().splitlines()[-1]}")
        yield json.loads(done.stdout.splitlines()[-1])


def alone_arguments(given: argparse.Namespace, name: str) -> list[str]:
    """The same command line, for one contender alone."""
    options = {**vars(given), "net": "-".join(map(str, given.net or (0,))), "alone": name}
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items() if value is not None]


def alone(given: argparse.Namespace, began: float) -> dict[str, float]:
    """Seconds to start up a process that trains one epoch, and its peak memory in bytes.

    imports: from the start of the process until all is imported, Hydra too; data: until the images are in memory;
    first_step: until the first optimiser step is done (with several per Lightning batch: the first batch).
    """
    since = given.since or began
    for module in ("mnist_mlp.hydra_app", "mnist_mlp.fit"):  # in the order of `mnist_mlp.train`
        import_module(module)
    from mnist_mlp.contenders import CONTENDERS, images_of
    from mnist_mlp.fit import quiet_lightning

    setup = setup_of(given)
    imported = time.time()
    images = images_of(setup)
    loaded = time.time()
    contender = CONTENDERS[given.alone][0](setup, images)
    with quiet_lightning():
        contender.run(1)
    return {
        "imports": imported - since,
        "data": loaded - imported,
        "first_step": contender.first_step - loaded,
        "peak_bytes": _peak_bytes(setup.accelerator),
    }


def import_torch_seconds(starts: int) -> float | None:
    """Median time of a process that only imports torch: the part of start-up that nobody here can change."""
    times = []
    for _ in range(starts):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times) if times else None


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    from mnist_mlp.contenders import CONTENDERS, LR, MOMENTUM

    place, images = report["environment"], report["images"]
    lines = [
        f"{'-'.join(map(str, report['net']))}, batch {report['batch_size']}, SGD lr {LR} momentum {MOMENTUM}, "
        f"{images['train']:,} images; {place['device']}, {place['threads']} threads, torch {place['torch']}; "
        f"{report['rounds']} rounds of {report['epochs']} epochs",
        "",
        f"{'':<13} {'s to train':>10} {'to bare':>8} {'lowest-highest':>15} {'s with':>11} {'to':>5}",
        f"{'':<13} {'an epoch':>10} {'':>8} {'of a round':>15} {'validation':>11} {'bare':>5}",
    ]
    bare = report["contenders"]["bare"]
    for name, row in report["contenders"].items():
        whole = row["whole_seconds"]
        rest = f"{whole:11.3f} {whole / bare['whole_seconds']:5.2f}" if whole is not None else f"{'-':>11} {'-':>5}"
        span = f"{min(row['ratios']):.2f}-{max(row['ratios']):.2f}"
        lines.append(f"{name:<13} {row['train_seconds']:10.3f} {row['ratio']:8.2f} {span:>15} {rest}")
    lines += start_lines(report)
    if "compiled" in report["contenders"]:
        lines.append(f"compiling the step, when it came first: {report['compile_seconds']:.1f} s")
    lines += ["", *(f"{name}: {CONTENDERS[name][1]}" for name in report["contenders"])]
    return "\n".join(lines)


def start_lines(report: dict[str, Any]) -> list[str]:
    """The part of the table on fresh processes; nothing where there were none."""
    if report["import_torch_seconds"] is None:
        return []
    lines = ["", f"{'':<13} {'imports s':>10} {'data s':>8} {'first step s':>15} {'sum s':>11} {'peak memory':>12}"]
    for name, row in report["contenders"].items():
        if start := row["start"]:
            total = start["imports"] + start["data"] + start["first_step"]
            lines.append(
                f"{name:<13} {start['imports']:10.2f} {start['data']:8.2f} {start['first_step']:15.2f} {total:11.2f} "
                f"{start['peak_bytes'] / 2**20:8.0f} MiB"
            )
    note = "(fresh processes; each imports all of mnist_mlp, and its memory holds that too)"
    return [*lines, note, "", f"import torch alone: {report['import_torch_seconds']:.2f} s"]


def _peak_bytes(accelerator: str) -> int:
    if accelerator == "gpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


def _tell(line: str) -> None:
    """What is being done, over the last such line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
