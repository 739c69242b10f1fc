"""Faults at every write: the Nth one fails, or the process dies there; then the same command must mend it.

After SQLite's way of testing (sqlite.org/testing.html, "I/O error testing" and "crash testing"). Each case runs in a
fork of this process, so that torch is imported once. `python tests/faults.py [--every K]` runs the whole enumeration.
"""

import argparse
import builtins
import contextlib
import errno
import io
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITES = ("write", "fsync", "replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "truncate")
HOW = ("ENOSPC", "EIO", "dies")
KILLED = 137
ONE_LINE = 3
"""Exit code of a child that ended in an error which a user sees as one line."""


@dataclass
class Faults:
    """Counts the calls that change files below a folder; the one with the number `at` fails, or ends the process."""

    folder: Path
    at: int = 0
    how: str = "dies"
    calls: list[str] = field(default_factory=list)
    _pid: int = field(default_factory=os.getpid)

    @contextlib.contextmanager
    def installed(self) -> Iterator["Faults"]:
        before: dict[tuple[Any, str], Any] = {}
        for name in WRITES:
            before[os, name] = getattr(os, name)
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        for module in (builtins, io):
            before[module, "open"] = module.open
            module.open = self._opening(module.open)
        try:
            yield self
        finally:
            for (module, name), function in before.items():
                setattr(module, name, function)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **options: Any) -> Any:
            self._count(name, target, lambda: function(target, rest[0][: len(rest[0]) // 2]) if name == "write" else 0)
            return function(target, *rest, **options)

        return call

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            opened = function(file, mode, *rest, **options)
            if set(mode) & set("wax+"):
                self._count("open", file)
                return Writing(opened, self, file)
            return opened

        return call

    def _count(self, name: str, target: Any, half: Callable[[], Any] = lambda: 0) -> None:
        path = (
            os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.path.abspath(os.fsdecode(target))
        )
        if not path.startswith(str(self.folder)):
            return
        self.calls.append(f"{name} {os.path.relpath(path, self.folder)}")
        if len(self.calls) != self.at:
            return
        half()
        if self.how == "dies":
            os._exit(KILLED)
        raise OSError(getattr(errno, self.how), os.strerror(getattr(errno, self.how)), path)


class Writing:
    """An open file whose writes are counted, and fail, like those of `os.write`."""

    def __init__(self, file: Any, faults: Faults, path: Any) -> None:
        self._file, self._faults, self._path = file, faults, path

    def write(self, content: Any) -> Any:
        self._faults._count("write", self._path, lambda: (self._file.write(content[: len(content) // 2]), self.flush()))
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def in_a_fork(work: Callable[[], None]) -> tuple[int, str]:
    """The exit code of a child process that does this work, and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                work()
                code = 0
            except SystemExit as ended:
                print(ended.code if isinstance(ended.code, str) else "", file=sys.stderr)
                code = ended.code if isinstance(ended.code, int) else ONE_LINE
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


def outcome(folder: Path) -> object:
    """All that must be the same after any fault: results, weights, rows and TensorBoard's points, but for times."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, object] = {}
    for result in sorted(folder.rglob("result.json")):
        run = result.parent
        if any(part.startswith(".") for part in run.relative_to(folder).parts):
            continue
        content = json.loads(result.read_text())
        weights = {
            name: {key: value.numpy().tobytes() for key, value in torch.load(
                run / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"].items()}
            for name in ("best", "last")
        }  # fmt: skip
        lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        timed = [index for index, name in enumerate(lines[0]) if "second" in name]
        rows = [[cell for index, cell in enumerate(line) if index not in timed] for line in lines]
        board = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False)
        board.Reload()
        points = {
            tag: [(event.step, None if "second" in tag else event.value) for event in board.Scalars(tag)]
            for tag in board.Tags()["scalars"]
        }
        kept = {key: content[key] for key in ("metrics", "confusion_matrix", "best_epoch", "epochs", "config", "data")}
        kept["config"] = {**kept["config"], "data": None}
        found[run.name] = [kept, weights, rows, points, (run / "predictions.npz").stat().st_size]
    assert found, f"no result in {folder}"
    return found


@dataclass
class Case:
    """A command whose writes are to fail. run: writes into the folder it is given."""

    name: str
    run: Callable[[Path], None]
    work: Path
    unbroken: object = None
    calls: list[str] = field(default_factory=list)

    def measure(self) -> None:
        """Run it once without a fault: what it writes, and how it ends."""
        record = self.work / f"{self.name}.calls"
        folder = self.work / f"{self.name}-unbroken"

        def counted() -> None:
            with Faults(folder).installed() as faults:
                self.run(folder)
            record.write_text("\n".join(faults.calls))

        code, output = in_a_fork(counted)
        assert code == 0, output
        self.calls = record.read_text().splitlines()
        self.unbroken = outcome(folder)

    def try_fault(self, number: int, how: str) -> str | None:
        """What is wrong after the fault and the same command again; None where nothing is."""
        folder = self.work / f"{self.name}-{number}-{how}"

        def broken() -> None:
            with Faults(folder, number, how).installed():
                self.run(folder)

        code, output = in_a_fork(broken)
        where = f"{self.name}: {how} at {number} ({self.calls[number - 1]})"
        if "Traceback" in output:
            return f"{where}: a traceback\n{output[-1500:]}"
        if how != "dies" and code == KILLED:
            return f"{where}: exit code {code}"
        for _ in range(2):
            code, output = in_a_fork(lambda: self.run(folder))
            if code == 0:
                break
        if code != 0:
            return f"{where}: the same command again ends with {code}\n{output[-1500:]}"
        if outcome(folder) != self.unbroken:
            return f"{where}: another outcome"
        litter = [path for path in folder.rglob("*") if path.name == ".lock" or path.name.endswith(".tmp")]
        shutil.rmtree(folder)
        return f"{where}: {litter[0].name} is left over" if litter else None


def single_run(root: str) -> Callable[[Path], None]:
    """Two epochs, as the command does them."""
    from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
    from mnist_mlp.console import command
    from mnist_mlp.training import artifacts, fit

    assert artifacts
    config = Config(
        data=DataConfig(root=root, val_size=60, batch_size=30),
        model=ModelConfig(hidden_layers=1, hidden_units=[8], dropout=0.1, batch_norm=True),
        optim=OptimConfig(lr=0.05),
        trainer=TrainerConfig(max_epochs=2, progress=False, figures=False, threads=1),
    )

    def run(folder: Path) -> None:
        with command():
            fit.fit(config, folder / "run", [], {".hydra/config.yaml": "seed: 0\n"})

    return run


def sweep(root: str) -> Callable[[Path], None]:
    """Four jobs, by the command."""
    from hydra.core.global_hydra import GlobalHydra

    from mnist_mlp import train
    from mnist_mlp.reporting import page
    from mnist_mlp.training import artifacts

    assert artifacts
    settings = [
        *("-m", f"data.root={root}", "data.val_size=60", "data.batch_size=30", "model.hidden_layers=1"),
        *("model.hidden_units=[8]", "trainer.max_epochs=2", "trainer.figures=false", "trainer.threads=1"),
        *("seed=range(4)", "name=faults"),
    ]

    def run(folder: Path) -> None:
        page.write_page = lambda paths, target: target  # the page has tests of its own
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        sys.argv = ["train", *settings]
        GlobalHydra.instance().clear()
        train.main()

    return run


def main() -> int:
    from conftest import write_digits

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try every Kth write only")
    parser.add_argument("--case", choices=("run", "sweep"), action="append")
    options = parser.parse_args()
    bad = tried = 0
    with tempfile.TemporaryDirectory() as work:
        root = str(write_digits(Path(work) / "digits"))
        for name, make in (("run", single_run), ("sweep", sweep)):
            if options.case and name not in options.case:
                continue
            case = Case(name, make(root), Path(work))
            case.measure()
            print(f"{name}: {len(case.calls)} writes", flush=True)
            offset = random.randrange(options.every)
            for number in range(1 + offset, len(case.calls) + 1, options.every):
                for how in HOW:
                    tried += 1
                    if (fault := case.try_fault(number, how)) is not None:
                        bad += 1
                        print(fault, flush=True)
    print(f"{tried} faults tried, {bad} not mended")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
