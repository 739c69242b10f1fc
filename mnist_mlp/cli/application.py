"""The Hydra application: schema and resolvers, launching a run or a sweep, exit codes."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from mnist_mlp import __version__
from mnist_mlp.cli.completion import value_offers
from mnist_mlp.cli.compose import VERSION_BASE, register_schema, to_config
from mnist_mlp.cli.help import help_text
from mnist_mlp.cli.launcher import close_pool, register_plugins
from mnist_mlp.cli.messages import explain
from mnist_mlp.cli.preflight import PreflightCallback
from mnist_mlp.config import Config
from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.interruption import Interrupted, exit_code
from mnist_mlp.presets import conf_folder
from mnist_mlp.runs.lock import LOCK_FILE

Job = Callable[[DictConfig], Any]


def register() -> None:
    """Make known to Hydra what conf/config.yaml names."""
    register_schema()
    register_plugins()


def compose_presets(presets: Mapping[str, Any]) -> Config:
    """The defaults with presets, by group ({"experiment": "better"}), outside of any Hydra application."""
    register()
    with hydra.initialize_config_dir(version_base=VERSION_BASE, config_dir=str(conf_folder().resolve())):
        try:
            return to_config(hydra.compose("config", overrides=[f"{group}={name}" for group, name in presets.items()]))
        except HydraException as error:
            raise UserError(explain(error)) from None


def launch(job: Job, after_sweep: Callable[[Path], int], stopped: Callable[[BaseException], None]) -> None:
    """Run a job, or a sweep of it, under Hydra; a mistake in the settings ends in one line on stderr and exit code 1.

    after_sweep gets the sweep's folder, however the sweep ended, and returns the exit code. stopped is called where a
    signal came while jobs ran in other processes. --help is answered here: Hydra would first compose the configuration
    and copy its whole store for every group. So are the values that bash may complete: of an Enum, Hydra offers the
    default alone.
    """
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print(help_text(), end="")
    elif given == ["--version"]:
        print(f"mnist_mlp {__version__}")
    elif "query=bash" in given and (offers := value_offers(os.environ.get("COMP_LINE", ""))) is not None:
        print(" ".join(offers))
    else:
        _launch(job, after_sweep, stopped)


def _launch(job: Job, after_sweep: Callable[[Path], int], stopped: Callable[[BaseException], None]) -> None:
    register()
    PreflightCallback.sweep = PreflightCallback.lock = None
    code = 0
    try:
        code = _run_hydra(job, stopped)
    finally:
        close_pool()
        if PreflightCallback.sweep is not None and PreflightCallback.sweep.is_dir():
            finished = after_sweep(PreflightCallback.sweep)
            code = code or finished  # of a signal rather than of what it left undone
        if PreflightCallback.lock is not None:
            PreflightCallback.lock.release()
    if code:
        sys.exit(code)


def _run_hydra(job: Job, stopped: Callable[[BaseException], None]) -> int:
    """The exit code of Hydra's own work; exceptions of the job itself pass through."""
    started = False

    @wraps(job)
    def task(cfg: DictConfig) -> Any:
        nonlocal started
        started = True
        return job(cfg)

    application = hydra.main(version_base=VERSION_BASE, config_path=str(conf_folder()), config_name="config")(task)
    with _full_errors() as asked_for_traceback:
        try:
            application()
        except (Interrupted, KeyboardInterrupt) as stop:  # while jobs ran in other processes, which end with it
            stopped(stop)
            return exit_code(stop)
        except Exception as error:
            outside = isinstance(error, (OSError, MemoryError)) and not isinstance(error, HydraException)
            if asked_for_traceback or (started and not outside):
                raise
            _remove_empty_sweep()
            sys.exit(f"error: {error_line(error) if outside else explain(error)}")
    return 0


@contextmanager
def _full_errors() -> Iterator[bool]:
    """Let exceptions through Hydra to the caller. Yields whether the user asked for tracebacks."""
    asked = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield asked
    finally:
        if not asked:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def _remove_empty_sweep() -> None:
    """Remove the folder of a sweep of which nothing has started."""
    sweep = PreflightCallback.sweep
    if sweep is not None and {path.name for path in sweep.glob("*")} <= {"multirun.yaml", LOCK_FILE}:
        shutil.rmtree(sweep)
