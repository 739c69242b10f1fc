"""A run from the command line, alone or as the job of a sweep."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_mlp import __version__
from mnist_mlp.cli.compose import VERSION_BASE, config_from_run, records, register_schema, to_config
from mnist_mlp.cli.help import help_text, value_offers
from mnist_mlp.cli.jobs import PreflightCallback, remove_made, sweep_job
from mnist_mlp.cli.launcher import close_pool, register_plugins
from mnist_mlp.cli.messages import explain
from mnist_mlp.config import Config, conf_folder, non_result_keys
from mnist_mlp.console import error_line
from mnist_mlp.errors import Interrupted, UserError, describe_signal, exit_code
from mnist_mlp.runs.folder import LOCK_FILE, RunFolder
from mnist_mlp.runs.result import closing_table
from mnist_mlp.startup import quick_start
from mnist_mlp.sweeps.jobs import finish_sweep, finished_before, interpreter, say_interrupted, write_run_page

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


def job(cfg: DictConfig) -> float | None:
    """One run, alone or in a sweep; returns a sweeper's objective."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return sweep_job(cfg)
    single_run(cfg)
    return None


def single_run(cfg: DictConfig) -> None:
    """One run, in the folder that Hydra names."""
    app = HydraConfig.get()
    folder = RunFolder(Path(app.runtime.output_dir))
    rank = 0
    try:
        config = choose_config(cfg, folder)
        with quick_start():
            from mnist_mlp.training.fit import fit  # deferred: a mistyped key is reported without torch
            from mnist_mlp.training.processes import lost_process, process_rank, say_process_lost

        rank = process_rank(config.trainer.devices)
        earlier = finished_before(folder)
        result = fit(config, folder.path, app.overrides.task, records(cfg))
    except UserError as error:  # SystemExit: Hydra would add lines of its own
        remove_made()
        raise SystemExit(f"error: {error}") from None
    except (OSError, MemoryError) as error:
        remove_made()
        go_on = f"; go on with resume={folder.path}" if folder.last_checkpoint.is_file() else ""
        raise SystemExit(f"error: {error_line(error)}{go_on}") from None
    except RuntimeError as error:
        if not lost_process(error):
            raise
        say_process_lost(folder)
        os._exit(1)  # not sys.exit(), which would wait for what the others have yet to send
    except (Interrupted, KeyboardInterrupt, SystemExit) as stop:  # the last is how Lightning passes Ctrl-C on
        remove_made()
        kept = folder.last_checkpoint.is_file()
        if rank == 0:
            print(f"\n{describe_signal(stop)}{f': go on with resume={folder.path}' if kept else ''}", file=sys.stderr)
        raise SystemExit(exit_code(stop)) from None
    if rank == 0:
        if result == earlier:
            print("This run was finished before; resume=never would start it over.")
        write_run_page(folder.path)
        print(f"\n{closing_table(result, folder.path)}")
        print(f"\n{folder.next_steps(interpreter())}")


def choose_config(cfg: DictConfig, folder: RunFolder) -> Config:
    """The composed configuration; with resume=<run folder> and no other setting, that of the run."""
    config = to_config(cfg)
    if config.resume in ("auto", "never"):
        return config
    run = folder.run()
    if run is None:
        raise UserError(
            f"resume={config.resume} is no run folder (no run.json in it): give auto, never or a run folder"
        )
    changed = {override.split("=")[0] for override in HydraConfig.get().overrides.task} - non_result_keys()
    return config if changed else config_from_run(run["config"], cfg)


def run() -> None:
    """What the command line asks for: a run, a sweep, or help."""
    launch(job, finish_sweep, say_interrupted)
