"""A run from the command line, alone or as the job of a sweep."""

import os
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_mlp.cli.application import launch
from mnist_mlp.cli.compose import config_from_run, records, to_config
from mnist_mlp.cli.composed_jobs import sweep_job
from mnist_mlp.cli.preflight import remove_made
from mnist_mlp.config import Config, non_result_keys
from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.interruption import Interrupted, exit_code, said
from mnist_mlp.quick_start import quick_start
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.tables import closing_table, next_steps
from mnist_mlp.sweeps.closing import finish_sweep, interpreter, write_run_page
from mnist_mlp.sweeps.jobs import finished_before, say_interrupted


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
            print(f"\n{said(stop)}{f': go on with resume={folder.path}' if kept else ''}", file=sys.stderr)
        raise SystemExit(exit_code(stop)) from None
    if rank == 0:
        if result == earlier:
            print("This run was finished before; resume=never would start it over.")
        write_run_page(folder.path)
        print(f"\n{closing_table(result, folder.path)}")
        print(f"\n{next_steps(folder.path, interpreter())}")


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
