"""Command: what CPU threads and their waiting cost, alone, beside busy processes, and beside a second run.

    python -m mnist_mlp.benchmark.threads        # about five minutes on a quiet machine

Its figures are behind `trainer.threads=0` and `GOMP_SPINCOUNT` in docs/speed.md.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from mnist_mlp.console import command
from mnist_mlp.quick_start import SPIN_COUNT, quick_start

NETS = {
    "256-128-64, 64": ([256, 128, 64], 64),
    "512-256-128, 200": ([512, 256, 128], 200),
    "1024-1024-1024, 500": ([1024, 1024, 1024], 500),
}
"""Small, middle and wide: hidden layers and batch."""
PLACES = ("alone", "busy", "pair")
"""Alone; beside one spinning process per core; beside a second run of the same kind."""
IMAGES = 20_000


@dataclass(frozen=True)
class Variant:
    """threads: 0 for what `trainer.threads=0` takes; spin: GOMP_SPINCOUNT, None for libgomp's own."""

    threads: int
    spin: str | None

    def __str__(self) -> str:
        return f"{self.threads or 'by the rule'}, spinning {self.spin or 'as libgomp does'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.benchmark.threads`."""
    given = parser().parse_args(arguments)
    with command():
        if given.worker:
            serve(int(given.worker))
            return
        found = measure(given.rounds, given.seconds, given.spins)
        print(table(found))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m mnist_mlp.benchmark.threads", description=__doc__.partition("\n")[0])
    made.add_argument("--rounds", type=int, default=4, metavar="N", help="how often each one's turn comes; default: 4")
    made.add_argument("--seconds", type=float, default=1.0, metavar="N", help="of a turn; default: 1")
    made.add_argument("--spins", nargs="*", default=["1000", "2000", SPIN_COUNT, "10000"], metavar="N", help="to try")
    made.add_argument("--worker", help=argparse.SUPPRESS)
    return made


def serve(threads: int) -> None:
    """Train for as long as each line of standard input says ("net seconds"), and answer with milliseconds a step."""
    if "GOMP_SPINCOUNT" not in os.environ:
        import torch  # before `quick_start`, which would set it
    with quick_start():
        import torch

        from mnist_mlp.training.processes import cores_of_job
        from mnist_mlp.training.threads import step_work, threads_for
    loops = {name: _steps(*settings) for name, settings in NETS.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        name, seconds = json.loads(line)
        widths, batch = NETS[name]
        torch.set_num_threads(threads or threads_for(step_work([784, *widths, 10], batch), cores_of_job()))
        for _ in range(3):
            next(loops[name])
        start, count = time.perf_counter(), 0
        while time.perf_counter() < start + seconds:
            next(loops[name])
            count += 1
        print(1000 * (time.perf_counter() - start) / count, flush=True)


def _steps(widths: list[int], batch: int) -> Iterator[None]:
    """Optimiser steps of the package's own on random images, one for each `next`."""
    import torch

    from mnist_mlp.config import Config, ModelConfig
    from mnist_mlp.training.classifier import DigitClassifier
    from mnist_mlp.training.optimizer import FunctionalOptimizer
    from mnist_mlp.training.step import TrainingStep

    torch.manual_seed(0)
    model = DigitClassifier.from_config(
        Config(model=ModelConfig(hidden_layers=len(widths), hidden_units=widths))
    ).train()
    step = TrainingStep(model, FunctionalOptimizer(model.configure_optimizers()), {})
    images, labels = torch.randint(0, 256, (IMAGES, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (IMAGES,))
    rate = torch.tensor(0.01)
    while True:
        for indices in torch.randperm(IMAGES).split(batch):
            step(images, labels, indices, rate)
            yield


def measure(rounds: int, seconds: float, spins: Sequence[str]) -> dict[tuple[str, Variant], dict[str, list[float]]]:
    """Milliseconds a step by net and variant, by place, once a round; the variants in turn."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variants = [Variant(1, SPIN_COUNT), *(Variant(cores, spin) for spin in spins), Variant(cores, None)]
    variants.append(Variant(0, SPIN_COUNT))
    found: dict[tuple[str, Variant], dict[str, list[float]]] = {
        (net, variant): {place: [] for place in PLACES} for net in NETS for variant in variants
    }
    with ExitStack() as held:
        workers = {variant: [held.enter_context(_worker(variant)) for _ in range(2)] for variant in variants}
        for _ in range(rounds):
            for place in PLACES:
                with _busy(cores if place == "busy" else 0):
                    for net in NETS:
                        for variant in variants:
                            asked = workers[variant] if place == "pair" else workers[variant][:1]
                            found[net, variant][place].append(statistics.fmean(_ask(asked, net, seconds)))
    return found


@contextmanager
def _worker(variant: Variant) -> Iterator[subprocess.Popen[str]]:
    unset = ("GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    if variant.spin is not None:
        environment["GOMP_SPINCOUNT"] = variant.spin
    line = [sys.executable, "-m", "mnist_mlp.benchmark.threads", "--worker", str(variant.threads)]
    with subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def _ask(workers: Sequence[subprocess.Popen[str]], net: str, seconds: float) -> list[float]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{json.dumps([net, seconds])}\n")
        worker.stdin.flush()
    return [float(worker.stdout.readline()) for worker in workers if worker.stdout is not None]


@contextmanager
def _busy(count: int) -> Iterator[None]:
    context: Any = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    if processes:
        time.sleep(0.5)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    while True:
        pass


def table(found: dict[tuple[str, Variant], dict[str, list[float]]]) -> str:
    """A line for each net and variant: medians [lowest, highest], and the two ratios that are bounded."""
    lines = ["| network, batch | threads | alone | busy | pair | alone : best fixed | busy : alone |", f"|{'---|' * 7}"]
    for net in NETS:
        here = {variant: places for (name, variant), places in found.items() if name == net}
        best = min(statistics.median(places["alone"]) for variant, places in here.items() if variant.threads)
        for variant, places in here.items():
            cells = [
                f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]" for values in places.values()
            ]
            alone, busy = (statistics.median(places[place]) for place in ("alone", "busy"))
            lines.append(f"| {net} | {variant} | {' | '.join(cells)} | {alone / best:.2f} | {busy / alone:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
