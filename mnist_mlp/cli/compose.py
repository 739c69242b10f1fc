"""From a composed Hydra configuration to the checked dataclasses."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.cli.folders import job_folder, run_folder, sweep_folder
from mnist_mlp.cli.messages import explain
from mnist_mlp.cli.search import search_seed
from mnist_mlp.cli.suggestions import suggest
from mnist_mlp.config import Config, ModelConfig, config_from_dict, non_result_keys, options, to_dict
from mnist_mlp.errors import UserError
from mnist_mlp.runs.settings import flatten

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


def to_config(cfg: DictConfig) -> Config:
    """The checked dataclasses of a composed configuration; UserError where it is not a legal one."""
    known = [key for key, _, _ in options(Config())]
    try:
        content = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.DICT, enum_to_str=True)
    except OmegaConfBaseException as error:  # an interpolation of something that is not there
        raise UserError(" ".join(str(error).split())) from error
    assert isinstance(content, dict)
    for key in flatten(content):  # "+key=value" gets past the schema
        if key not in known:
            raise UserError(suggest(key))
    return config_from_dict({str(key): value for key, value in content.items()})


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
