"""Command: measure mnist_mlp's training next to a bare loop, the usual Lightning example and the matrix products."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_mlp.config import layer_sizes
from mnist_mlp.console import command
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import write_json
from mnist_mlp.runs.settings import environment
from mnist_mlp.startup import quick_start

if TYPE_CHECKING:
    from mnist_mlp.benchmark.loops import Epoch, Setup

SWEEPS = {
    "bare": "N programs that train by a bare loop, one after the other, on as many threads as torch takes",
    "sweep": "mnist_mlp.train -m with N seeds, everything logged, as many at once as it chooses",
    "compiled": "the same with trainer.compile=true, its code compiled before",
}
"""What `--sweep` times, by name. Ratios are to the first."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.benchmark` and of the script `mnist-mlp-benchmark`."""
    began = time.time()
    options = build_parser().parse_args(arguments)
    options.rounds = options.rounds or (3 if options.sweep else 5)
    options.epochs = options.epochs or (10 if options.sweep else 3)
    with command():
        try:
            _run(options, began)
        except KeyboardInterrupt:
            raise SystemExit("\ninterrupted") from None


def _run(options: argparse.Namespace, began: float) -> None:
    if not options.sweep:
        with quick_start():
            import_module("mnist_mlp.training.fit")
    if options.alone:
        print(json.dumps(measure_start(options, began)))
        return
    setup = None if options.sweep else setup_of(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)  # fail now, not after minutes of measuring
    if options.output.is_dir():
        raise UserError(f"--output {options.output} is a folder: give a file")
    report = measure(options, setup) if setup else measure_sweep(options)
    print(table(report) if setup else sweep_table(report))
    write_json(options.output, report)
    print(options.output)


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Does not print a default of None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.benchmark",
        description="Time an epoch of several ways to train one MLP, side by side: in turn, round after round, in one"
        " process. Figures are medians over the rounds; ratios are taken within a round, to the bare loop.",
        formatter_class=_Defaults,
    )
    add = parser.add_argument
    positive, output = at_least(1), Path("outputs/benchmark") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    root = os.environ.get("MNIST_MLP_DATA", "./data")
    add("--net", type=widths, default="256-128-64", metavar="N-N-...", help="widths of the hidden layers")
    add("--batch-size", type=positive, default=64, metavar="N", help="images per optimiser step")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="where to train")
    add("--threads", type=int, default=0, metavar="N", help="as trainer.threads")
    add(
        "--sweep", type=positive, metavar="N",
        help="time N jobs of train -m, whole, next to N programs with a bare loop; --only of bare, sweep, compiled",
    )  # fmt: skip
    add("--rounds", type=positive, metavar="N", help="how often each one's turn comes; 5, with --sweep 3")
    add("--epochs", type=positive, metavar="N", help="epochs per turn: 3, with --sweep 10 per job")
    starts_help = "fresh processes of each, for start-up and memory; 0: none"
    add("--starts", type=at_least(0), default=3, metavar="N", help=starts_help)
    add("--only", metavar="NAME,...", help="of bare, conventional, ours, compiled, floor")
    add("--data", default=root, help="as data.root")
    add("--source", choices=("auto", "mnist", "sample"), default="auto", help="as data.source")
    add("--val-size", type=int, default=5000, metavar="N", help="as data.val_size")
    add("--output", type=Path, default=output, metavar="FILE", help="where the figures go as JSON")
    # one way to train in this process, for start-up and memory
    add("--alone", help=argparse.SUPPRESS)
    add("--since", type=float, help=argparse.SUPPRESS)  # time.time() when the process was started
    return parser


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


def chosen(only: str | None, names: Iterable[str]) -> list[str]:
    """The names that `--only` lists, the bare loop in any case; UserError for another name."""
    known = list(names)
    requested = only.split(",") if only else known
    if unknown := [name for name in requested if name not in known]:
        raise UserError(f"--only {only}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in requested or name == "bare"]


def setup_of(options: argparse.Namespace) -> "Setup":
    """What all ways train; UserError for what `mnist_mlp.train` would refuse."""
    from mnist_mlp.benchmark.loops import Setup
    from mnist_mlp.training.processes import cores_of_job
    from mnist_mlp.training.trainer import choose_accelerator, step_work, threads_for

    net, batch_size, data = options.net, options.batch_size, (options.data, options.source, options.val_size)
    threads = options.threads or threads_for(step_work(layer_sizes(len(net), net), batch_size), cores_of_job())
    setup = Setup(net, batch_size, options.device, threads, *data)
    return replace(setup, accelerator=choose_accelerator(setup.config(1, compiled=False)))


def measure(options: argparse.Namespace, setup: "Setup") -> dict[str, Any]:
    """The figures of the table, and the single measurements behind them."""
    import torch

    from mnist_mlp.benchmark.loops import LOOPS, LR, MOMENTUM, Watch, images_of

    names, images = chosen(options.only, LOOPS), images_of(setup)
    torch.set_num_threads(setup.threads)
    watches = {name: Watch(setup.accelerator) for name in names}
    rounds: dict[str, list[list[Epoch]]] = {name: [] for name in names}
    compile_seconds = 0.0
    for number in range(1 + options.rounds):
        for name, watch in watches.items():
            _show_progress(f"round {number} of {options.rounds}: {name}" if number else f"warming up: {name}")
            epochs = LOOPS[name][0](setup, images, options.epochs if number else 1, watch)
            compile_seconds = compile_seconds or watch.compile_seconds
            if number:
                rounds[name].append(epochs)
    starts = {name: list(_starts(options, name)) for name in names if name != "floor"}
    imports = []
    for _ in range(options.starts):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        imports.append(time.perf_counter() - start)
    _show_progress("")
    device = torch.cuda.get_device_name() if setup.accelerator == "gpu" else "cpu"
    return {
        "net": [784, *options.net, 10],
        "batch_size": setup.batch_size,
        "optimizer": f"SGD lr {LR} momentum {MOMENTUM}",
        "images": {"train": len(images.train), "val": len(images.val)},
        "rounds": options.rounds,
        "epochs": options.epochs,
        "baselines": {
            name: {"description": LOOPS[name][1], **summary(rounds[name], rounds["bare"], starts.get(name, []))}
            for name in names
        },
        "compile_seconds": compile_seconds,
        "import_torch_seconds": statistics.median(imports) if imports else None,
        "environment": environment(device, setup.threads),
    }


def summary(rounds: list[list["Epoch"]], bare: list[list["Epoch"]], starts: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, and each round's ratio to the bare loop."""

    def seconds(epochs: list["Epoch"]) -> float:
        return float(statistics.median(epoch.train for epoch in epochs))

    wholes = [epoch.whole for epochs in rounds for epoch in epochs if epoch.whole is not None]
    ratios = [seconds(epochs) / seconds(others) for epochs, others in zip(rounds, bare, strict=True)]
    return {
        "train_seconds": statistics.median(map(seconds, rounds)),
        "whole_seconds": statistics.median(wholes) if wholes else None,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "start": {name: statistics.median(start[name] for start in starts) for name in (starts[0] if starts else ())},
        "rounds": rounds,
    }


def _starts(options: argparse.Namespace, name: str) -> Iterator[dict[str, float]]:
    """`measure_start` in fresh processes."""
    for _ in range(options.starts):
        _show_progress(f"start-up and memory: {name}")
        arguments = [*start_arguments(options, name), f"--since={time.time()}"]
        process = subprocess.run(
            [sys.executable, "-m", "mnist_mlp.benchmark", *arguments], capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise UserError(f"{name} alone failed: {process.stderr.strip().splitlines()[-1]}")
        yield json.loads(process.stdout.splitlines()[-1])


def start_arguments(options: argparse.Namespace, name: str) -> list[str]:
    """The same command line, for one way to train alone."""
    values = {**vars(options), "net": "-".join(map(str, options.net or (0,))), "alone": name}
    return [f"--{key.replace('_', '-')}={value}" for key, value in values.items() if value is not None]


def measure_start(options: argparse.Namespace, began: float) -> dict[str, float]:
    """Seconds to start up a process that trains one epoch, and its peak memory in bytes.

    imports: from the start of the process until all is imported, Hydra too; data: until the images are in memory;
    first_step: until the first optimiser step is done (with several per Lightning batch: the first batch).
    """
    import_module("mnist_mlp.training.fit")
    import_module("mnist_mlp.cli.application")  # as `mnist_mlp.train` does
    import torch

    from mnist_mlp.benchmark.loops import LOOPS, Watch, images_of

    setup = setup_of(options)
    watch, imported = Watch(setup.accelerator), time.time()
    images = images_of(setup)
    loaded = time.time()
    LOOPS[options.alone][0](setup, images, 1, watch)
    on_gpu = setup.accelerator == "gpu"
    return {
        "imports": imported - (options.since or began),
        "data": loaded - imported,
        "first_step": watch.first_step - loaded,
        "peak_bytes": int(torch.cuda.max_memory_allocated()) if on_gpu else _peak_resident_bytes(),
    }


def _peak_resident_bytes() -> int:
    """Of this process. On Linux not ru_maxrss, which starts with the peak of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    machine, images, rows = report["environment"], report["images"], report["baselines"]
    lines = [
        f"{'-'.join(map(str, report['net']))}, batch {report['batch_size']}, {report['optimizer']}, "
        f"{images['train']:,} images; {machine['device']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"{report['rounds']} rounds of {report['epochs']} epochs",
        "",
        f"{'':<13} {'s to train':>10} {'to bare':>8} {'lowest-highest':>15} {'s with':>11} {'to':>5}",
        f"{'':<13} {'an epoch':>10} {'':>8} {'of a round':>15} {'validation':>11} {'bare':>5}",
    ]
    for name, row in rows.items():
        whole, bare = row["whole_seconds"], rows["bare"]["whole_seconds"]
        validated = f"{whole:11.3f} {whole / bare:5.2f}" if whole is not None else f"{'-':>11} {'-':>5}"
        span = f"{min(row['ratios']):.2f}-{max(row['ratios']):.2f}"
        lines.append(f"{name:<13} {row['train_seconds']:10.3f} {row['ratio']:8.2f} {span:>15} {validated}")
    if report["import_torch_seconds"] is not None:
        header = f"{'imports s':>10} {'data s':>8} {'first step s':>15} {'sum s':>11} {'peak memory':>12}"
        lines += ["", f"{'':<13} {header}"]
        for name, row in rows.items():
            if start := row["start"]:
                total = start["imports"] + start["data"] + start["first_step"]
                lines.append(
                    f"{name:<13} {start['imports']:10.2f} {start['data']:8.2f} {start['first_step']:15.2f} "
                    f"{total:11.2f} {start['peak_bytes'] / 2**20:8.0f} MiB"
                )
        note = "(fresh processes; each imports all of mnist_mlp, and its memory holds that too)"
        lines += [note, "", f"import torch alone: {report['import_torch_seconds']:.2f} s"]
    if "compiled" in rows:
        lines.append(f"compiling the step, when it came first: {report['compile_seconds']:.1f} s")
    return "\n".join([*lines, "", *(f"{name}: {row['description']}" for name, row in rows.items())])


def measure_sweep(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of the table: seconds of whole programs by name, round by round."""
    names = chosen(options.only, SWEEPS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        if "compiled" in names:  # compiled code is kept for later runs
            _run_program(_train(options, "compiled", epochs=1, jobs=1), Path(folder) / "warm")
        for number in range(1, options.rounds + 1):
            for name in names:
                began = time.perf_counter()
                for program in [_bare(options)] * options.sweep if name == "bare" else [_train(options, name)]:
                    _run_program(program, Path(folder) / f"{name}-{number}")
                seconds[name].append(time.perf_counter() - began)
                _show_progress(f"round {number} of {options.rounds}: {name} {seconds[name][-1]:.1f} s")
    return {
        "jobs": options.sweep,
        "epochs": options.epochs,
        "net": [784, *options.net, 10],
        "batch_size": options.batch_size,
        "bare_threads": options.threads or None,
        "seconds": seconds,
        "ratios": {
            name: [whole / bare for whole, bare in zip(times, seconds["bare"], strict=True)]
            for name, times in seconds.items()
        },
    }


def sweep_table(report: dict[str, Any]) -> str:
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
    return "\n".join([*lines, "", *(f"{name}: {SWEEPS[name]}" for name in report["seconds"])])


def _bare(options: argparse.Namespace) -> list[str]:
    """A program that trains one net by a bare loop."""
    net = "-".join(map(str, options.net or (0,)))
    return [
        *("mnist_mlp.benchmark.loops", net, str(options.batch_size), str(options.epochs)),
        *(options.data, options.source, str(options.val_size), str(options.threads)),
    ]


def _train(options: argparse.Namespace, name: str, epochs: int = 0, jobs: int = 0) -> list[str]:
    from mnist_mlp.benchmark.loops import LR, MOMENTUM

    root = Path(options.data).absolute()
    return [
        *("mnist_mlp.train", "-m", f"seed=range({jobs or options.sweep})", "name=benchmark", f"data.root={root}"),
        *(f"data.source={options.source}", f"data.val_size={options.val_size}"),
        *(f"data.batch_size={options.batch_size}", f"model.hidden_layers={len(options.net)}"),
        f"model.hidden_units=[{','.join(map(str, options.net or (1,)))}]",
        *(f"optim.lr={LR}", f"optim.momentum={MOMENTUM}", f"trainer.max_epochs={epochs or options.epochs}"),
        *("trainer.accelerator=cpu", f"trainer.compile={str(name == 'compiled').lower()}"),
    ]


def _run_program(module: Sequence[str], folder: Path) -> None:
    """Run `python -m` with these arguments in a folder."""
    folder.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if process.returncode:
        failures = [line for line in process.stdout.splitlines() if "FAILED" in line]
        reasons = failures or process.stderr.strip().splitlines() or ["no reason"]
        raise UserError(f"-m {module[0]} failed: {reasons[-1]}")


def _show_progress(line: str) -> None:
    """Replace the last such line, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
