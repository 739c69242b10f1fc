"""From a composed Hydra configuration to the checked dataclasses."""

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, SCMode
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.cli.messages import explain, suggest
from mnist_mlp.config import Config, ModelConfig, Source, non_result_keys
from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.options import from_dict, options, to_dict
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import flatten, short_names

SWEPT_KEYS = "MNIST_MLP_SWEPT_KEYS"
"""Environment variable with the keys that the sweep varies, since jobs may run in other processes."""
NAME_LENGTH = 180
"""Longest job name; file systems allow 255 bytes."""


def run_folder(name: str | None, resume: str) -> str:
    """The folder of a single run. The time has microseconds, since two runs may start within one second."""
    if resume not in ("auto", "never"):
        return resume
    return f"outputs/train/{name or _time()}"


def sweep_folder(name: str | None) -> str:
    """The folder of a sweep."""
    return f"outputs/sweeps/{name or _time()}"


def job_folder(overrides: Sequence[str]) -> str:
    """A job's folder from its overrides: readable, the same in whatever order they were given, without "=".

    An option that does not affect the result is part of the name only where the sweep varies it: one folder, one job.
    Short enough for any file system; a hash tells names apart from which characters had to be dropped.
    """
    pairs = sorted(override.lstrip("+~").partition("=")[::2] for override in overrides)
    silent = (non_result_keys() | {"search"}) - set(os.environ.get(SWEPT_KEYS, "").split(","))
    pairs = [(key, value) for key, value in pairs if key not in silent]
    short = short_names([key for key, _ in pairs])
    exact = "_".join(f"{short[key]}-{value}" for key, value in pairs) or "defaults"
    simple = re.sub(r"\[([\w.,-]+)\]", lambda found: found.group(1).replace(",", "-"), exact)
    name = re.sub(r"[^\w.+-]+", "-", simple)[:NAME_LENGTH]
    return name if name == simple else f"{name}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _time() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


ATTEMPTS = 20
PAUSE = 0.25
"""Seconds between two attempts: making Optuna's tables takes about one."""


def search_seed(sweep: str, storage: str) -> int:
    """The seed of a sampler: neither the next call nor another search in the same storage draws the same trials.

    sweep: folder of the search. storage: Optuna's URL; in the sweep's own database its trials are counted, and so the
    same search draws the same under any name.
    """
    own = Path(sweep) / "study.db"
    if storage == f"sqlite:///{own}":
        return _trials_so_far(own)
    jobs = sum(1 for _ in Path(sweep).glob("*/run.json"))
    return (crc32(str(Path(sweep).absolute()).encode()) + jobs) % 2**32


def prepare_storage(config: DictConfig) -> None:
    """Make the tables of a search's storage; of several processes that do so at once all but one fail at first.

    config: of the sweep. UserError where there is no such storage.
    """
    sweeper: Any = OmegaConf.select(config, "hydra.sweeper")
    storage = sweeper.get("storage")
    if "optuna" not in str(sweeper.get("_target_")) or not isinstance(storage, str):
        return
    from optuna.storages import get_storage  # deferred: an extra

    for left in reversed(range(ATTEMPTS)):
        try:
            get_storage(storage)
            return
        except Exception as error:  # of sqlalchemy or of any of its databases
            if not left:
                raise UserError(f"hydra.sweeper.storage={storage} cannot be used: {error_line(error)}") from error
            time.sleep(PAUSE)


def _trials_so_far(study: Path) -> int:
    """Number of trials in an optuna database; 0 where there is none yet."""
    if not study.is_file():
        return 0
    with closing(sqlite3.connect(study)) as connection:
        try:
            return int(connection.execute("select count(*) from trials").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


VERSION_BASE = "1.3"
"""The version of Hydra whose habits are meant."""


@dataclass
class _ModelSchema(ModelConfig):
    """For composing alone, since OmegaConf knows no "integer or list of integers"."""

    hidden_layers: int | None = None  # type: ignore[assignment]
    hidden_units: Any = field(default_factory=lambda: [256])

    def __post_init__(self) -> None:
        """Nothing: `to_config` makes the checked group of it."""


@dataclass
class Schema(Config):
    """`Config` as Hydra composes it."""

    model: _ModelSchema = field(default_factory=_ModelSchema)


def register_schema() -> None:
    """Register the schema and the resolvers of conf/config.yaml."""
    ConfigStore.instance().store(name="schema", node=Schema)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("search_seed", search_seed, replace=True, use_cache=True)


def compose(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> Config:
    """The configuration that `python -m mnist_mlp.train` composes of these overrides. Nothing is run.

    Args:
        overrides: as on the command line, such as ["experiment=better", "optim.lr=0.01"].
        config_dir: folder with presets of one's own (config_dir/experiment/mine.yaml), as --config-dir.

    Raises:
        UserError: describes in one line what can be corrected.
    """
    return from_dict(Config, composed_settings(overrides, config_dir))


def composed_settings(overrides: Iterable[str], config_dir: str | Path | None = None) -> JSON:
    """The nested settings of `compose`, before their values are checked. Hydra's global state stays as it was."""
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r} is a single text: give a list of them")
    words = list(overrides)
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise UserError(f"config_dir={config_dir} is not a folder: give the one that holds GROUP/PRESET.yaml")
        quoted = str(folder).replace("'", "\\'")
        words.append(f"hydra.searchpath=['file://{quoted}']")
    shared, version = GlobalHydra.instance(), VersionBase.instance()
    before, shared.hydra, version_base = shared.hydra, None, version.getbase()
    try:
        with hydra.initialize_config_module("mnist_mlp.conf", version_base=VERSION_BASE):
            register_schema()  # anew: the environment has the default of data.root
            return known_settings(hydra.compose("config", words))
    except Exception as error:  # of Hydra, OmegaConf, yaml or the file system
        raise UserError(explain(error, words)) from None
    finally:
        shared.hydra, version.version_base = before, version_base
        GlobalHydra.set_instance(shared)


def plain_settings(cfg: DictConfig) -> JSON:
    """A configuration of OmegaConf as nested dicts, lists and primitives; UserError names what cannot be resolved."""
    try:
        content: Any = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.DICT, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise UserError(" ".join(str(error).split())) from error
    return dict(content)


def known_settings(cfg: DictConfig) -> JSON:
    """The nested settings of a composed configuration; UserError names a key that is not an option."""
    content = plain_settings(cfg)
    known = {key for key, _, _ in options(Config())}
    for key in flatten(content):  # "+key=value" gets past the schema
        if key not in known:
            raise UserError(suggest(key))
    return content


def to_config(cfg: DictConfig) -> Config:
    """The checked dataclasses of a composed configuration; UserError if it is not a legal one."""
    config = from_dict(Config, known_settings(cfg))
    if config.data.source == Source.arrays:
        raise UserError("data.source=arrays is for Python: give data= to mnist_mlp.fit; here auto, mnist or sample")
    return config


def config_from_run(config: dict[str, Any], cfg: DictConfig) -> Config:
    """The configuration of an earlier run; options that do not affect the result come from this composed one."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Schema), config)
    except OmegaConfBaseException as error:
        raise UserError(f"the run to resume was made by another version ({explain(error)})") from error
    for key in non_result_keys() - {"data.root"}:
        OmegaConf.update(merged, key, OmegaConf.select(cfg, key))
    assert isinstance(merged, DictConfig)
    return to_config(merged)


def records(cfg: DictConfig) -> dict[str, str]:
    """The files that Hydra would write to .hydra/; `fit` writes them, since a refused run must touch no folder."""
    app = HydraConfig.get()
    hydra = OmegaConf.to_yaml(OmegaConf.create({"hydra": app}))
    return {**config_records(to_config(cfg), app.overrides.task), ".hydra/hydra.yaml": hydra}


def config_records(config: Config, overrides: Iterable[str]) -> dict[str, str]:
    """The configuration as it really runs, and what was asked for, as the files that Hydra would call so."""
    return {
        ".hydra/config.yaml": OmegaConf.to_yaml(OmegaConf.create(to_dict(config))),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(list(overrides)),
    }
