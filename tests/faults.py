"""Fault injection: the Nth write fails, or the process dies there; then repeating the command must recover.

Modeled on SQLite's I/O error and crash tests (sqlite.org/testing.html). Each case runs in a fork of this process, so
torch is imported only once. `python tests/faults.py [--every K]` runs the whole enumeration.
"""

import argparse
import builtins
import contextlib
import copy
import errno
import io
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from forks import in_a_fork
from outcomes import differences, outcome

WRITES = ("write", "fsync", "replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "truncate")
DIES = "dies"
ERRORS = ("ENOSPC", "EIO")
CASES = {"run": "", "sweep": "basic", "side_by_side": "side_by_side"}
"""Launcher by case. With parallel jobs only the parent's writes are counted; a worker's are those of a run."""
BeforeWrite = Callable[[int, Callable[[Path], Any]], None]
"""Called with the number of a write and a function that writes its first half to a file in another folder."""


@dataclass
class Writes:
    """Intercepts calls that change files below a folder, numbered from 1, before they take effect."""

    folder: Path
    before: BeforeWrite = lambda number, write_half: None
    calls: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def recording(self) -> Iterator["Writes"]:
        originals: dict[tuple[Any, str], Any] = {}
        for name in WRITES:
            originals[os, name] = getattr(os, name)
            setattr(os, name, self._wrap(name, getattr(os, name)))
        for module in (builtins, io):
            originals[module, "open"] = module.open
            module.open = self._wrap_open(module.open)
        try:
            yield self
        finally:
            for (module, name), function in originals.items():
                setattr(module, name, function)

    def _wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *args: Any, **options: Any) -> Any:
            self.record(name, target, args[0] if name == "write" else b"")
            return function(target, *args, **options)

        return call

    def _wrap_open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._below(file):
                return function(file, mode, *args, **options)
            self.record("open", file)
            return RecordedFile(function(file, mode, *args, **options), self, file)

        return call

    def _below(self, target: Any) -> str | None:
        """The path relative to the folder; None if outside."""
        is_descriptor = isinstance(target, int)
        path = os.readlink(f"/proc/self/fd/{target}") if is_descriptor else os.path.abspath(os.fsdecode(target))
        return os.path.relpath(path, self.folder) if path.startswith(str(self.folder)) else None

    def record(self, name: str, target: Any, content: Any = b"") -> None:
        path = self._below(target)
        if path is None:
            return
        self.calls.append(f"{name} {path}")

        def write_half(folder: Path) -> None:
            if content:
                with open(folder / path, "ab") as file:
                    file.write(content[: len(content) // 2])

        self.before(len(self.calls), write_half)


class RecordedFile:
    """An open file whose writes are recorded like those of `os.write`."""

    def __init__(self, file: Any, writes: Writes, path: Any) -> None:
        self._file, self._writes, self._path = file, writes, path

    def write(self, content: Any) -> Any:
        self._file.flush()
        self._writes.record("write", self._path, content.encode() if isinstance(content, str) else content)
        return self._file.write(content)

    def __enter__(self) -> "RecordedFile":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@dataclass
class Case:
    """A command whose writes will fail. run: writes into a folder.

    is_only_writer: whether no other process writes. If so, a crash is simulated by a copy of the folder at that moment;
    if not, the process is killed and the others must notice.
    """

    name: str
    run: Callable[[Path], None]
    work: Path
    is_only_writer: bool = True
    expected: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def measure(self) -> None:
        """Run without a fault; keep a copy of the folder before each write, and the outcome."""
        folder, log = self.work / f"{self.name}-expected", self.work / f"{self.name}-calls"

        def keep_copies() -> None:
            with Writes(folder, partial(self._keep, folder)).recording() as writes:
                self.run(folder)
            log.write_text("\n".join(writes.calls))

        code, output = in_a_fork(keep_copies)
        assert code == 0, output
        self.calls = log.read_text().splitlines()
        self.expected = outcome(folder)

    def _keep(self, folder: Path, number: int, write_half: Callable[[Path], Any]) -> None:
        while self.is_only_writer and folder.exists():
            try:
                shutil.copytree(folder, self._at(number), dirs_exist_ok=True)
            except shutil.Error:  # TensorBoard's threads may write concurrently
                shutil.rmtree(self._at(number))
                continue
            write_half(self._at(number))
            return

    def _at(self, number: int) -> Path:
        return self.work / f"{self.name}-before-{number}"

    def try_fault(self, number: int, how: str) -> str | None:
        """Inject a fault, repeat the command, and describe what is wrong; None if it recovered."""
        where = f"{self.name}: {how} at {number} ({self.calls[number - 1]})"
        if how == DIES and self.is_only_writer:
            folder = self._at(number)
        else:
            folder = self.work / f"{self.name}-{number}-{how}"
            code, output = in_a_fork(lambda: self._run_into(folder, number, how))
            if "Traceback" in output:
                return f"{where}: a traceback\n{output[-1500:]}"
        for _ in range(2):
            code, output = in_a_fork(lambda: self.run(folder))
            if code == 0:
                break
        if code != 0:
            return f"{where}: repeating the command ends with {code}\n{output[-1500:]}"
        if different := differences(outcome(folder), self.expected):
            return f"{where}: different outcome ({', '.join(different)})"
        shutil.rmtree(folder)
        return None

    def _run_into(self, folder: Path, number: int, how: str) -> None:
        def fail(at: int, write_half: Callable[[Path], Any]) -> None:
            if at == number:
                write_half(folder)
                if how == DIES:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)), self.calls[number - 1])

        with Writes(folder, fail).recording():
            self.run(folder)


def single_run(root: str) -> Callable[[Path], None]:
    """A function that trains for two epochs, as the command does."""
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


def sweep(root: str, work: Path, launcher: str = "basic") -> Callable[[Path], None]:
    """A function that runs a sweep of four jobs, as the command does.

    Runs it once here, so forks share the fork server and the configurations that Hydra composed, which takes longest.
    """
    from multiprocessing.forkserver import _forkserver  # type: ignore[attr-defined]

    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig

    from mnist_mlp import train
    from mnist_mlp.reporting import page

    settings = [
        *("-m", f"data.root={root}", "data.val_size=60", "data.batch_size=30", "model.hidden_layers=1"),
        *("model.hidden_units=[4]", "trainer.max_epochs=1", "trainer.figures=false", "trainer.threads=1"),
        *("seed=range(4)", "name=faults", f"hydra/launcher={launcher}"),
    ]
    mkdir = os.mkdir  # unpatched: not a write of the command
    composed: dict[str, list[DictConfig]] = {}
    compose, is_recording = ConfigLoaderImpl.load_configuration, True

    def load_cached(self: ConfigLoaderImpl, *arguments: Any, **options: Any) -> DictConfig:
        key = repr((arguments, options))
        if is_recording:
            config = compose(self, *arguments, **options)
            composed.setdefault(key, []).append(copy.deepcopy(config))
            return config
        return composed[key].pop(0) if composed.get(key) else compose(self, *arguments, **options)

    def run(folder: Path) -> None:
        if not folder.is_dir():
            mkdir(folder)
        os.chdir(folder)
        sys.argv = ["train", *settings]
        GlobalHydra.instance().clear()
        train.main()

    ConfigLoaderImpl.load_configuration = load_cached
    page.write_page = lambda paths, target: target  # the page has tests of its own
    with contextlib.redirect_stdout(io.StringIO()):
        run(work / "composed")
    is_recording = False
    _forkserver.ensure_running = lambda: None  # it would wait for its process, which is not a child of the fork
    return run


def main() -> int:
    from conftest import write_digits

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="inject a fault only at every Kth write")
    parser.add_argument("--first", type=int, default=1, help="number of the first write")
    parser.add_argument("--case", choices=CASES, action="append")
    options = parser.parse_args()
    failed = tried = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        root = str(write_digits(work / "digits"))
        for name in options.case or CASES:
            run = single_run(root) if name == "run" else sweep(root, work, CASES[name])
            case = Case(name, run, work, is_only_writer=name != "side_by_side")
            case.measure()
            print(f"{name}: {len(case.calls)} writes", flush=True)
            offset = options.first - 1 + random.randrange(options.every)
            for number in range(1 + offset, len(case.calls) + 1, options.every):
                # errors are handled alike, so one per write suffices for sweeps
                errors = ERRORS if name == "run" else (ERRORS[number % 2],)
                for how in (DIES, *errors):
                    tried += 1
                    if (fault := case.try_fault(number, how)) is not None:
                        failed += 1
                        print(fault, flush=True)
    print(f"{tried} faults injected, {failed} without recovery")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
