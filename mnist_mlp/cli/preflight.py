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
        overrides = sweep_overrides(config)
        if faults := list(sweep_faults(overrides)):
            sys.exit(f"error: {'; '.join(faults)}")
        jobs = count_jobs(config, overrides)
        # in the environment, since jobs may run in other processes
        swept = sorted({override.key_or_group for override in overrides if override.is_sweep_override()})
        os.environ[SWEPT_KEYS] = ",".join(swept)
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


def sweep_overrides(config: DictConfig) -> list[Override]:
    """What the sweep varies and fixes: the command line, before what a preset gives the sweeper (`params`)."""
    given: list[Override] = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    if OmegaConf.select(config, "hydra.sweeper.n_trials") is not None:  # a search, which reads its space itself
        return given
    params, keys = OmegaConf.select(config, "hydra.sweeper.params") or {}, {override.key_or_group for override in given}
    preset = [f"{key}={value}" for key, value in params.items() if key not in keys]
    return [*OverridesParser.create().parse_overrides(preset), *given]


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
