"""The Hydra application: a run or a sweep from the command line, and the checks before either."""

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli.compose import (
    VERSION_BASE,
    as_text,
    check_settings,
    choose_config,
    hydra_records,
    hydra_runtime,
    nested_settings,
    preset_flags,
    register_schema,
    to_config,
)
from mnist_mlp.cli.grid import Dimension, GridConf, combinations, count_values, register, sweep_dimensions
from mnist_mlp.cli.help import explain, misplaced_flag
from mnist_mlp.cli.launcher import GridComposer, OptunaConf, SideBySideConf, SideBySideLauncher, close_pool
from mnist_mlp.compare.locate import has_default_name, short_name
from mnist_mlp.config import Config, conf_folder
from mnist_mlp.console import error_line, error_summary, guarded_output, shell_quoted, shown_path
from mnist_mlp.errors import Interrupted, UserError, exit_code
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import LOCK_FILE, NOTE_FILE, FolderLock, RunFolder, note_record
from mnist_mlp.runs.predictions import read_curves
from mnist_mlp.runs.result import closing_report, closing_table
from mnist_mlp.startup import quick_start
from mnist_mlp.sweeps import jobs
from mnist_mlp.sweeps.dry_run import plan_lines
from mnist_mlp.sweeps.live import elapsed_text, time_left
from mnist_mlp.training.processes import cores_of_job, is_lost_process, process_rank, report_lost_process

NO_JOBS = {"multirun.yaml", NOTE_FILE, LOCK_FILE}
"""Files in the folder of a sweep whose first job has not started."""


def run() -> None:
    """Run the command line: a single run or a sweep. User errors end it with one line and exit code 1."""
    register()
    task = PreflightCallback.task = _take_flags()
    PreflightCallback.sweep = PreflightCallback.lock = None
    code = 0
    try:
        code = _run_hydra(task)
    finally:
        close_pool()
        if PreflightCallback.sweep is not None and PreflightCallback.sweep.is_dir():
            closing_code = jobs.finish_sweep(PreflightCallback.sweep)
            code = code or closing_code  # the code of a signal takes precedence
        if PreflightCallback.lock is not None:
            PreflightCallback.lock.release()
    if code:
        sys.exit(code)


def _take_flags() -> "Task":
    """Remove `--note TEXT` and `--dry-run`, which Hydra does not know, from the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--note")
    parser.add_argument("--dry-run", action="store_true")
    try:
        options, sys.argv[1:] = parser.parse_known_args(sys.argv[1:])
        note_record(options.note)
        if fault := misplaced_flag(sys.argv[1:]):
            raise UserError(fault)
    except (argparse.ArgumentError, UserError) as error:
        sys.exit(f"error: {error}")
    return Task(options.note, options.dry_run)


def _run_hydra(task: "Task") -> int:
    """Run Hydra and return its exit code; exceptions of the run itself propagate."""
    application = hydra.main(version_base=VERSION_BASE, config_path=str(conf_folder()), config_name="config")(task)
    sys.argv[1:] = map(as_text, sys.argv[1:])
    wants_traceback = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets exceptions propagate
    try:
        with lazy_help():
            application()
    except (Interrupted, KeyboardInterrupt) as stop:  # the worker processes end with this one
        _print_interrupted_sweep(stop)
        return exit_code(stop)
    except Exception as error:
        is_environment_error = isinstance(error, (OSError, MemoryError)) and not isinstance(error, HydraException)
        if wants_traceback or (task.called and not is_environment_error):
            raise
        sweep = PreflightCallback.sweep
        if sweep is not None and {path.name for path in sweep.glob("*")} <= NO_JOBS:
            assert PreflightCallback.lock is not None
            PreflightCallback.lock.release()  # Windows cannot remove open files
            shutil.rmtree(sweep, ignore_errors=True)  # no job has started
        sys.exit(f"error: {error_line(error) if is_environment_error else explain(error)}")
    finally:
        if not wants_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def _print_interrupted_sweep(stop: BaseException) -> None:
    """Report how many jobs of the sweep are done, and how to resume it."""
    progress, sweep = SideBySideLauncher.progress, PreflightCallback.sweep
    failed = f", {len(progress.failures)} failed" if progress and progress.failures else ""
    done = f": {progress.done} of {progress.total} jobs done{failed}" if progress else ""
    named = f" with\n  name={sweep.name}" if sweep and has_default_name(sweep) else ""
    jobs.print_interrupted(stop, done, f"to resume, repeat the command{named}")


def _print_interrupted_run(stop: BaseException, config: Config | None, folder: RunFolder) -> None:
    """Report in which epoch the run was interrupted, and how to resume it."""
    if config is None:
        return jobs.print_interrupted(stop, remedy="repeat the command")
    epoch, epochs = len(read_curves(folder.metrics_file).get("epoch", ())) + 1, config.trainer.max_epochs
    done = f" in epoch {epoch} of {epochs}" if epoch <= epochs else " after the last epoch"
    remedy = "to resume, repeat the command"
    if config.resume == "never" or (config.resume == "auto" and has_default_name(folder.path)):
        run = shell_quoted(shown_path(folder.path))
        remedy = f"to resume:\n  {jobs.python_command()} -m mnist_mlp.train resume={run}"
    if not folder.last_checkpoint.is_file():
        done, remedy = f"{done}, before the first checkpoint", "repeat the command"
    return jobs.print_interrupted(stop, done, remedy)


@contextmanager
def lazy_help() -> Iterator[None]:
    """Accept help that is not a string, as Hydra 1.3 passes it to argparse; Python 3.14 refuses it."""
    parser: Any = argparse.ArgumentParser  # inherits the method, if the version has it
    parser._check_help = lambda self, action: isinstance(action.help, str) and super(parser, self)._check_help(action)
    try:
        yield
    finally:
        del parser._check_help


class Task:
    """Hydra's task function. Launchers pickle it for the processes of their jobs.

    Attributes:
        called: whether Hydra has called it in this process.
        total: number of jobs of the sweep.
        later: epochs of each job that a search starts after the current ones.
        swept: keys that the sweep varies.
        began: start of the sweep, in seconds since the epoch.
        folder: the working directory, to which data.root is relative even with hydra.job.chdir=true.
        note: the note on the run or sweep; None to leave it as it is.
        dry_run: whether to describe the jobs instead of running them.
    """

    def __init__(self, note: str | None = None, dry_run: bool = False) -> None:
        self.note, self.dry_run = note, dry_run
        self.called, self.total, self.began = False, 0, 0.0
        self.later: list[int] = []
        self.swept: list[str] = []
        self.folder = os.getcwd()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register_schema(self.swept)  # before this process composes the job

    def __call__(self, cfg: DictConfig) -> float | None:
        """Run a composed configuration; return the objective for Hydra's sweeper."""
        self.called = True
        os.chdir(self.folder)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return self._run_job(cfg)
        single_run(cfg, self.note)
        return None

    def job(
        self, folder: RunFolder, sweep: Path, number: int, overrides: Sequence[str], compose: Callable[[], JSON]
    ) -> jobs.Job:
        """Build a job of the sweep and validate its configuration. compose: returns its nested settings."""
        settings: JSON = {}
        config, fault = None, ""
        try:
            settings = compose()
            valid = check_settings(settings)
            jobs.refuse_single_run(valid)
            config, settings = valid, to_dict(valid)
        except UserError as error:
            fault = str(error)
        return jobs.Job(folder, sweep, number, self.total, overrides, settings, config, fault, self.swept)

    def _run_job(self, cfg: DictConfig) -> float | None:
        """Run a job for a launcher other than side_by_side: print its line and update the table."""
        app = HydraConfig.get()
        folder, number = RunFolder(Path(hydra_runtime(app)["output_dir"])), int(app.job.num) + 1
        overrides = [*preset_flags(app), *app.overrides.task]
        job = self.job(folder, Path(app.sweep.dir), number, overrides, lambda: nested_settings(cfg))
        with guarded_output():
            try:
                end = jobs.run_job(job, hydra_records(job.settings, app))
            except (Interrupted, KeyboardInterrupt) as stop:
                if PreflightCallback.sweep is None:  # a process of the sweep, whose parent reports it once
                    raise
                jobs.print_interrupted(stop)
                raise SystemExit(exit_code(stop)) from None
            if not end.recorded:
                jobs.unrecorded_failures.append(job.name)
            left = time_left([(time.time() - self.began) / number] * (self.total - number), [], 1)
            line = f"{end.line}  [{elapsed_text(self.began, left)}]"
            # a single write keeps the lines of parallel jobs intact; on a terminal it replaces the progress bar
            print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)
            jobs.update_table(job.sweep)
        return end.objective


def single_run(cfg: DictConfig, note: str | None = None) -> None:
    """Run a single configuration in the folder that Hydra determined."""
    app = HydraConfig.get()
    folder = RunFolder(Path(hydra_runtime(app)["output_dir"]))
    rank, config = 0, None
    try:
        config = choose_config(cfg, folder, HydraConfig.get().overrides.task)
        with quick_start():
            from mnist_mlp.training.fit import fit  # deferred: a mistyped key is reported without torch

        rank = process_rank(config.trainer.devices)
        earlier = jobs.finished_result(folder)
        records = {**hydra_records(to_dict(to_config(cfg)), app), **note_record(note)}
        result = fit(config, folder.path, [*preset_flags(app), *app.overrides.task], records)
    except BaseException as error:  # raises SystemExit, to which Hydra adds no output
        for path in PreflightCallback.created:  # by Hydra, for a run that may have been rejected
            with suppress(OSError):  # not empty
                path.rmdir()
        hint = f"resume with resume={folder.path}" if folder.last_checkpoint.is_file() else ""
        if isinstance(error, UserError):
            raise SystemExit(f"error: {error}") from None
        if isinstance(error, (OSError, MemoryError)):
            raise SystemExit(f"error: {error_line(error)}{hint and f'; {hint}'}") from None
        if isinstance(error, (Interrupted, KeyboardInterrupt)):
            if rank == 0:
                _print_interrupted_run(error, config, folder)
            raise SystemExit(exit_code(error)) from None
        if isinstance(error, RuntimeError) and is_lost_process(error):
            report_lost_process(folder)
            os._exit(1)  # sys.exit() would wait for the other processes
        raise
    if rank == 0:
        if result == earlier:
            print("This run is already finished; use resume=never to restart it.")
        folder.write_note(note)  # of a finished or resumed run
        jobs.write_run_page(folder.path)
        report = f"\n{closing_report(result)}\n" * config.trainer.progress
        print(f"{report}\n{closing_table(result, folder.path)}")
        print(f"\n{folder.next_steps(jobs.python_command(), short_name(folder.path))}")


class PreflightCallback(Callback):
    """Rejects invalid settings before a folder is created for them, and counts the jobs of a sweep.

    The only `_target_` in conf/, because Hydra requires one for a callback.
    """

    task: ClassVar[Task] = Task()
    created: ClassVar[list[Path]] = []
    """Folders that Hydra will create for the run."""
    sweep: ClassVar[Path | None] = None
    """Folder of the sweep that was started in this process."""
    lock: ClassVar[FolderLock | None] = None
    """Lock of the sweep's folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Validate the configuration of a single run."""
        try:
            checked = to_config(config)
        except UserError as error:
            sys.exit(f"error: {error}")  # Hydra turns an Exception in a callback into a warning
        folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
        if self.task.dry_run:
            print(*plan_lines([jobs.Job(RunFolder(folder), folder.parent, 1, 1, [], {}, checked)], 1), sep="\n")
            sys.exit(0)
        PreflightCallback.created = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Validate the overrides of a sweep, lock its folder and prepare the storage of a search."""
        try:
            dimensions = sweep_dimensions(config)
        except (UserError, HydraException) as error:
            sys.exit(f"error: {explain(error)}")
        overrides = [override for dimension in dimensions for override in dimension.members]
        if faults := list(sweep_faults(overrides)):
            sys.exit(f"error: {'; '.join(faults)}")
        task = self.task
        task.total, task.began = count_jobs(config, dimensions), time.time()
        task.swept = sorted({override.key_or_group for override in overrides if override.is_sweep_override()})
        register_schema(task.swept)
        sweep, sweeper = Path(config.hydra.sweep.dir), config.hydra.sweeper._target_
        lines: Iterable[str] = ["cannot tell what this hydra/sweeper would run"]
        try:
            if is_search := sweeper == OptunaConf._target_:
                from mnist_mlp.cli.search import check_search, prepare_search  # deferred: optional dependency

                lines = check_search(config)
            elif sweeper == GridConf._target_:
                lines = _checked_sweep(config, dimensions, task)
            if task.dry_run:
                print(*lines, sep="\n")
                sys.exit(0)
            PreflightCallback.lock = FolderLock(sweep).acquire()  # creates the folder for Optuna's database
            if is_search:
                prepare_search(config)
            RunFolder(sweep).write_note(task.note)
        except ModuleNotFoundError as error:
            sys.exit(f"error: a search needs {error.name}: pip install -e '.[optuna]'")
        except (UserError, OSError) as error:
            sys.exit(f"error: {error_summary(error)}")
        except HydraException as error:
            sys.exit(f"error: {explain(error)}")
        PreflightCallback.sweep = sweep


def _checked_sweep(config: DictConfig, dimensions: Sequence[Dimension], task: Task) -> Iterable[str]:
    """Validate all jobs of a grid; return the lines that describe them."""
    application = GlobalHydra.instance().hydra
    assert application is not None
    planned = GridComposer(application.config_loader, config).jobs(combinations(dimensions), task)
    jobs.refuse_invalid([job.fault for job in planned])
    launcher, threads = config.hydra.launcher, max(job.config.trainer.threads or 1 for job in planned if job.config)
    default = max(1, cores_of_job() // threads) if launcher._target_ == SideBySideConf._target_ else 1
    return plan_lines(planned, launcher.get("n_jobs") or default)


def count_jobs(config: DictConfig, dimensions: Sequence[Dimension]) -> int:
    """Count the jobs of a sweep: the size of the grid, or the number of trials of a search."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    return math.prod(map(len, dimensions)) if trials is None else int(trials)


def sweep_faults(overrides: Sequence[Override]) -> Iterator[str]:
    """Yield a message for every override that a sweep would silently ignore."""
    keys = [override.get_key_element() for override in overrides]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key} is set {keys.count(key)} times: combine its values as {key}=A,B"
    for override, key in zip(overrides, keys, strict=True):
        if count_values(override) == 0:
            names = override.config_loader.get_group_options(key) if override.config_loader else []
            hint = f"use {', '.join(names)}" if names else "use at least one"
            yield f"{override.input_line} has no values: {hint}"
        elif override.is_sweep_override() and key == "name":
            yield f"{override.input_line} has several names: a sweep has only one"
