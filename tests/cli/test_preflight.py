"""What a sweep knows of itself before its first job."""

import pytest
from omegaconf import DictConfig, OmegaConf

from mnist_mlp.cli.preflight import count_jobs, swept_keys


def hydra_config(*task: str, **sweeper: object) -> DictConfig:
    return OmegaConf.create({"hydra": {"overrides": {"task": list(task)}, "sweeper": sweeper}})


@pytest.mark.parametrize(
    ("task", "params", "jobs", "keys"),
    [
        (["optim.lr=1,2", "name=a"], None, 2, ["optim.lr"]),
        (["experiment=record_committee"], {"seed": "range(5)"}, 5, ["seed"]),
        (["optim.lr=1,2"], {"seed": "range(5)"}, 10, ["optim.lr", "seed"]),
        (["seed=7,8,9"], {"seed": "range(5)"}, 3, ["seed"]),
    ],
)
def test_jobs_are_those_of_the_command_line_and_of_a_presets_grid(
    task: list[str], params: dict[str, str] | None, jobs: int, keys: list[str]
) -> None:
    config = hydra_config(*task, params=params)
    assert (count_jobs(config), swept_keys(config)) == (jobs, keys)


def test_a_search_has_as_many_jobs_as_trials() -> None:
    config = hydra_config("optim.momentum=0.5,0.9", n_trials=20, params={"optim.lr": "interval(0.1, 1)"})
    assert (count_jobs(config), swept_keys(config)) == (20, ["optim.momentum"])
