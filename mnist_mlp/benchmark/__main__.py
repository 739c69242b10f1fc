"""Command: time mnist_mlp's training next to a bare PyTorch loop, a typical Lightning example and matrix products."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from operator import truediv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from mnist_mlp.console import command
from mnist_mlp.errors import UserError, stopping_on_signals
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON, refuse_unwritable, write_json
from mnist_mlp.runs.settings import environment, flatten
from mnist_mlp.startup import quick_start

if TYPE_CHECKING:
    from mnist_mlp.benchmark.loops import Epoch

LR, MOMENTUM = 0.005, 0.9
SWEEPS = {
    "bare": "N programs with a bare PyTorch loop, one after another, with torch's default number of threads",
    "sweep": "mnist_mlp.train -m with N seeds, everything logged, with its default parallelism",
    "compiled": "the same with trainer.compile=true and a warm compile cache",
}
"""Programs that `--sweep` times, by name. The first is the reference of ratios."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.benchmark` and of the script `mnist-mlp-benchmark`."""
    options = build_parser().parse_args(arguments)
    options.rounds = options.rounds or (3 if options.sweep else 5)
    options.epochs = options.epochs or (10 if options.sweep else 3)
    with command(), stopping_on_signals():
        config = build_config(options)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        refuse_unwritable(options.output)  # fail before minutes of measurement
        report = {"net": [784, *options.net, 10], "batch_size": options.batch_size, "epochs": options.epochs}
        report |= (measure_sweep if options.sweep else measure)(options, config)
        print((sweep_table if options.sweep else table)(report))
        write_json(options.output, report)
        print(options.output)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.benchmark",
        description="Time one epoch of several training loops for the same MLP, alternating in one process. Times are"
        " medians over rounds; ratios are computed within each round, relative to the bare loop.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    output = Path("outputs/benchmark") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    add("--net", type=widths, default="256-128-64", metavar="N-N-...", help="widths of the hidden layers")
    add("--batch-size", type=int, default=64, metavar="N", help="images per optimizer step")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to train")
    add("--threads", type=int, default=0, metavar="N", help="as trainer.threads")
    add(
        "--sweep", type=count, default=0, metavar="N",
        help="time whole programs: train -m with N jobs and N bare loops; 0: time one epoch of each loop",
    )  # fmt: skip
    add("--rounds", type=count, default=0, metavar="N", help="number of rounds; 0: 5, or 3 with --sweep")
    add("--epochs", type=count, default=0, metavar="N", help="epochs per round; 0: 3, or 10 per job with --sweep")
    only_help = "any of bare, conventional, ours, compiled, floor; with --sweep, of bare, sweep, compiled"
    add("--only", default="all", metavar="NAME,...", help=only_help)
    add("--data", default=DataConfig().root, help="as data.root")
    add("--source", choices=("auto", "mnist", "sample"), default="auto", help="as data.source")
    add("--val-size", type=int, default=5000, metavar="N", help="as data.val_size")
    add("--output", type=Path, default=output, metavar="FILE", help="JSON file for the results")
    return parser


def widths(text: str) -> list[int]:
    """Parse widths of hidden layers such as "256-128-64"; "0" is the linear classifier."""
    numbers = [int(number) for number in text.split("-")]
    return [] if numbers == [0] else numbers


def count(text: str) -> int:
    """Parse a non-negative integer."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is out of range: must be at least 0")
    return int(text)


def selected(only: str, names: Iterable[str]) -> list[str]:
    """The names listed by `--only`, and always the bare loop; UserError for an unknown name."""
    known = list(names)
    requested = known if only == "all" else only.split(",")
    if unknown := [name for name in requested if name not in known]:
        raise UserError(f"--only {only}: unknown {', '.join(unknown)}; use {', '.join(known)}")
    return [name for name in known if name in requested or name == "bare"]


def build_config(options: argparse.Namespace) -> Config:
    """The configuration of all loops, every `auto` resolved; UserError if `mnist_mlp.train` would reject it."""
    config = Config(
        data=DataConfig(
            root=options.data, source=options.source, val_size=options.val_size, batch_size=options.batch_size
        ),
        model=ModelConfig(hidden_layers=len(options.net), hidden_units=options.net or [1]),
        optim=OptimConfig(lr=LR, momentum=MOMENTUM),
        trainer=TrainerConfig(max_epochs=options.epochs, accelerator=options.device, threads=options.threads),
    )
    # quick_start sets OpenMP's wait policy, which the bare programs of a sweep must not inherit
    with nullcontext() if options.sweep else quick_start():
        from mnist_mlp.data.mnist import load_digits
        from mnist_mlp.data.module import DigitData
        from mnist_mlp.training.trainer import choose_accelerator, threads_of
    digits = load_digits(config.data.source, config.data.root)
    val_size = len(DigitData.from_config(config, digits).split.val)
    data = replace(config.data, root=Path(options.data).absolute(), source=digits.source, val_size=val_size)
    accelerator = "cpu" if options.sweep else choose_accelerator(config)
    threads = options.threads if options.sweep else options.threads or threads_of(config)
    return replace(config, data=data, trainer=replace(config.trainer, accelerator=accelerator, threads=threads))


def measure(options: argparse.Namespace, config: Config) -> JSON:
    """Time the selected loops; the JSON report for `table`, with all measurements."""
    import torch

    from mnist_mlp.benchmark.loops import LOOPS, load_images

    names, images = selected(options.only, LOOPS), load_images(config)
    torch.set_num_threads(config.trainer.threads)
    rounds: dict[str, list[list[Epoch]]] = {name: [] for name in names}
    one_epoch = replace(config, trainer=replace(config.trainer, max_epochs=1))
    for number in range(1 + options.rounds):
        for name in names:
            print(f"round {number} of {options.rounds}: {name}" if number else f"warming up: {name}", file=sys.stderr)
            epochs = LOOPS[name][0](config if number else one_epoch, images)
            if number:
                rounds[name].append(epochs)
    device = torch.cuda.get_device_name() if config.trainer.accelerator == "gpu" else "cpu"
    return {
        "optimizer": f"SGD lr {LR} momentum {MOMENTUM}",
        "images": {"train": len(images.train), "val": len(images.val)},
        "rounds": options.rounds,
        "baselines": {name: {"description": LOOPS[name][1], **summary(rounds[name], rounds["bare"])} for name in names},
        "environment": environment(device, config.trainer.threads),
    }


def summary(rounds: list[list["Epoch"]], bare: list[list["Epoch"]]) -> dict[str, Any]:
    """Medians over rounds, and the ratio to the bare loop in each round."""

    def seconds(epochs: list["Epoch"]) -> float:
        return float(statistics.median(epoch.train for epoch in epochs))

    totals = [epoch.total for epochs in rounds for epoch in epochs if epoch.total is not None]
    ratios = [seconds(epochs) / seconds(bare_epochs) for epochs, bare_epochs in zip(rounds, bare, strict=True)]
    return {
        "train_seconds": statistics.median(map(seconds, rounds)),
        "whole_seconds": statistics.median(totals) if totals else None,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "rounds": rounds,
    }


def table(report: JSON) -> str:
    """Format a report of `measure`."""
    machine, rows = report["environment"], []
    for name, row in report["baselines"].items():
        total, bare = row["whole_seconds"], report["baselines"]["bare"]["whole_seconds"]
        with_validation = [f"{total:.3f}", f"{total / bare:.2f}"] if total else ["-", "-"]
        rows.append([name, f"{row['train_seconds']:.3f}", *_ratio_cells(row["ratios"]), *with_validation])
    header = ["", "training s", "vs bare", "min-max", "s incl.", "vs bare"]
    second = ["", "per epoch", "", "over rounds", "validation", ""]
    title = (
        f"{'-'.join(map(str, report['net']))}, batch {report['batch_size']}, {report['optimizer']}, "
        f"{report['images']['train']:,} images; {machine['device']}, {machine['threads']} threads, torch "
        f"{machine['torch']}; {report['rounds']} rounds of {report['epochs']} epochs"
    )
    legend = [f"{name}: {row['description']}" for name, row in report["baselines"].items()]
    return "\n".join([title, "", *_aligned([header, second, *rows]), "", *legend])


def measure_sweep(options: argparse.Namespace, config: Config) -> JSON:
    """Time whole programs; the JSON report for `sweep_table`, seconds by name and round."""
    names = selected(options.only, SWEEPS)
    jobs = replace(config, trainer=replace(config.trainer, threads=0))
    programs = {name: [train_program(jobs, name, options.sweep)] for name in names}
    programs["bare"] = [["mnist_mlp.benchmark.loops", json.dumps(to_dict(config))]] * options.sweep
    seconds: dict[str, list[float]] = {name: [] for name in names}
    if "compiled" in names:  # fill the compile cache
        run_program(train_program(replace(jobs, trainer=replace(jobs.trainer, max_epochs=1)), "compiled", 1))
    for number in range(1, options.rounds + 1):
        for name in names:
            seconds[name].append(sum(map(run_program, programs[name])))
            print(f"round {number} of {options.rounds}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    return {
        "jobs": options.sweep,
        "bare_threads": options.threads or None,
        "seconds": seconds,
        "ratios": {name: list(map(truediv, times, seconds["bare"])) for name, times in seconds.items()},
    }


def sweep_table(report: JSON) -> str:
    """Format a report of `measure_sweep`."""
    threads = report["bare_threads"] or "torch's default number of"
    rows = [["", "seconds", "jobs per minute", "vs bare", "min-max"]]
    for name, times in report["seconds"].items():
        median = statistics.median(times)
        rate = 60 * report["jobs"] / median
        rows.append([name, f"{median:.1f}", f"{rate:.1f}", *_ratio_cells(report["ratios"][name])])
    title = (
        f"{report['jobs']} jobs of {report['epochs']} epochs, {'-'.join(map(str, report['net']))}, "
        f"batch {report['batch_size']}; whole programs, alternating for {len(report['seconds']['bare'])} rounds; "
        f"bare loops on {threads} threads"
    )
    return "\n".join([title, "", *_aligned(rows), "", *(f"{name}: {SWEEPS[name]}" for name in report["seconds"])])


def _ratio_cells(ratios: Sequence[float]) -> tuple[str, str]:
    """Median and range as text."""
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows as lines, the first column left-aligned, the others right-aligned."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(sizes[0]), *map(str.rjust, row[1:], sizes[1:])]) for row in rows]


def train_program(config: Config, name: str, jobs: int) -> list[str]:
    """Arguments of `python -m` for a sweep over this many seeds, compiled if `name` is "compiled"."""
    config = replace(config, trainer=replace(config.trainer, compile=name == "compiled"))
    defaults = flatten(to_dict(Config()))
    overrides = [f"{key}={value}" for key, value in flatten(to_dict(config)).items() if value != defaults[key]]
    return ["mnist_mlp.train", "-m", f"seed=range({jobs})", "name=benchmark", *overrides]


def run_program(arguments: Sequence[str]) -> float:
    """Run `python -m` with these arguments in an empty folder; return the seconds it took."""
    paths = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    program, environ = [sys.executable, "-m", *arguments], {**os.environ, "PYTHONPATH": paths}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False, env=environ)
        seconds = time.perf_counter() - start
    if process.returncode:
        failures = [line for line in process.stdout.splitlines() if "FAILED" in line]
        reasons = failures or process.stderr.strip().splitlines() or ["no error output"]
        raise UserError(f"-m {arguments[0]} failed: {reasons[-1]}")
    return seconds


if __name__ == "__main__":
    main()
