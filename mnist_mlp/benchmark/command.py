"""Command: measure our training beside a bare loop, the usual Lightning example and the floor."""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mnist_mlp.benchmark.loops import BASELINES, LR, MOMENTUM
from mnist_mlp.console import command
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import write_json
from mnist_mlp.startup import quick_start


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    place, images = report["environment"], report["images"]
    lines = [
        f"{'-'.join(map(str, report['net']))}, batch {report['batch_size']}, SGD lr {LR} momentum {MOMENTUM}, "
        f"{images['train']:,} images; {place['device']}, {place['threads']} threads, torch {place['torch']}; "
        f"{report['rounds']} rounds of {report['epochs']} epochs",
        "",
        f"{'':<13} {'s to train':>10} {'to bare':>8} {'lowest-highest':>15} {'s with':>11} {'to':>5}",
        f"{'':<13} {'an epoch':>10} {'':>8} {'of a round':>15} {'validation':>11} {'bare':>5}",
    ]
    bare = report["baselines"]["bare"]
    for name, row in report["baselines"].items():
        whole = row["whole_seconds"]
        rest = f"{whole:11.3f} {whole / bare['whole_seconds']:5.2f}" if whole is not None else f"{'-':>11} {'-':>5}"
        span = f"{min(row['ratios']):.2f}-{max(row['ratios']):.2f}"
        lines.append(f"{name:<13} {row['train_seconds']:10.3f} {row['ratio']:8.2f} {span:>15} {rest}")
    lines += start_lines(report)
    if "compiled" in report["baselines"]:
        lines.append(f"compiling the step, when it came first: {report['compile_seconds']:.1f} s")
    lines += ["", *(f"{name}: {BASELINES[name][1]}" for name in report["baselines"])]
    return "\n".join(lines)


def start_lines(report: dict[str, Any]) -> list[str]:
    """The part of the table on fresh processes; nothing where there were none."""
    if report["import_torch_seconds"] is None:
        return []
    lines = ["", f"{'':<13} {'imports s':>10} {'data s':>8} {'first step s':>15} {'sum s':>11} {'peak memory':>12}"]
    for name, row in report["baselines"].items():
        if start := row["start"]:
            total = start["imports"] + start["data"] + start["first_step"]
            lines.append(
                f"{name:<13} {start['imports']:10.2f} {start['data']:8.2f} {start['first_step']:15.2f} {total:11.2f} "
                f"{start['peak_bytes'] / 2**20:8.0f} MiB"
            )
    note = "(fresh processes; each imports all of mnist_mlp, and its memory holds that too)"
    return [*lines, note, "", f"import torch alone: {report['import_torch_seconds']:.2f} s"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.benchmark` and of the script `mnist-mlp-benchmark`."""
    began = time.time()
    given = parser().parse_args(arguments)
    with command():
        run(given, began)


def run(given: argparse.Namespace, began: float) -> None:
    """What the command does; began: when its process was asked to (seconds since 1970)."""
    given.rounds = given.rounds or (3 if given.sweep else 5)
    given.epochs = given.epochs or (10 if given.sweep else 3)
    if given.sweep:
        run_sweep(given)
        return
    with quick_start():  # --help is answered without torch
        from mnist_mlp.benchmark.measure import alone, measure, setup_of
    try:
        if given.alone:
            print(json.dumps(alone(given, began)))
            return
        setup = setup_of(given)
        given.output.parent.mkdir(parents=True, exist_ok=True)  # fail now, not after minutes of measuring
        if given.output.is_dir():
            raise UserError(f"--output {given.output} is a folder: give a file")
        report = measure(given, setup)
        print(table(report))
        write_json(given.output, report)
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted") from None
    print(given.output)


def run_sweep(given: argparse.Namespace) -> None:
    """What `--sweep N` does."""
    from mnist_mlp.benchmark.measure import measure_sweep, sweep_table  # deferred: imports torch

    if given.output.is_dir():
        raise UserError(f"--output {given.output} is a folder: give a file")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    report = measure_sweep(given)
    print(sweep_table(report))
    write_json(given.output, report)
    print(given.output)


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Says no default of None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnist_mlp.benchmark",
        description="Time an epoch of several ways to train one MLP, side by side: in turn, round after round, in one"
        " process. Figures are medians over the rounds; ratios are taken within a round, to the bare loop.",
        formatter_class=_Defaults,
    )
    made.add_argument("--net", type=widths, default="256-128-64", metavar="N-N-...", help="widths of the hidden layers")
    made.add_argument("--batch-size", type=at_least(1), default=64, metavar="N", help="images per optimiser step")
    made.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to train")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="as trainer.threads")
    made.add_argument(
        "--sweep",
        type=at_least(1),
        metavar="N",
        help="time N jobs of train -m, whole, beside N programs with a bare loop; --only of bare, sweep, compiled",
    )
    made.add_argument(
        "--rounds", type=at_least(1), metavar="N", help="how often each one's turn comes; 5, with --sweep 3"
    )
    made.add_argument("--epochs", type=at_least(1), metavar="N", help="epochs per turn: 3, with --sweep 10 per job")
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
    # one baseline in this process, for start-up and memory
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
