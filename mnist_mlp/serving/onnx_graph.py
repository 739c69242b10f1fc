"""A net as an ONNX model, written operator by operator: an MLP is too plain to need a tracer and what it depends on."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.errors import UserError
from mnist_mlp.serving.card import INPUT, OUTPUT
from mnist_mlp.serving.dense import DenseNet

OPSET, IR_VERSION = 20, 9
"""ONNX 1.15 (2023), the first with Gelu."""
ACTIVATION_NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "gelu": ("Gelu", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "mish": ("Mish", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
}
"""ONNX's operators by our names; silu has none in this opset and is x * Sigmoid(x)."""


def write_onnx(net: DenseNet, facts: dict[str, str], path: Path) -> None:
    """From `images`, uint8 (n, 28, 28), to `probabilities`, float32 (n, 10), for any n; the facts become metadata."""
    onnx = _onnx()
    if net.activation not in (*ACTIVATION_NODES, "silu"):
        raise UserError(f"activation {net.activation} has no ONNX operator here: export as torch")
    helper, numbers = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        _nodes(helper, numbers.FLOAT, net),
        "mnist_mlp",
        [helper.make_tensor_value_info("images", numbers.UINT8, ["n", 28, 28], INPUT)],
        [helper.make_tensor_value_info("probabilities", numbers.FLOAT, ["n", 10], OUTPUT)],
        _weights(onnx.numpy_helper, net),
        doc_string=facts["net"],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="mnist_mlp"
    )
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def run_onnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the file says of images (n, 28, 28), by ONNX's reference implementation: (n, 10)."""
    _onnx()
    from onnx.reference import ReferenceEvaluator

    told: Any = ReferenceEvaluator(str(path)).run(None, {"images": images})
    probabilities: NDArray[np.float32] = told[0]
    return probabilities


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise UserError(
            "format=onnx needs the package onnx: pip install 'mnist_mlp[export]', or pip install onnx"
        ) from None
    return onnx


def _nodes(helper: Any, float_type: int, net: DenseNet) -> list[Any]:
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=float_type),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["inputs"]),
        helper.make_node("Flatten", ["inputs"], ["layer0"], axis=1),
    ]
    last = len(net.layers)
    for place in range(1, last + 1):
        before, after = f"layer{place - 1}", "logits" if place == last else f"sum{place}"
        inputs = [before, f"weight{place}", f"bias{place}"]
        nodes.append(helper.make_node("Gemm", inputs, [after], transB=1))
        if place == last:
            continue
        if net.activation == "silu":
            nodes.append(helper.make_node("Sigmoid", [after], [f"gate{place}"]))
            nodes.append(helper.make_node("Mul", [after, f"gate{place}"], [f"layer{place}"]))
        else:
            operator, options = ACTIVATION_NODES[net.activation]
            nodes.append(helper.make_node(operator, [after], [f"layer{place}"], **options))
    return [*nodes, helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)]


def _weights(numpy_helper: Any, net: DenseNet) -> list[Any]:
    values = {"scale": np.array(net.scale), "shift": np.array(net.shift)}
    for place, layer in enumerate(net.layers, start=1):
        values[f"weight{place}"], values[f"bias{place}"] = layer.weights, layer.biases
    return [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
