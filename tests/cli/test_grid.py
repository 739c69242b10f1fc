"""Jobs derived from one composition equal those that Hydra composes."""

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from mnist_mlp.cli.compose import VERSION_BASE, check_settings, to_config
from mnist_mlp.cli.grid import register
from mnist_mlp.cli.launcher import GridComposer
from mnist_mlp.config import conf_folder


@pytest.fixture
def composer() -> Iterator[GridComposer]:
    register()
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(conf_folder().resolve())):
        loader = GlobalHydra.instance().config_loader()
        yield GridComposer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


def test_jobs_of_a_grid_have_the_settings_that_hydra_composes(composer: GridComposer) -> None:
    jobs = [
        ["seed=0", "optim.lr=0.1", "model.hidden_units=[8,16]"],
        ["seed=1", "optim.lr=1", "model.hidden_units=12"],  # an integer for a float, and for a list
        ["seed=2", "optim=adam", "data.subset=half"],
        ["seed=3", "optim=sgd", "data.subset=0.25"],
        ["experiment=debug", "optim.schedule=cosine"],
        ["experiment=debug", "optim.schedule=linear"],
        ["experiment=better", "trainer.figures=false", "name='a-b'"],
    ]
    for job in jobs:
        assert check_settings(composer.settings(job)) == to_config(composer.compose(job)), job


def test_interpolated_values_are_those_of_hydra(composer: GridComposer) -> None:
    for seed in (1, 2):
        assert composer.settings([f"seed={seed}", "data.split_seed=${seed}"])["data"]["split_seed"] == seed


def test_a_value_of_the_wrong_type_is_rejected_by_hydra(composer: GridComposer) -> None:
    assert composer.settings(["optim.lr=0.1"])
    with pytest.raises(ConfigCompositionException, match=r"optim\.lr=abc"):
        composer.settings(["optim.lr=abc"])
