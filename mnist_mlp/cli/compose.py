"""From a composed Hydra configuration to the checked dataclasses."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_mlp.cli.messages import explain, suggest
from mnist_mlp.config import Config, non_result_keys, options
from mnist_mlp.errors import UserError
from mnist_mlp.runs.settings import flatten


def to_config(cfg: DictConfig) -> Config:
    """The checked dataclasses of a composed configuration; UserError where it is not a legal one."""
    known = [key for key, _, _ in options(Config())]
    content = OmegaConf.to_container(cfg)
    assert isinstance(content, dict)
    for key in flatten(content):  # "+key=value" gets past the schema
        if key not in known:
            raise UserError(suggest(key))
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:  # an interpolation of something that is not there
        raise UserError(" ".join(str(error).split())) from error
    assert isinstance(config, Config)
    return config


def config_from_run(config: dict[str, Any], cfg: DictConfig) -> Config:
    """The configuration of an earlier run; options that do not affect the result come from this composed one."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), config)
    except OmegaConfBaseException as error:
        raise UserError(f"the run to resume was made by another version ({explain(error)})") from error
    for key in non_result_keys() - {"data.root"}:
        OmegaConf.update(merged, key, OmegaConf.select(cfg, key))
    assert isinstance(merged, DictConfig)
    return to_config(merged)


def records(cfg: DictConfig) -> dict[str, str]:
    """The files that Hydra would write to .hydra/; `fit` writes them, since a refused run must touch no folder."""
    app = HydraConfig.get()
    return {
        ".hydra/config.yaml": OmegaConf.to_yaml(cfg),
        ".hydra/hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": app})),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(app.overrides.task),
    }
