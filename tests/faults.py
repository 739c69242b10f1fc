"""Faults at every write: the Nth one fails, or the process dies there; then the same command must mend it.

After SQLite's way of testing (sqlite.org/testing.html, "I/O error testing" and "crash testing"). Each case runs in a
fork of this process, so that torch is imported once. `python tests/faults.py [--every K]` runs the whole enumeration.
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
from pathlib import Path
from typing import Any

from forks import in_a_fork
from outcomes import differences, outcome

WRITES = ("write", "fsync", "replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "truncate")
DIES = "dies"
ERRORS = ("ENOSPC", "EIO")
CASES = {"run": "", "sweep": "basic", "side_by_side": "side_by_side"}
"""By name, the launcher. Of jobs side by side the writes of the parent are counted: a worker's are those of a run."""
At = Callable[[int, Callable[[Path], Any]], None]
"""What happens before the write of a number; the function given writes the first half of it to another file."""


@dataclass
class Writes:
    """Notices the calls that change files below a folder, numbered from 1, before they are made."""

    folder: Path
    before: At = lambda number, half: None
    calls: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def noticed(self) -> Iterator["Writes"]:
        own: dict[tuple[Any, str], Any] = {}
        for name in WRITES:
            own[os, name] = getattr(os, name)
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        for module in (builtins, io):
            own[module, "open"] = module.open
            module.open = self._opening(module.open)
        try:
            yield self
        finally:
            for (module, name), function in own.items():
                setattr(module, name, function)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **options: Any) -> Any:
            self.notice(name, target, rest[0] if name == "write" else b"")
            return function(target, *rest, **options)

        return call

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._below(file):
                return function(file, mode, *rest, **options)
            self.notice("open", file)
            return Writing(function(file, mode, *rest, **options), self, file)

        return call

    def _below(self, target: Any) -> str | None:
        """The path below the folder; None for one that is elsewhere."""
        number = isinstance(target, int)
        path = os.readlink(f"/proc/self/fd/{target}") if number else os.path.abspath(os.fsdecode(target))
        return os.path.relpath(path, self.folder) if path.startswith(str(self.folder)) else None

    def notice(self, name: str, target: Any, content: Any = b"") -> None:
        path = self._below(target)
        if path is None:
            return
        self.calls.append(f"{name} {path}")

        def half(folder: Path) -> None:
            if content:
                with open(folder / path, "ab") as file:
                    file.write(content[: len(content) // 2])

        self.before(len(self.calls), half)


class Writing:
    """An open file whose writes are noticed like those of `os.write`."""

    def __init__(self, file: Any, writes: Writes, path: Any) -> None:
        self._file, self._writes, self._path = file, writes, path

    def write(self, content: Any) -> Any:
        self._file.flush()
        self._writes.notice("write", self._path, content.encode() if isinstance(content, str) else content)
        return self._file.write(content)

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@dataclass
class Case:
    """A command whose writes are to fail. run: writes into the folder it is given.

    alone: whether it has no other processes that write. If so, a process that dies is one whose folder is copied at
    that moment; if not it is killed, and the others find out.
    """

    name: str
    run: Callable[[Path], None]
    work: Path
    alone: bool = True
    unbroken: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def measure(self) -> None:
        """Run it once without a fault; keep what is on the disk before each of its writes, and how it ends."""
        folder, record = self.work / f"{self.name}-unbroken", self.work / f"{self.name}-calls"

        def copied() -> None:
            with Writes(folder, lambda number, half: self._keep(folder, number, half)).noticed() as writes:
                self.run(folder)
            record.write_text("\n".join(writes.calls))

        code, output = in_a_fork(copied)
        assert code == 0, output
        self.calls = record.read_text().splitlines()
        self.unbroken = outcome(folder)

    def _keep(self, folder: Path, number: int, half: Callable[[Path], Any]) -> None:
        while self.alone and folder.exists():
            try:
                shutil.copytree(folder, self._at(number), dirs_exist_ok=True)
            except shutil.Error:  # TensorBoard's thread wrote meanwhile, or the other one did
                shutil.rmtree(self._at(number))
                continue
            half(self._at(number))
            return

    def _at(self, number: int) -> Path:
        return self.work / f"{self.name}-before-{number}"

    def try_fault(self, number: int, how: str) -> str | None:
        """What is wrong after the fault and the same command again; None where nothing is."""
        where = f"{self.name}: {how} at {number} ({self.calls[number - 1]})"
        if how == DIES and self.alone:
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
            return f"{where}: the same command again ends with {code}\n{output[-1500:]}"
        if different := differences(outcome(folder), self.unbroken):
            return f"{where}: another outcome ({', '.join(different)})"
        shutil.rmtree(folder)
        return None

    def _run_into(self, folder: Path, number: int, how: str) -> None:
        def fail(at: int, half: Callable[[Path], Any]) -> None:
            if at == number:
                half(folder)
                if how == DIES:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)), self.calls[number - 1])

        with Writes(folder, fail).noticed():
            self.run(folder)


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


def sweep(root: str, work: Path, launcher: str = "basic") -> Callable[[Path], None]:
    """Four jobs, by the command. Done once here, so that forks know what Hydra composes: that is most of the time.

    The fork server that is started here is theirs too.
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
    make_folder = os.mkdir  # the user's, not the command's
    composed: dict[str, list[DictConfig]] = {}
    compose, learning = ConfigLoaderImpl.load_configuration, True

    def remembered(self: ConfigLoaderImpl, *arguments: Any, **options: Any) -> DictConfig:
        key = repr((arguments, options))
        if learning:
            config = compose(self, *arguments, **options)
            composed.setdefault(key, []).append(copy.deepcopy(config))
            return config
        return composed[key].pop(0) if composed.get(key) else compose(self, *arguments, **options)

    def run(folder: Path) -> None:
        if not folder.is_dir():
            make_folder(folder)
        os.chdir(folder)
        sys.argv = ["train", *settings]
        GlobalHydra.instance().clear()
        train.main()

    ConfigLoaderImpl.load_configuration = remembered
    page.write_page = lambda paths, target: target  # the page has tests of its own
    with contextlib.redirect_stdout(io.StringIO()):
        run(work / "composed")
    learning = False
    _forkserver.ensure_running = lambda: None  # it would wait for its process, which is no child of a fork
    return run


def main() -> int:
    from conftest import write_digits

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try every Kth write only")
    parser.add_argument("--first", type=int, default=1, help="begin with this write")
    parser.add_argument("--case", choices=CASES, action="append")
    options = parser.parse_args()
    bad = tried = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        root = str(write_digits(work / "digits"))
        for name in options.case or CASES:
            run = single_run(root) if name == "run" else sweep(root, work, CASES[name])
            case = Case(name, run, work, alone=name != "side_by_side")
            case.measure()
            print(f"{name}: {len(case.calls)} writes", flush=True)
            offset = options.first - 1 + random.randrange(options.every)
            for number in range(1 + offset, len(case.calls) + 1, options.every):
                # what is done about an error does not depend on which it is: a sweep's writes fail with one each
                errors = ERRORS if name == "run" else (ERRORS[number % 2],)
                for how in (DIES, *errors):
                    tried += 1
                    if (fault := case.try_fault(number, how)) is not None:
                        bad += 1
                        print(fault, flush=True)
    print(f"{tried} faults tried, {bad} not mended")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
