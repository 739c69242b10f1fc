"""The jobs and swept keys of a sweep, determined before its first job."""

import pytest
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli.application import count_jobs
from mnist_mlp.cli.grid import sweep_dimensions


def hydra_config(*task: str, **sweeper: object) -> DictConfig:
    return OmegaConf.create({"hydra": {"overrides": {"task": list(task)}, "sweeper": sweeper}})


@pytest.mark.parametrize(
    ("task", "params", "jobs", "keys"),
    [
        (["optim.lr=1,2", "name=a"], None, 2, ["optim.lr"]),
        (["experiment=better"], {"seed": "range(5)"}, 5, ["seed"]),
        (["experiment=better"], {"augment": "strong,mild,fine"}, 3, ["augment"]),
        (["optim.lr=1,2"], {"seed": "range(5)"}, 10, ["optim.lr", "seed"]),
        (["seed=7,8,9"], {"seed": "range(5)"}, 3, ["seed"]),
    ],
)
def test_jobs_come_from_the_command_line_and_the_params_of_a_preset(
    task: list[str], params: dict[str, str] | None, jobs: int, keys: list[str]
) -> None:
    config = hydra_config(*task, params=params)
    dimensions = sweep_dimensions(config)
    overrides = [override for dimension in dimensions for override in dimension.members]
    assert count_jobs(config, dimensions) == jobs
    assert sorted(override.key_or_group for override in overrides if override.is_sweep_override()) == keys


def test_a_search_has_as_many_jobs_as_trials() -> None:
    config = hydra_config("optim.momentum=0.5,0.9", n_trials=20, params={"optim.lr": "interval(0.1, 1)"})
    dimensions = sweep_dimensions(config)
    assert count_jobs(config, dimensions) == 20
    assert [dimension.text for dimension in dimensions] == ["optim.momentum=0.5,0.9"]
