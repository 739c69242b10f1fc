"""Command: train one MLP, or a sweep of them with -m, and test what validation chose."""

import os
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_mlp.config import Config, run_only_keys
from mnist_mlp.errors import UserError
from mnist_mlp.hydra_app import launch, records, remove_made, saved, typed
from mnist_mlp.runs import RunFolder
from mnist_mlp.sweep import finish_sweep, sweep_job
from mnist_mlp.tables import classification_report, closing_table


def job(cfg: DictConfig) -> float | None:
    """One run, alone or in a sweep; a sweeper's objective comes back."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return sweep_job(cfg)
    single_run(cfg)
    return None


def single_run(cfg: DictConfig) -> None:
    """One run, in the folder that Hydra gives it."""
    app = HydraConfig.get()
    folder = RunFolder(Path(app.runtime.output_dir))
    try:
        config = choose_config(cfg, folder)
        from mnist_mlp.fit import fit  # deferred: --help and a mistyped key wait for no torch

        earlier = folder.result()
        result = fit(config, folder.path, app.overrides.task, records(cfg))
    except UserError as error:
        remove_made()
        raise SystemExit(f"error: {error}") from None
    except (KeyboardInterrupt, SystemExit):  # the latter is how Lightning passes the former on
        kept = folder.last_checkpoint.is_file()
        print(f"\ninterrupted{f': go on with resume={folder.path}' if kept else ''}", file=sys.stderr)
        raise SystemExit(130) from None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        if result == earlier:
            print("This run was finished before; resume=never would start it over.")
        print(classification_report(result["confusion_matrix"]))
        print(closing_table(result, folder.path))


def choose_config(cfg: DictConfig, folder: RunFolder) -> Config:
    """The composed config; with resume=<run folder> and no other setting, that run's own."""
    config = typed(cfg)
    if config.resume in ("auto", "never"):
        return config
    run = folder.run()
    if run is None:
        raise UserError(
            f"resume={config.resume} is no run folder (no run.json in it): give auto, never or a run folder"
        )
    changed = {override.split("=")[0] for override in HydraConfig.get().overrides.task} - run_only_keys()
    return config if changed else saved(run["config"], cfg)


def main() -> None:
    """Entry point of `python -m mnist_mlp.train` and of the script `mnist-mlp-train`."""
    launch(job, finish_sweep)


if __name__ == "__main__":
    main()
