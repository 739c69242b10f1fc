"""A network trained on the embedded sample, once for all tests of this folder."""

import json
import shutil
from pathlib import Path

import pytest

RUN = "sample_net"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its run folder; tests must not modify it."""
    from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, Optimizer, Source, TrainerConfig
    from mnist_mlp.training.fit import fit

    path = tmp_path_factory.mktemp("outputs") / "train" / RUN
    config = Config(
        data=DataConfig(source=Source.sample),
        model=ModelConfig(hidden_layers=2, hidden_units=[48, 32]),
        optim=OptimConfig(name=Optimizer.adam, lr=0.003),
        trainer=TrainerConfig(max_epochs=6, progress=False, figures=False),
    )
    fit(config, path)
    return path


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    """A writable copy of it without evaluations, at tmp_path/outputs/train/sample_net."""
    folder = Path(shutil.copytree(trained, tmp_path / "outputs" / "train" / RUN))
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"evaluations": {"sample": 1}}))
    return folder
