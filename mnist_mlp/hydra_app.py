"""Between Hydra and the program: schema and resolvers, folder names, launching, --help from the dataclasses."""

import copy
import hashlib
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable as Function
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.config import Config, allowed_values, knobs, run_only_keys
from mnist_mlp.errors import UserError
from mnist_mlp.explain import conf_folder, explain, suggest
from mnist_mlp.runs import flat
from mnist_mlp.sweeps import labels

NAME_LENGTH = 180
HELP = """\
Train a plain MLP on MNIST.

  python -m mnist_mlp.train [KEY=VALUE ...]            one run, into outputs/train/<name>
  python -m mnist_mlp.train -m KEY=A,B [KEY=VALUE ...]  a sweep, into outputs/sweeps/<name>

Ready-made settings (GROUP=CHOICE):
{groups}

Knobs (KEY=DEFAULT, then what is allowed):
{knobs}

--cfg job shows the composed configuration; --hydra-help explains Hydra's own flags.
"""


def register() -> None:
    """Make the schema and the resolvers of conf/config.yaml known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("trials_so_far", trials_so_far, replace=True, use_cache=True)


def run_folder(name: str | None, resume: str) -> str:
    """Where a single run goes; the time has microseconds because two runs may start within one second."""
    if resume not in ("auto", "never"):
        return resume
    return f"outputs/train/{name or datetime.now().strftime('%Y-%m-%d_%H-%M-%S-%f')}"


def sweep_folder(name: str | None) -> str:
    """Where a sweep goes."""
    return f"outputs/sweeps/{name or datetime.now().strftime('%Y-%m-%d_%H-%M-%S-%f')}"


def job_folder(overrides: Sequence[str]) -> str:
    """A job's folder from its overrides: readable, the same for the same settings in any order, without "=".

    Short enough for any file system; where that or the plain characters lost something, a hash keeps names apart.
    """
    pairs = sorted(override.lstrip("+~").partition("=")[::2] for override in overrides)
    pairs = [(key, value) for key, value in pairs if key not in run_only_keys() | {"search"}]
    short = labels([key for key, _ in pairs])
    exact = "_".join(f"{short[key]}-{value}" for key, value in pairs) or "defaults"
    plain = re.sub(r"\[([\w.,-]+)\]", lambda found: found.group(1).replace(",", "-"), exact)
    name = re.sub(r"[^\w.+-]+", "-", plain)[:NAME_LENGTH]
    return name if name == plain else f"{name}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def trials_so_far(study: str) -> int:
    """Number of trials in an optuna data base; 0 where there is none yet."""
    if not Path(study).is_file():
        return 0
    with closing(sqlite3.connect(study)) as connection:
        try:
            return int(connection.execute("select count(*) from trials").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


class Door(Callback):
    """Looks at a run or a sweep before Hydra starts it; refuses a run's bad settings before there is a folder for it.

    The one `_target_` of conf/: Hydra knows callbacks by no other way.
    """

    made: ClassVar[list[Path]] = []
    """Folders that Hydra then makes for the run."""
    sweep: ClassVar[Path | None] = None
    """Folder of the sweep that was started in this process."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        cfg = copy.deepcopy(config)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        try:
            typed(cfg)
        except UserError as error:
            sys.exit(f"error: {error}")  # SystemExit: Hydra turns an Exception of a callback into a warning
        folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
        Door.made = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        jobs = count_jobs(config)
        launcher = config.hydra.launcher
        at_once = launcher.get("n_jobs", jobs if "submitit" in launcher._target_.lower() else 1)
        # by the environment, since jobs may run in other processes
        os.environ["MNIST_MLP_JOBS"] = str(jobs)
        os.environ["MNIST_MLP_SWEEP_START"] = str(time.time())
        os.environ["MNIST_MLP_PARALLEL_JOBS"] = str(at_once if at_once > 0 else os.cpu_count() or 1)
        Door.sweep = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        Door.sweep.mkdir(parents=True, exist_ok=True)  # an optimiser's data base goes there first


def count_jobs(config: DictConfig) -> int:
    """How many jobs Hydra's own sweeper will make of a command line, or an optimiser's number of trials."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    if trials is not None:
        return int(trials)
    total = 1
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        glob = override.value()
        if isinstance(glob, Glob):
            group = conf_folder() / override.key_or_group
            total *= len(glob.filter([path.stem for path in group.glob("*.yaml")]))
        elif override.is_sweep_override():
            total *= sum(1 for _ in override.sweep_iterator())
    return total


def remove_made() -> None:
    """Take away the folders that Hydra made for a run that was refused, where nothing is in them."""
    for path in Door.made:
        try:
            path.rmdir()
        except OSError:
            return


def launch(job: Function[[DictConfig], Any], after_sweep: Function[[Path], int]) -> None:
    """Run a job, or a sweep of it, under Hydra; a mistake in the settings ends in one line on stderr and exit code 1.

    after_sweep gets the sweep's folder, however the sweep ended, and gives the exit code. --help is answered here:
    Hydra would first compose the configuration and copy its whole store for every group that it knows.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(), end="")
        return
    register()
    started = False

    @wraps(job)
    def task(cfg: DictConfig) -> Any:
        nonlocal started
        started = True
        return job(cfg)

    application = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(task)
    asked_for_traces = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's way of letting an exception through to the caller
    Door.sweep, code = None, 0
    try:
        application()
    except KeyboardInterrupt:  # while jobs ran in other processes
        print("\ninterrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        if started or asked_for_traces:
            raise
        if Door.sweep is not None and [path.name for path in Door.sweep.glob("*")] == ["multirun.yaml"]:
            shutil.rmtree(Door.sweep)  # nothing of it has started
        sys.exit(f"error: {explain(error)}")
    finally:
        if not asked_for_traces:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        if Door.sweep is not None and Door.sweep.is_dir():
            code = after_sweep(Door.sweep) or code
    if code:
        sys.exit(code)


def typed(cfg: DictConfig) -> Config:
    """The checked dataclasses of a composed config."""
    known = [key for key, _, _ in knobs(Config())]
    content = OmegaConf.to_container(cfg)
    assert isinstance(content, dict)
    for key in flat(content):  # "+key=value" gets past the schema
        if key not in known:
            raise UserError(suggest(key))
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:  # an interpolation of something that is not there
        raise UserError(" ".join(str(error).split())) from error
    assert isinstance(config, Config)
    return config


def saved(config: dict[str, Any], cfg: DictConfig) -> Config:
    """The config of an earlier run, with the knobs that change no result taken from this composed one."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), config)
    except OmegaConfBaseException as error:
        raise UserError(f"the run to resume was made by another version ({explain(error)})") from error
    for key in run_only_keys() - {"data.root"}:
        OmegaConf.update(merged, key, OmegaConf.select(cfg, key))
    assert isinstance(merged, DictConfig)
    return typed(merged)


def records(cfg: DictConfig) -> dict[str, str]:
    """What Hydra itself would write to .hydra/; ours to write, since a refused run must not touch the folder."""
    app = HydraConfig.get()
    return {
        ".hydra/config.yaml": OmegaConf.to_yaml(cfg),
        ".hydra/hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": app})),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(app.overrides.task),
    }


def help_text() -> str:
    """Every group and every knob, from conf/ and the dataclasses."""
    groups = []
    for folder in sorted(path for path in conf_folder().iterdir() if path.is_dir() and path.name != "hydra"):
        groups.append(f"  {folder.name}: {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}")
    lines = []
    for key, value, metadata in knobs(Config()):
        shown = value.value if isinstance(value, Enum) else "null" if value is None else str(value)
        shown = shown.lower() if isinstance(value, bool) else shown
        lines.append(f"  {key}={shown}\n      {allowed_values(value, metadata)}\n      {metadata['meaning']}")
    return HELP.format(groups="\n".join(groups), knobs="\n".join(lines))
