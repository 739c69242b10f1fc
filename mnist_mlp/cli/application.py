"""The Hydra application: a run from the command line, or a sweep, and what is checked before either."""

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli.compose import (
    VERSION_BASE,
    check_settings,
    choose_config,
    hydra_records,
    nested_settings,
    prepare_storage,
    preset_flags,
    register_schema,
    to_config,
)
from mnist_mlp.cli.help import explain
from mnist_mlp.cli.launcher import close_pool, register
from mnist_mlp.config import choices, conf_folder
from mnist_mlp.console import error_line, error_summary, guarded_output
from mnist_mlp.errors import Interrupted, UserError, describe_signal, exit_code
from mnist_mlp.options import to_dict
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import LOCK_FILE, FolderLock, RunFolder
from mnist_mlp.runs.result import closing_table
from mnist_mlp.startup import quick_start
from mnist_mlp.sweeps.jobs import (
    Job,
    finish_sweep,
    finished_before,
    interpreter,
    print_interrupted,
    run_job,
    unrecorded,
    update_table,
    write_run_page,
)
from mnist_mlp.sweeps.live import elapsed_text, time_left
from mnist_mlp.training.processes import is_lost_process, process_rank, report_lost_process


def run() -> None:
    """Do what the command line asks for: a run or a sweep. A mistake ends in one line and exit code 1."""
    register()
    task = PreflightCallback.task = Task()
    PreflightCallback.sweep = PreflightCallback.lock = None
    code = 0
    try:
        code = _run_hydra(task)
    finally:
        close_pool()
        if PreflightCallback.sweep is not None and PreflightCallback.sweep.is_dir():
            closing_code = finish_sweep(PreflightCallback.sweep)
            code = code or closing_code  # a signal counts more than what it left undone
        if PreflightCallback.lock is not None:
            PreflightCallback.lock.release()
    if code:
        sys.exit(code)


def _run_hydra(task: "Task") -> int:
    """The exit code of Hydra's own work; exceptions of the run itself pass through."""
    application = hydra.main(version_base=VERSION_BASE, config_path=str(conf_folder()), config_name="config")(task)
    asked_for_traceback = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets exceptions through
    try:
        application()
    except (Interrupted, KeyboardInterrupt) as stop:  # while jobs ran in other processes, which end with it
        print_interrupted(stop)
        return exit_code(stop)
    except Exception as error:
        outside = isinstance(error, (OSError, MemoryError)) and not isinstance(error, HydraException)
        if asked_for_traceback or (task.called and not outside):
            raise
        sweep = PreflightCallback.sweep
        if sweep is not None and {path.name for path in sweep.glob("*")} <= {"multirun.yaml", LOCK_FILE}:
            shutil.rmtree(sweep)  # nothing has started in it
        sys.exit(f"error: {error_line(error) if outside else explain(error)}")
    finally:
        if not asked_for_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


class Task:
    """What Hydra calls with a composed configuration. Launchers pickle it for the processes of their jobs.

    Attributes:
        called: Whether that has happened in this process.
        total: The number of a sweep's jobs.
        swept: Keys that the sweep varies.
        began: When the sweep began, as time.time() has it.
    """

    def __init__(self) -> None:
        self.called, self.total, self.began = False, 0, 0.0
        self.swept: list[str] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register_schema(self.swept)  # before this process composes the job

    def __call__(self, cfg: DictConfig) -> float | None:
        """Run what is composed; returns a sweeper's objective."""
        self.called = True
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return self._run_job(cfg)
        single_run(cfg)
        return None

    def job(
        self, folder: RunFolder, sweep: Path, number: int, overrides: Sequence[str], compose: Callable[[], JSON]
    ) -> Job:
        """A job of the sweep with its checked configuration. compose: Returns its nested settings."""
        settings: JSON = {}
        config, fault = None, ""
        try:
            settings = compose()
            config = check_settings(settings)
            settings = to_dict(config)
        except UserError as error:  # the job itself reports it
            fault = str(error)
        return Job(folder, sweep, number, self.total, overrides, settings, config, fault, self.swept)

    def _run_job(self, cfg: DictConfig) -> float | None:
        """Run a job for one of Hydra's own launchers: it prints its line itself, and keeps the table up to date."""
        app = HydraConfig.get()
        folder, number = RunFolder(Path(app.runtime.output_dir)), int(app.job.num) + 1
        overrides = [*preset_flags(app), *app.overrides.task]
        job = self.job(folder, Path(app.sweep.dir), number, overrides, lambda: nested_settings(cfg))
        with guarded_output():
            try:
                end = run_job(job, hydra_records(job.settings, app))
            except (Interrupted, KeyboardInterrupt, SystemExit) as stop:  # the last is how Lightning passes Ctrl-C on
                if PreflightCallback.sweep is None:  # in another process than the sweep, which reports it once
                    raise
                print_interrupted(stop)
                raise SystemExit(exit_code(stop)) from None
            if not end.recorded:
                unrecorded.append(job.name)
            left = time_left((time.time() - self.began) / number, [], self.total - number, 1)
            line = f"{end.line}  [{elapsed_text(self.began, left)}]"
            # one write, so that parallel jobs do not mix; on a terminal it replaces the bar
            print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)
            update_table(job.sweep)
        return end.objective


def single_run(cfg: DictConfig) -> None:
    """One run, in the folder that Hydra names."""
    app = HydraConfig.get()
    folder = RunFolder(Path(app.runtime.output_dir))
    rank = 0
    try:
        config = choose_config(cfg, folder, HydraConfig.get().overrides.task)
        with quick_start():
            from mnist_mlp.training.fit import fit  # deferred: a mistyped key is reported without torch

        rank = process_rank(config.trainer.devices)
        earlier = finished_before(folder)
        records = hydra_records(to_dict(to_config(cfg)), app)
        result = fit(config, folder.path, [*preset_flags(app), *app.overrides.task], records)
    except BaseException as error:  # below, SystemExit: Hydra would add lines of its own
        for path in PreflightCallback.created:  # by Hydra, for a run that may have been refused
            with suppress(OSError):  # it is not empty
                path.rmdir()
        go_on = f"go on with resume={folder.path}" if folder.last_checkpoint.is_file() else ""
        if isinstance(error, UserError):
            raise SystemExit(f"error: {error}") from None
        if isinstance(error, (OSError, MemoryError)):
            raise SystemExit(f"error: {error_line(error)}{go_on and f'; {go_on}'}") from None
        if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):  # Lightning passes Ctrl-C on as SystemExit
            if rank == 0:
                print(f"\n{describe_signal(error)}{go_on and f': {go_on}'}", file=sys.stderr)
            raise SystemExit(exit_code(error)) from None
        if isinstance(error, RuntimeError) and is_lost_process(error):
            report_lost_process(folder)
            os._exit(1)  # not sys.exit(), which would wait for what the others have yet to send
        raise
    if rank == 0:
        if result == earlier:
            print("This run was finished before; resume=never would start it over.")
        write_run_page(folder.path)
        print(f"\n{closing_table(result, folder.path)}")
        print(f"\n{folder.next_steps(interpreter())}")


class PreflightCallback(Callback):
    """Refuses bad settings before a folder is created for them, and counts the jobs of a sweep.

    The one `_target_` of conf/, because Hydra has no other way to name a callback.
    """

    task: ClassVar[Task] = Task()
    created: ClassVar[list[Path]] = []
    """Folders that Hydra then creates for the run."""
    sweep: ClassVar[Path | None] = None
    """Folder of the sweep that was started in this process."""
    lock: ClassVar[FolderLock | None] = None
    """Of that folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            to_config(config)
        except UserError as error:
            sys.exit(f"error: {error}")  # SystemExit: Hydra turns an Exception of a callback into a warning
        folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
        PreflightCallback.created = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        overrides = sweep_overrides(config)
        if faults := list(sweep_faults(overrides)):
            sys.exit(f"error: {'; '.join(faults)}")
        task = self.task
        task.total, task.began = count_jobs(config, overrides), time.time()
        task.swept = sorted({override.key_or_group for override in overrides if override.is_sweep_override()})
        register_schema(task.swept)
        sweep = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        try:
            PreflightCallback.lock = FolderLock(sweep).acquire()  # creates the folder, for optuna's database
            prepare_storage(config)
        except (UserError, OSError) as error:
            sys.exit(f"error: {error_summary(error)}")
        PreflightCallback.sweep = sweep


def sweep_overrides(config: DictConfig) -> list[Override]:
    """What the sweep varies and fixes: the command line, before what a preset gives the sweeper (`params`)."""
    parse = OverridesParser.create().parse_overrides
    overrides: list[Override] = parse(list(config.hydra.overrides.task))
    if OmegaConf.select(config, "hydra.sweeper.n_trials") is not None:  # a search, which reads its space itself
        return overrides
    keys = {override.key_or_group for override in overrides}
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [*parse([f"{key}={value}" for key, value in params.items() if key not in keys]), *overrides]


def count_jobs(config: DictConfig, overrides: Sequence[Override]) -> int:
    """The number of jobs that Hydra's own sweeper makes of a command line, or an optimiser's number of trials."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    return math.prod(map(count_values, overrides)) if trials is None else int(trials)


def count_values(override: Override) -> int:
    """The number of values that an override gives to its key. An interval, which is for a search, counts as one."""
    glob = override.value()
    if isinstance(glob, Glob):
        return len(glob.filter(choices(override.key_or_group)))
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1


def sweep_faults(overrides: Sequence[Override]) -> Iterator[str]:
    """What a sweep would silently ignore: keys without a value, given twice, or that make no jobs of their own."""
    keys = [override.get_key_element() for override in overrides]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key} is given {keys.count(key)} times: give its values together, as {key}=A,B"
    for override, key in zip(overrides, keys, strict=True):
        count = count_values(override)
        if count == 0:
            there = f"matches nothing: there is {', '.join(choices(key)) or f'no group {key}'}"
            yield f"{override.input_line} {there if isinstance(override.value(), Glob) else 'gives no value'}"
        elif override.is_sweep_override() and key == "name":
            yield f"{override.input_line} gives several names: a sweep has one"
