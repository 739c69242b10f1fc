"""Command: train and test one MLP, or with -m a sweep of them."""

import os
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_mlp.cli.application import launch
from mnist_mlp.cli.compose import config_from_run, records, to_config
from mnist_mlp.cli.jobs import finish_sweep, sweep_job
from mnist_mlp.cli.preflight import remove_made
from mnist_mlp.closed_pipe import end_quietly
from mnist_mlp.config import Config, non_result_keys
from mnist_mlp.errors import UserError
from mnist_mlp.quick_start import quick_start
from mnist_mlp.runs.files import read_json
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.tables import classification_report, closing_table


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
    try:
        config = choose_config(cfg, folder)
        with quick_start():
            from mnist_mlp.training.fit import fit  # deferred: a mistyped key is reported without torch

        earlier = read_json(folder.result_file)
        result = fit(config, folder.path, app.overrides.task, records(cfg))
    except UserError as error:
        remove_made()
        raise SystemExit(f"error: {error}") from None
    except BrokenPipeError:
        print(f"stopped, since nobody reads the output any more: go on with resume={folder.path}", file=sys.stderr)
        end_quietly()
    except (KeyboardInterrupt, SystemExit):  # the latter is how Lightning passes the former on
        kept = folder.last_checkpoint.is_file()
        print(f"\ninterrupted{f': go on with resume={folder.path}' if kept else ''}", file=sys.stderr)
        raise SystemExit(130) from None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        if result.to_json() == earlier:
            print("This run was finished before; resume=never would start it over.")
        print(classification_report(result.confusion_matrix))
        print(closing_table(result, folder.path))


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


def main() -> None:
    """Entry point of `python -m mnist_mlp.train` and of the script `mnist-mlp-train`."""
    launch(job, finish_sweep)


if __name__ == "__main__":
    main()
