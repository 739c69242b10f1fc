"""From overrides to folders, and from a composed Hydra configuration to the checked dataclasses."""

import hashlib
import re
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, SCMode
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.cli.help import explain, suggest
from mnist_mlp.config import Config, ModelConfig, Source, conf_folder, non_result_keys
from mnist_mlp.console import error_line, shown_path
from mnist_mlp.errors import UserError
from mnist_mlp.options import from_dict, options, to_dict
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import flatten, short_names

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults apply."""
NAME_LENGTH = 180
"""Maximum length of a job's name; file systems allow 255 bytes."""
FLAGS = ("--config-dir", "--config-path", "--config-name", "hydra.searchpath")
"""What a run's recorded overrides may begin with: they say which presets there are."""
ATTEMPTS = 20
PAUSE = 0.25
"""Seconds between two attempts: Optuna takes about one to create its tables."""


def run_folder(name: str | None, resume: str) -> str:
    """The folder of a single run. The time has microseconds because two runs may start within one second."""
    if resume not in ("auto", "never"):
        return resume
    return f"outputs/train/{name or _time()}"


def sweep_folder(name: str | None) -> str:
    """The folder of a sweep."""
    return f"outputs/sweeps/{name or _time()}"


def _time() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


def override_text(key: str, value: Any) -> str:
    """A setting as the command line writes it; of the ways to write a value always the same."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@cache
def option_keys() -> frozenset[str]:
    """The dotted keys of all options."""
    return frozenset(key for key, _, _ in options(Config()))


class OptionValue(NamedTuple):
    """An option's key, its value of the option's type, and the one spelling of that value."""

    key: str
    value: Any
    text: str


@lru_cache(10_000)
def option_value(override: str) -> OptionValue | None:
    """What an override gives to an option; None for a preset, and for a value that is not legal or not known yet."""
    key, _, text = override.partition("=")
    group, _, name = key.rpartition(".")
    if key not in option_keys() or "${" in text:
        return None
    try:
        parsed: Any = OverridesParser.create().parse_override(override).value()
        checked = type(getattr(Config(), group))(**{name: parsed}) if group else Config(**{name: parsed})
    except (HydraException, ValueError):  # the job itself reports it
        return None
    value = to_dict(getattr(checked, name))
    return OptionValue(key, None if parsed is None else value, _text(value))  # null may follow from another option


def _spelled(override: str) -> tuple[str, str]:
    """Key and value of an override; 1e-2 and 0.01, half and 0.5, True and true give the same text."""
    key, _, text = override.lstrip("+~").partition("=")
    option = option_value(f"{key}={text}")
    return key, option.text if option else text


def job_name(overrides: Iterable[str], swept: Iterable[str] = ()) -> str:
    """A job's name from its overrides: readable, without "=", independent of their order and of how values are spelt.

    An option that does not affect the result is part of the name only if it is among the swept keys, so that each job
    has its own folder. A hash distinguishes names that lost characters to the file system's rules.
    """
    silent = (non_result_keys() | {"search", *FLAGS}) - set(swept)
    pairs = [(key, value) for key, value in sorted(map(_spelled, overrides)) if key not in silent]
    short = short_names([key for key, _ in pairs])
    exact = "_".join(f"{short[key]}-{value}" for key, value in pairs) or "defaults"
    simple = re.sub(r"\[([\w.,-]+)\]", lambda found: found.group(1).replace(",", "-"), exact)
    name = re.sub(r"[^\w.+-]+", "-", simple)[:NAME_LENGTH]
    return name if name == simple else f"{name}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def search_seed(sweep: str, storage: str) -> int:
    """The seed of a sampler; the next call, or another search in the same storage, draws other trials.

    Args:
        sweep: The search's folder.
        storage: Optuna's URL. Only the trials in the sweep's own database count, so that the same search draws the same
            trials under any name.
    """
    own = Path(sweep) / "study.db"
    if storage != f"sqlite:///{own}":
        jobs = sum(1 for _ in Path(sweep).glob("*/run.json"))
        return (crc32(str(Path(sweep).absolute()).encode()) + jobs) % 2**32
    if own.is_file():
        with closing(sqlite3.connect(own)) as connection, suppress(sqlite3.OperationalError):  # no tables yet
            return int(connection.execute("select count(*) from trials").fetchone()[0])
    return 0


def prepare_storage(config: DictConfig) -> None:
    """Create the tables of a search's storage, or raise UserError. If several processes do so, some fail at first."""
    sweeper: Any = OmegaConf.select(config, "hydra.sweeper")
    storage = sweeper.get("storage")
    if "optuna" not in str(sweeper.get("_target_")) or not isinstance(storage, str):
        return
    from optuna.storages import get_storage  # deferred: an extra

    for _ in range(ATTEMPTS):
        try:
            get_storage(storage)
            return
        except Exception as error:  # of sqlalchemy or of any of its databases
            fault = error_line(error)
            time.sleep(PAUSE)
    raise UserError(f"hydra.sweeper.storage={storage} cannot be used: {fault}")


@dataclass
class _ModelSchema(ModelConfig):
    """For composing only, because OmegaConf does not know "integer or list of integers"."""

    hidden_layers: int | None = None  # type: ignore[assignment]
    hidden_units: Any = field(default_factory=lambda: [256])

    def __post_init__(self) -> None:
        """Nothing: `to_config` makes the checked group of it."""


@dataclass
class Schema(Config):
    """`Config` as Hydra composes it."""

    model: _ModelSchema = field(default_factory=_ModelSchema)


def register_schema(swept: Iterable[str] = ()) -> None:
    """Register the schema and the resolvers of conf/config.yaml. swept: Keys that a sweep varies."""
    ConfigStore.instance().store(name="schema", node=Schema)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("job_name", partial(job_name, swept=swept), replace=True)
    OmegaConf.register_new_resolver("search_seed", search_seed, replace=True, use_cache=True)


def compose(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> Config:
    """The configuration that `python -m mnist_mlp.train` composes of these overrides. Nothing is run.

    Args:
        overrides: As on the command line, such as ["experiment=better", "optim.lr=0.01"].
        config_dir: Folder with presets of one's own (config_dir/experiment/mine.yaml), as --config-dir.

    Raises:
        UserError: Describes in one line what can be corrected.
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
            return known_settings(nested_settings(hydra.compose("config", words)))
    except Exception as error:  # of Hydra, OmegaConf, yaml or the file system
        raise UserError(explain(error, words)) from None
    finally:
        shared.hydra, version.version_base = before, version_base
        GlobalHydra.set_instance(shared)


def to_config(cfg: DictConfig) -> Config:
    """The checked dataclasses of a composed configuration; UserError names its unknown keys and illegal values."""
    return check_settings(nested_settings(cfg))


def check_settings(nested: JSON) -> Config:
    """The checked dataclasses of nested settings; the same errors as `to_config`."""
    config = from_dict(Config, known_settings(nested))
    if config.data.source == Source.arrays:
        raise UserError("data.source=arrays is for Python: give data= to mnist_mlp.fit; here auto, mnist or sample")
    return config


def known_settings(nested: JSON) -> JSON:
    """Nested settings as they are; UserError names a key that is not an option."""
    for key in flatten(nested):  # "+key=value" gets past the schema
        if key not in option_keys():
            raise UserError(suggest(key))
    return nested


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A composed configuration without Hydra's own part."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def nested_settings(cfg: DictConfig, resolve: bool = True) -> JSON:
    """The settings of a configuration as nested dicts, lists and primitives, before any check and without Hydra's part.

    resolve: Replace interpolations by their values; UserError names what cannot be resolved.
    """
    cfg = without_hydra(cfg)
    try:
        content: Any = OmegaConf.to_container(
            cfg, resolve=resolve, structured_config_mode=SCMode.DICT, enum_to_str=True
        )
    except OmegaConfBaseException as error:  # an interpolation of something that is not there
        raise UserError(" ".join(str(error).split())) from error
    return dict(content)


def choose_config(cfg: DictConfig, folder: RunFolder, overrides: Iterable[str]) -> Config:
    """The composed configuration; with resume=<run folder> and no other setting that affects the result, the run's."""
    config = to_config(cfg)
    if config.resume in ("auto", "never"):
        return config
    run = folder.run()
    if run is None:
        raise UserError(f"resume={config.resume} is not a run folder (no run.json): give auto, never or a run folder")
    if {override.split("=")[0] for override in overrides} - non_result_keys():
        return config
    try:
        merged: Any = OmegaConf.merge(OmegaConf.structured(Schema), run["config"])
    except OmegaConfBaseException as error:
        raise UserError(f"the run to resume was made by another version ({explain(error)})") from error
    for key in non_result_keys() - {"data.root"}:
        OmegaConf.update(merged, key, OmegaConf.select(cfg, key))
    return to_config(merged)


def preset_flags(app: Any) -> list[str]:
    """The flags of the command line that say which presets there are; part of a run's recorded overrides.

    app: The `hydra` node of the configuration.
    """
    sources = {source.provider: Path(source.path) for source in app.runtime.config_sources}
    flags = [text for text in app.overrides.hydra if text.startswith("hydra.searchpath=")]
    if "command-line" in sources:
        flags.append(f"--config-dir={shown_path(sources['command-line'])}")
    if sources["main"].resolve() != conf_folder().resolve():
        flags.append(f"--config-path={sources['main'].absolute()}")
    if app.job.config_name != "config":
        flags.append(f"--config-name={app.job.config_name}")
    return flags


def hydra_records(settings: JSON, app: Any) -> dict[str, str]:
    """The files that Hydra would write to .hydra/; `fit` writes them, because a refused run must not touch a folder."""
    hydra = OmegaConf.to_yaml(OmegaConf.create({"hydra": app}))
    return {**config_records(settings, app.overrides.task), ".hydra/hydra.yaml": hydra}


def config_records(settings: JSON, overrides: Iterable[str]) -> dict[str, str]:
    """The configuration as it runs, and the overrides, as the files that Hydra would call so."""
    return {
        ".hydra/config.yaml": OmegaConf.to_yaml(OmegaConf.create(settings)),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(list(overrides)),
    }
