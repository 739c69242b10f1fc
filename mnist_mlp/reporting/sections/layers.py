"""The layers of a run's network, from its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mnist_mlp.models.sizes import layer_sizes
from mnist_mlp.reporting.elements import Table


@dataclass(frozen=True)
class Layer:
    """A linear layer and what follows it. inputs, outputs: features of an image; then: batch norm, activation, dropout.

    parameters: weights and biases, and the scale and shift of batch norm.
    """

    name: str
    inputs: int
    outputs: int
    then: Sequence[str]
    parameters: int


def layers(settings: Mapping[str, Any]) -> list[Layer]:
    """The layers in their order. settings: of a run, with dotted keys; ValueError where they fit no network."""
    sizes = layer_sizes(settings["model.hidden_layers"], settings["model.hidden_units"])
    norm, dropout = settings["model.batch_norm"], settings["model.dropout"]
    noise = settings.get("model.noise")
    after = [
        *(["batch norm"] if norm else []),
        *([f"noise {noise:g}"] if noise else []),
        settings["model.activation"],
    ]
    after += [f"dropout {dropout:g}"] if dropout else []
    found = [
        Layer(f"hidden {number}", inputs, outputs, after, inputs * outputs + outputs + (2 * outputs if norm else 0))
        for number, (inputs, outputs) in enumerate(pairwise(sizes[:-1]), 1)
    ]
    inputs, outputs = sizes[-2:]
    return [*found, Layer("output", inputs, outputs, [], inputs * outputs + outputs)]


def layer_table(settings: Mapping[str, Any]) -> Table | None:
    """A row for each layer with its share of the parameters, and their sum; None where the settings name no network."""
    try:
        found = layers(settings)
    except (KeyError, TypeError, ValueError):  # written by hand, or by another version
        return None
    total = sum(layer.parameters for layer in found)
    scaled = f"28 x 28 pixels, {settings.get('data.normalization', '-')}"
    noise = settings.get("model.noise")
    scaled += f", noise {noise:g}" if noise else ""
    rows = [["input", "", str(found[0].inputs), scaled, "0", ""]]
    for layer in found:
        share = f"{100 * layer.parameters / total:.1f} %"
        then = ", ".join(layer.then) or "logits of the ten digits"
        rows.append(
            [layer.name, f"linear {layer.inputs} → {layer.outputs}", str(layer.outputs), then, f"{layer.parameters:,}",
             share]
        )  # fmt: skip
    rows.append(["all", "", "", "", f"{total:,}", ""])
    return Table(
        ["layer", "kind", "outputs", "then", "parameters", "share"], rows, numeric=frozenset({2, 4, 5})
    )  # fmt: skip
