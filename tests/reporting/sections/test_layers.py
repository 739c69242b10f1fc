"""The layer table against the network that torch builds from the same settings."""

import pytest
from torch import nn

from mnist_mlp.model import MLP
from mnist_mlp.reporting.sections_digits import layer_table, layers


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(("batch_norm", "dropout"), [(False, 0.0), (True, 0.25)])
def test_layers_and_parameters_are_those_of_the_network(depth: int, batch_norm: bool, dropout: float) -> None:
    settings = {
        "model.hidden_layers": depth, "model.hidden_units": [32] if depth < 3 else [30, 20, 10],
        "model.activation": "gelu", "model.dropout": dropout, "model.batch_norm": batch_norm,
        "data.normalization": "raw",
    }  # fmt: skip
    net = MLP(depth, settings["model.hidden_units"], "gelu", dropout, batch_norm)
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    found = layers(settings)
    assert [(one.inputs, one.outputs) for one in found] == [(one.in_features, one.out_features) for one in linear]
    assert sum(one.parameters for one in found) == sum(weights.numel() for weights in net.parameters())
    table = layer_table(settings)
    assert table is not None
    assert table.rows[-1][4] == f"{sum(weights.numel() for weights in net.parameters()):,}"
    told = "batch norm, gelu, dropout 0.25" if batch_norm else "gelu"
    assert [row[3] for row in table.rows[1:-2]] == [told] * depth


def test_what_is_done_to_the_inputs_and_before_activations_is_told() -> None:
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
