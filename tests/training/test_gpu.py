"""CUDA graphs of eager and compiled steps; needs a GPU."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_steps import CHOICES, assert_equal_training

from mnist_mlp.config import Accelerator, Config, DataConfig, ModelConfig, TrainerConfig
from mnist_mlp.training.compile import CompiledStep
from mnist_mlp.training.fast import CUDAGraphRunner, run_eagerly
from mnist_mlp.training.fit import fit

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("name", list(CHOICES))
def test_graphs_equal_eager_steps(name: str) -> None:
    assert_equal_training(CHOICES[name], lambda step, state: CUDAGraphRunner(run_eagerly(step), state), "cuda")


@pytest.mark.parametrize("name", ["plain", "all"])
def test_graphs_of_the_compiled_step_equal_eager_steps(name: str) -> None:
    assert_equal_training(
        CHOICES[name], lambda step, state: CUDAGraphRunner(run_eagerly(CompiledStep(step)), state), "cuda"
    )


def test_a_run_has_the_results_of_the_cpu(idx_root: Path, tmp_path: Path) -> None:
    config = Config(
        data=DataConfig(root=str(idx_root), val_size=60, batch_size=16),
        model=ModelConfig(hidden_layers=2, hidden_units=[12]),
        trainer=TrainerConfig(max_epochs=3, steps_per_execution=4, progress=False, figures=False),
    )
    results = [
        fit(replace(config, trainer=replace(config.trainer, accelerator=accelerator)), tmp_path / accelerator.value)
        for accelerator in (Accelerator.cpu, Accelerator.gpu)
    ]
    for name, value in results[0].metrics.items():
        assert results[1].metrics[name] == pytest.approx(value, rel=0.02), name
