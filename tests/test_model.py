import pytest
import torch
from torch import nn

from mnist_mlp.config import Activation, layer_sizes
from mnist_mlp.model import ACTIVATIONS, MLP, GaussianNoise


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("hidden_layers", "expected"),
    [
        (0, 7_850),  # 784 * 10 + 10
        (1, 203_530),  # 784 * 256 + 256 + 256 * 10 + 10
        (2, 269_322),  # + 256 * 256 + 256
        (5, 466_698),  # + 4 * (256 * 256 + 256)
    ],
)
def test_parameter_count_at_each_depth(hidden_layers: int, expected: int) -> None:
    assert count_parameters(MLP(hidden_layers, [256])) == expected


def test_batch_norm_adds_a_scale_and_a_shift_per_hidden_unit() -> None:
    assert count_parameters(MLP(2, [256], batch_norm=True)) == 269_322 + 2 * 2 * 256


def test_one_width_applies_to_every_layer() -> None:
    assert layer_sizes(3, [64]) == [784, 64, 64, 64, 10]


def test_several_widths_apply_in_order() -> None:
    assert layer_sizes(3, [300, 200, 100]) == [784, 300, 200, 100, 10]
    linear = [layer for layer in MLP(3, [300, 200, 100]).layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (784, 300),
        (300, 200),
        (200, 100),
        (100, 10),
    ]


@pytest.mark.parametrize("widths", [[], [1], [5, 6]])
def test_without_hidden_layers_the_widths_are_ignored(widths: list[int]) -> None:
    assert layer_sizes(0, widths) == [784, 10]


@pytest.mark.parametrize("widths", [[], [5, 6], [5, 6, 7, 8]])
def test_a_number_of_widths_other_than_1_or_the_depth_is_an_error(widths: list[int]) -> None:
    with pytest.raises(ValueError, match=f"Expected 1 or 3 hidden_units, but got {len(widths)}"):
        MLP(3, widths)


def test_each_hidden_layer_is_linear_norm_activation_dropout() -> None:
    model = MLP(2, [8], activation="tanh", dropout=0.5, batch_norm=True)
    expected = [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout] * 2 + [nn.Linear]
    assert [type(layer) for layer in model.layers] == expected


def test_optional_layers_are_absent_by_default() -> None:
    assert [type(layer) for layer in MLP(2, [8]).layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_every_layer_is_a_separate_object() -> None:
    layers = list(MLP(4, [8], dropout=0.5, batch_norm=True).layers)
    assert len({id(layer) for layer in layers}) == len(layers) == 17


def test_logits_equal_explicit_matrix_products() -> None:
    torch.manual_seed(0)
    model, images = MLP(2, [16], activation="relu"), torch.rand(5, 28, 28)
    (w1, b1), (w2, b2), (w3, b3) = (
        (layer.weight, layer.bias) for layer in model.layers if isinstance(layer, nn.Linear)
    )
    hidden = (images.reshape(5, 784) @ w1.T + b1).clamp(min=0)
    expected = (hidden @ w2.T + b2).clamp(min=0) @ w3.T + b3
    assert torch.allclose(model(images), expected, atol=1e-6)
    assert torch.equal(model(images), model(images.flatten(1)))
    assert model(images).min() < 0 < model(images).max()


@pytest.mark.parametrize("activation", [choice.value for choice in Activation])
def test_every_activation_applies_to_hidden_layers_only(activation: str) -> None:
    torch.manual_seed(0)
    model, images = MLP(1, [16], activation=activation), torch.randn(5, 784)
    first, _, last = model.layers
    assert torch.allclose(model(images), last(ACTIVATIONS[activation]()(first(images))))


def test_config_and_network_have_the_same_activations() -> None:
    assert {choice.value for choice in Activation} == set(ACTIVATIONS)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model, images = MLP(1, [256], dropout=0.5), torch.rand(4, 784)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_batch_norm_uses_the_batch_in_training_and_running_statistics_afterwards() -> None:
    torch.manual_seed(0)
    model, images = MLP(1, [32], batch_norm=True), torch.rand(64, 784)
    normed = model.layers[1](model.layers[0](images))
    assert torch.allclose(normed.mean(0), torch.zeros(32), atol=1e-5)
    assert torch.allclose(normed.std(0, correction=0), torch.ones(32), atol=1e-2)
    model.eval()
    assert torch.allclose(model(images[:1]), model(images)[:1], atol=1e-6)


def test_noise_comes_first_and_before_each_activation() -> None:
    model = MLP(1, [8], activation="tanh", dropout=0.5, batch_norm=True, noise=0.3)
    expected = [GaussianNoise, nn.Linear, nn.BatchNorm1d, GaussianNoise, nn.Tanh, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in model.layers] == expected


def test_noise_has_its_standard_deviation_in_training_and_is_absent_in_evaluation() -> None:
    noise, values = GaussianNoise(0.3), torch.full((400, 500), 2.0)
    torch.manual_seed(0)
    added = noise(values) - values
    assert added.std().item() == pytest.approx(0.3, rel=0.01)
    assert added.mean().abs().item() < 0.003
    assert torch.equal(noise.eval()(values), values)
