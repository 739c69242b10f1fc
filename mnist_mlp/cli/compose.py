"""From overrides to folder names, and from a composed Hydra configuration to validated dataclasses."""

import hashlib
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, SCMode
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.cli.help import explain, suggest
from mnist_mlp.config import DEFAULT_WIDTH, Config, ModelConfig, Source, conf_folder, non_result_keys, note_one_layer
from mnist_mlp.console import shown_path
from mnist_mlp.errors import UserError
from mnist_mlp.options import from_dict, options, to_dict
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import flatten, short_names

VERSION_BASE = "1.3"
"""Hydra version whose defaults apply."""
NAME_LENGTH, WINDOWS_NAME_LENGTH = 180, 70
"""Maximum length of a job's name without its hash, in characters; Windows limits whole paths to 259."""
NAME_BYTES = 236
"""The same in bytes: file systems allow 255, and an archived job has a longer name."""
FLAGS = ("--config-dir", "--config-path", "--config-name", "hydra.searchpath")
"""Flags recorded with a run's overrides, because they determine which presets exist."""
_composing = threading.Lock()  # held while Hydra's global state is replaced


def run_folder(name: str | None, resume: str) -> str:
    """Return the folder of a single run; the default name has microseconds, because two runs may start in a second."""
    if resume not in ("auto", "never"):
        return os.path.expanduser(resume)
    return f"outputs/train/{name or _time()}"


def sweep_folder(name: str | None) -> str:
    """Return the folder of a sweep."""
    return f"outputs/sweeps/{name or _time()}"


def _time() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


def override_text(key: str, value: Any) -> str:
    """Write a setting as an override, with the canonical spelling of its value."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@cache
def option_keys() -> frozenset[str]:
    """Return the dotted keys of all options."""
    return frozenset(key for key, _, _ in options(Config()))


@cache
def text_keys() -> frozenset[str]:
    """Return the dotted keys of the options that accept any text."""
    return frozenset(
        key for key, value, metadata in options(Config()) if type(value) is str and not metadata["choices"]
    ) | {"name"}


@lru_cache(10_000)
def as_text(override: str) -> str:
    """Quote values of a text option that Hydra would read as a number (3.10, 5e12345) or not at all (~/mnist, zip)."""
    key, _, text = override.partition("=")
    if text.startswith("zip("):  # Hydra's grammar does not have it yet
        return f"{key}=choice({QuotedString(text, Quote.single).with_quotes()})"
    simple = re.fullmatch(r"(choice\()?([^][(){}'\"]*)(?(1)\))", text)  # one value, or several without quotes
    if key.lstrip("+") not in text_keys() or not text or (not simple and ("," in text or text[0] in "'\"")):
        return override
    start, end = simple.span(2) if simple else (0, len(text))
    values = text[start:end].split(",")
    return f"{key}={text[:start]}{','.join(map(_quote_if_misread, values))}{text[end:]}"


def _quote_if_misread(text: str) -> str:
    try:
        value = OverridesParser.create().parse_override(f"name={text}").value()
        is_misread = isinstance(value, (int, float)) and str(value) != text
    except (HydraException, ValueError):
        is_misread = True
    return QuotedString(text, Quote.single).with_quotes() if is_misread else text


class OptionValue(NamedTuple):
    """An option's key, its value as written, and the canonical spelling of that value."""

    key: str
    value: Any
    text: str


@lru_cache(10_000)
def option_value(override: str) -> OptionValue | None:
    """Parse an override of an option; None if it selects a preset, is illegal or contains an interpolation."""
    key, _, text = override.partition("=")
    group, _, name = key.rpartition(".")
    if key not in option_keys() or "${" in text:
        return None
    try:
        parsed: Any = OverridesParser.create().parse_override(as_text(override)).value()
        checked = type(getattr(Config(), group))(**{name: parsed}) if group else Config(**{name: parsed})
    except (HydraException, ValueError):  # the job itself reports it
        return None
    # unconverted, because null and 64 (not [64]) depend on other options
    return OptionValue(key, parsed, _text(to_dict(getattr(checked, name))))


def canonical(override: str) -> tuple[str, str]:
    """Split an override into key and canonical value: 1e-2 and 0.01, half and 0.5, True and true are the same."""
    key, _, text = override.lstrip("+~").partition("=")
    option = option_value(f"{key}={text}")
    return key, option.text if option else text


def job_name(overrides: Iterable[str], swept: Iterable[str] = ()) -> str:
    """Name a job after its overrides, independently of their order and of the spelling of values.

    Options that do not affect the result are included only if they are swept, to give each job its own folder. A hash
    distinguishes names that had to be shortened or lost characters that file systems do not allow.
    """
    omitted = (non_result_keys() | {"search", "study", *FLAGS}) - set(swept)
    pairs = [(key, value) for key, value in sorted(map(canonical, overrides)) if key not in omitted]
    short = short_names([key for key, _ in pairs])
    exact = "_".join(f"{short[key]}-{value}" for key, value in pairs) or "defaults"
    simple = re.sub(r"\[([\w.,-]+)\]", lambda match: match[1].replace(",", "-"), exact)
    name = re.sub(r"[^\w.+-]+", "-", simple)[:NAME_LENGTH].encode()[:NAME_BYTES].decode(errors="ignore")
    if os.name != "posix":
        name = name[:WINDOWS_NAME_LENGTH].rstrip(".")  # Windows drops dots at the end
    return (
        name if name == simple else f"{name}-{hashlib.sha256(exact.encode(errors='surrogateescape')).hexdigest()[:8]}"
    )


@dataclass
class _ModelSchema(ModelConfig):
    """`ModelConfig` without the types that OmegaConf does not support, such as int | list[int]."""

    hidden_layers: int | None = None  # type: ignore[assignment]
    hidden_units: Any = DEFAULT_WIDTH

    def __post_init__(self) -> None:
        """Skip validation, which `to_config` does."""


@dataclass
class Schema(Config):
    """`Config` as Hydra composes it."""

    model: _ModelSchema = field(default_factory=_ModelSchema)


def register_schema(swept: Iterable[str] = ()) -> None:
    """Register the schema and the resolvers of conf/config.yaml. swept: keys that a sweep varies."""
    ConfigStore.instance().store(name="mnist_mlp_schema", node=Schema)
    OmegaConf.register_new_resolver("mnist_mlp.run_folder", run_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("mnist_mlp.sweep_folder", sweep_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("mnist_mlp.job_name", partial(job_name, swept=swept), replace=True)


def compose(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> Config:
    """Compose a configuration from overrides, as `python -m mnist_mlp.train` does, without running it.

    Args:
        overrides: as on the command line, such as ["experiment=better", "optim.lr=0.01"].
        config_dir: folder with your own presets (config_dir/experiment/mine.yaml), like --config-dir.

    Returns:
        The validated configuration.

    Raises:
        UserError: a key, a value, a combination of values or a preset is not valid.
    """
    return from_dict(Config, composed_settings(overrides, config_dir))


def composed_settings(overrides: Iterable[str], config_dir: str | Path | None = None) -> JSON:
    """Return the nested settings of `compose` before their values are validated. Restores Hydra's global state."""
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r} is a string: use a list of strings")
    words = list(overrides)
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise UserError(f"config_dir={config_dir} is not a folder: use the folder that contains GROUP/PRESET.yaml")
        quoted = folder.as_posix().replace("'", "\\'")
        words.append(f"hydra.searchpath=['file://{quoted}']")
    with _composing:
        shared, version = GlobalHydra.instance(), VersionBase.instance()
        before, shared.hydra, version_base = shared.hydra, None, version.getbase()
        try:
            with hydra.initialize_config_module("mnist_mlp.conf", version_base=VERSION_BASE):
                register_schema()  # again: the default of data.root depends on the environment
                return known_settings(nested_settings(hydra.compose("config", [as_text(word) for word in words])))
        except Exception as error:  # from Hydra, OmegaConf, yaml or the file system
            raise UserError(explain(error, words)) from None
        finally:
            shared.hydra, version.version_base = before, version_base
            GlobalHydra.set_instance(shared)


def to_config(cfg: DictConfig) -> Config:
    """Convert a composed configuration to `Config`; UserError names unknown keys and illegal values."""
    return check_settings(nested_settings(cfg))


def check_settings(nested: JSON) -> Config:
    """Convert nested settings to `Config`; raises the same errors as `to_config`."""
    config = from_dict(Config, known_settings(nested))
    note_one_layer(nested)
    if config.data.source == Source.arrays:
        raise UserError("data.source=arrays is for data= of mnist_mlp.fit and sweep: use auto, mnist or sample")
    return config


def known_settings(nested: JSON) -> JSON:
    """Return the settings unchanged; UserError names a key that is not an option."""
    for key in flatten(nested):  # "+key=value" bypasses the schema
        if key not in option_keys():
            raise UserError(suggest(key))
    return nested


def nested_settings(cfg: DictConfig, resolve: bool = True) -> JSON:
    """Convert a configuration to nested settings, without validation; UserError names unresolved interpolations."""
    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        content: Any = OmegaConf.to_container(
            cfg, resolve=resolve, structured_config_mode=SCMode.DICT, enum_to_str=True
        )
    except OmegaConfBaseException as error:  # an interpolation of a missing key
        raise UserError(" ".join(str(error).split())) from error
    return dict(content)


def choose_config(cfg: DictConfig, folder: RunFolder, overrides: Iterable[str]) -> Config:
    """Return the composed configuration, or that of the run in resume=FOLDER if no override affects the result."""
    config = to_config(cfg)
    if config.resume in ("auto", "never"):
        return config
    run = folder.run()
    if run is None:
        raise UserError(f"resume={config.resume} is not a run folder (no run.json): use auto, never or a run folder")
    if {override.split("=")[0] for override in overrides} - non_result_keys():
        return config
    try:
        merged: Any = OmegaConf.merge(OmegaConf.structured(Schema), run["config"])
    except OmegaConfBaseException as error:
        raise UserError(f"resume={config.resume} is a run of an incompatible version ({explain(error)})") from error
    for key in non_result_keys() - {"data.root"}:
        OmegaConf.update(merged, key, OmegaConf.select(cfg, key))
    return to_config(merged)


def hydra_runtime(app: Any) -> Any:
    """Return the `hydra.runtime` node without resolving its paths, which may contain ${."""
    return OmegaConf.to_container(app.runtime, resolve=False)


def preset_flags(app: Any) -> list[str]:
    """Return the flags in the `hydra` node that determine which presets exist; they are recorded with the overrides."""
    sources = {source["provider"]: Path(source["path"]) for source in hydra_runtime(app)["config_sources"]}
    flags = [text for text in app.overrides.hydra if text.startswith("hydra.searchpath=")]
    if "command-line" in sources:
        flags.append(f"--config-dir={shown_path(sources['command-line'])}")
    if sources["main"].resolve() != conf_folder().resolve():
        flags.append(f"--config-path={sources['main'].absolute()}")
    if app.job.config_name != "config":
        flags.append(f"--config-name={app.job.config_name}")
    return flags


def hydra_records(settings: JSON, app: Any) -> dict[str, str]:
    """Return the files of .hydra/. `fit` writes them, not Hydra, because a rejected run must not touch a folder."""
    hydra = OmegaConf.to_yaml(OmegaConf.create({"hydra": app}))
    return {**config_records(settings, app.overrides.task), ".hydra/hydra.yaml": hydra}


def config_records(settings: JSON, overrides: Iterable[str]) -> dict[str, str]:
    """Return .hydra/config.yaml with the configuration of the run, and .hydra/overrides.yaml."""
    return {
        ".hydra/config.yaml": OmegaConf.to_yaml(OmegaConf.create(settings)),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(list(overrides)),
    }
