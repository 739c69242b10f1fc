"""The preflight check: looks at a run or a sweep before Hydra launches it."""

import copy
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mnist_mlp.cli.compose import to_config
from mnist_mlp.cli.folders import SWEPT_KEYS
from mnist_mlp.cli.search import prepare_storage
from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.presets import choices
from mnist_mlp.runs.lock import FolderLock


class PreflightCallback(Callback):
    """Refuses a run's bad settings before a folder is made for it, and tells the jobs of a sweep how many they are.

    The one `_target_` of conf/: Hydra has no other way to name a callback.
    """

    made: ClassVar[list[Path]] = []
    """Folders that Hydra then makes for the run."""
    sweep: ClassVar[Path | None] = None
    """Folder of the sweep that was started in this process."""
    lock: ClassVar[FolderLock | None] = None
    """Of that folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        cfg = copy.deepcopy(config)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        try:
            to_config(cfg)
        except UserError as error:
            sys.exit(f"error: {error}")  # SystemExit: Hydra turns an Exception of a callback into a warning
        folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
        PreflightCallback.made = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        if faults := list(sweep_faults(overrides)):
            sys.exit(f"error: {'; '.join(faults)}")
        jobs = count_jobs(config)
        # in the environment, since jobs may run in other processes
        os.environ[SWEPT_KEYS] = ",".join(swept_keys(config))
        os.environ["MNIST_MLP_JOBS"] = str(jobs)
        os.environ["MNIST_MLP_SWEEP_START"] = str(time.time())
        sweep = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        try:
            PreflightCallback.lock = FolderLock(sweep).acquire()  # makes the folder: optuna's database is there first
            prepare_storage(config)
        except UserError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {error_line(error)}")
        PreflightCallback.sweep = sweep


def swept_keys(config: DictConfig) -> list[str]:
    """The keys that the command line, or the grid of a preset, gives several values."""
    return sorted({override.key_or_group for override in sweep_overrides(config) if override.is_sweep_override()})


def count_jobs(config: DictConfig) -> int:
    """The number of jobs that Hydra's own sweeper makes, or an optimiser's number of trials."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    return math.prod(map(count_values, sweep_overrides(config))) if trials is None else int(trials)


def sweep_overrides(config: DictConfig) -> list[Override]:
    """What Hydra's own sweeper makes its jobs of: `hydra.sweeper.params`, and the command line, which replaces it."""
    parser = OverridesParser.create()
    searched = OmegaConf.select(config, "hydra.sweeper.n_trials") is not None
    params = {} if searched else OmegaConf.select(config, "hydra.sweeper.params") or {}
    given = parser.parse_overrides(list(config.hydra.overrides.task))
    grid = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    return list({override.get_key_element(): override for override in (*grid, *given)}.values())


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
        if count == 0 and isinstance(override.value(), Glob):
            yield f"{override.input_line} matches nothing: there is {', '.join(choices(key)) or f'no group {key}'}"
        elif count == 0:
            yield f"{override.input_line} gives no value"
        elif override.is_sweep_override() and key == "name":
            yield f"{override.input_line} gives several names: a sweep has one"


def remove_made() -> None:
    """Remove the folders that Hydra made for a run that was refused, where they are empty."""
    for path in PreflightCallback.made:
        try:
            path.rmdir()
        except OSError:
            return
