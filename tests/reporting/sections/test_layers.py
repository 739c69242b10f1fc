"""The network section against the network that torch builds from the same settings."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up_runs import write_run

from mnist_mlp.compare.collect import Job, load_job
from mnist_mlp.model import MLP
from mnist_mlp.reporting.elements import command
from mnist_mlp.reporting.sections_run import layer_table, network
from mnist_mlp.runs.folder import RunFolder


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(("batch_norm", "dropout"), [(False, 0.0), (True, 0.25)])
def test_layers_and_parameters_are_those_of_the_network(depth: int, batch_norm: bool, dropout: float) -> None:
    settings = {
        "model.hidden_layers": depth, "model.hidden_units": [32] if depth < 3 else [30, 20, 10],
        "model.activation": "gelu", "model.dropout": dropout, "model.batch_norm": batch_norm,
        "data.normalization": "raw",
    }  # fmt: skip
    net = MLP(depth, settings["model.hidden_units"], "gelu", dropout, batch_norm)
    linear = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    table = layer_table(settings)
    assert table is not None
    layers = table.rows[1:-1]
    assert [row[1] for row in layers] == [f"linear {one.in_features} → {one.out_features}" for one in linear]
    parameters = sum(weights.numel() for weights in net.parameters())
    assert table.rows[-1][4] == f"{parameters:,}"
    assert sum(int(str(row[4]).replace(",", "")) for row in layers) == parameters
    after = "batch norm, gelu, dropout 0.25" if batch_norm else "gelu"
    assert [row[3] for row in layers[:-1]] == [after] * depth


def test_noise_on_inputs_and_before_activations_is_in_the_table() -> None:
    settings = {
        "model.hidden_layers": 1, "model.hidden_units": [32], "model.activation": "gelu", "model.dropout": 0.0,
        "model.batch_norm": True, "data.normalization": "raw", "model.noise": 0.3,
    }  # fmt: skip
    table = layer_table(settings)
    assert table is not None
    assert table.rows[0][3] == "28 x 28 pixels, raw, noise 0.3"
    assert table.rows[1][3] == "batch norm, noise 0.3, gelu"


def test_settings_that_name_no_network_have_no_table() -> None:
    assert layer_table({}) is None
    assert layer_table({"model.hidden_layers": 2, "model.hidden_units": [1, 2, 3]}) is None


def loaded(folder: Path) -> Job:
    job = load_job(folder)
    assert job is not None
    return job


def test_the_weights_of_the_first_layer_are_drawn_from_the_checkpoint(tmp_path: Path) -> None:
    job = loaded(write_run(tmp_path / "run"))
    section = network(job)
    assert section is not None
    assert section.picture is None
    checkpoint = RunFolder(job.folder).best_checkpoint
    checkpoint.parent.mkdir()
    torch.save({"state_dict": {"scale": torch.ones(()), "mlp.0.weight": torch.randn(16, 784)}}, checkpoint)
    section = network(job)
    assert section is not None
    assert section.picture is not None
    assert b"<image" in section.picture.content
    checkpoint.write_bytes(b"damaged")
    section = network(job)
    assert section is not None
    assert section.picture is None


def test_a_network_of_the_users_own_is_named_and_cannot_be_repeated_by_a_command(tmp_path: Path) -> None:
    job = loaded(write_run(tmp_path / "run"))
    own = replace(job, settings={**job.settings, "model.network": "CNN@0123456789ab"})
    section = network(own)
    assert section is not None
    assert section.table is None
    assert "CNN@0123456789ab" in section.sentences[0]
    assert command(job)
    assert command(own) == ""
