"""A trained net written for other programs, and checked against its checkpoint on real images before it is kept."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_mlp.data.mnist import has_official_files, load_digits
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.serve.draw_page import draw_page, run_page
from mnist_mlp.serve.evaluate import digits_of
from mnist_mlp.serve.nets import INPUT, OUTPUT, DenseNet, TrainedNet, dense_net, load_classifier, locate, model_card
from mnist_mlp.training.classifier import DigitClassifier

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


METADATA = "metadata.json"
"""What `torch.export.load(path, extra_files={"metadata.json": ""})` fills in."""


class Probabilities(nn.Module):
    """images: (n, 28, 28) uint8 -> probabilities: (n, 10) float32."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: DigitClassifier) -> None:
        super().__init__()
        self.mlp = model.mlp
        self.register_buffer("scale", model.scale)
        self.register_buffer("shift", model.shift)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.mlp(torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale))
        return logits.float().softmax(1)


def write_program(model: DigitClassifier, facts: dict[str, str], path: Path) -> None:
    """For any n from 1 on; the facts are the program's extra file `metadata.json`."""
    example = torch.zeros(2, 28, 28, dtype=torch.uint8)
    with _quiet():
        program = torch.export.export(
            Probabilities(model).eval(), (example,), dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}}
        )
        torch.export.save(program, path, extra_files={METADATA: json.dumps(facts, indent=2)})


def run_program(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the file says of images (n, 28, 28): (n, 10)."""
    with _quiet(), torch.no_grad():
        told: Tensor = torch.export.load(path).module()(torch.from_numpy(images))
    return told.numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on its own internals, which no user can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


FILES = {"onnx": "model.onnx", "torch": "model.pt2", "html": "draw.html"}
"""Formats, and the file that each is written to by default, in the run folder."""
CHECKED = 1_000
"""Real images on which a file has to agree with the checkpoint."""
TOLERANCES = {"onnx": 1e-4, "torch": 1e-4, "html": 0.1}
"""Largest difference of any probability that is let pass; the page's weights are rounded to 16 or 8 bits."""
SAME_DIGITS = 0.99
"""The page's digits have to be the checkpoint's on this part of the images."""

Run = Callable[[Path, NDArray[np.uint8]], NDArray[np.float32]]
RUNNERS: dict[str, Run] = {"onnx": run_onnx, "torch": run_program, "html": run_page}


@dataclass(frozen=True)
class Export:
    """A file that was written and checked. largest_difference: of any probability, on `images` real images."""

    path: Path
    format: str
    bytes: int
    images: int
    source: str
    largest_difference: float
    other_digits: int
    """Of those images, how many are another digit for the file than for the checkpoint."""

    def to_json(self) -> JSON:
        return {**self.__dict__, "path": str(self.path)}


def export_run(
    run: str | Path, format: str, path: Path | None = None, weights: str = "auto", data_root: str | None = None
) -> Export:
    """Write a run (folder, checkpoint, name under outputs/ or "latest") as "onnx", "torch" or "html".

    path: default is model.onnx, model.pt2 or draw.html in the run folder; weights: of a page, see `draw_page`.
    UserError where it cannot be written, or where the file does not say what the checkpoint says; then an earlier file
    stays as it was.
    """
    if format not in FILES:
        raise UserError(f"format={format!r} is none of {', '.join(FILES)}")
    net = locate(run)
    model = load_classifier(net.checkpoint)
    dense = dense_net(model)
    facts = model_card(net, model, dense)
    source, images = real_images(net, data_root)
    target = path or net.home / FILES[format]
    expected = model.probabilities(torch.from_numpy(images)).numpy()
    if not np.isfinite(expected).all():
        raise UserError(f"{net.checkpoint} diverged: its probabilities are not finite, so there is nothing to export")
    scratch = target.with_name(f".{target.name}.{os.getpid()}{target.suffix}")
    try:
        if format == "onnx":
            write_onnx(dense, facts, scratch)
        elif format == "torch":
            write_program(model, facts, scratch)
        else:
            scratch.write_text(draw_page(dense, facts, weights), encoding="utf-8")
        difference, others = checked(format, scratch, images, expected)
        os.replace(scratch, target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        scratch.unlink(missing_ok=True)
    return Export(target, format, target.stat().st_size, len(images), source, difference, others)


def checked(format: str, path: Path, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> tuple[float, int]:
    """Largest difference from the expected probabilities, and number of other digits; UserError if too large."""
    told = RUNNERS[format](path, images)
    difference = float(np.abs(told - expected).max())
    others = int((told.argmax(1) != expected.argmax(1)).sum())
    if not difference <= TOLERANCES[format] or others > (1 - SAME_DIGITS) * len(images):
        raise UserError(
            f"the {format} file was refused: on {len(images):,} images its probabilities differ from the checkpoint's "
            f"by up to {difference:.2g} (at most {TOLERANCES[format]:g} is let pass) and {others} digits are others"
            + ("; try --weights float16" if format == "html" else "")
        )
    return difference, others


def real_images(net: TrainedNet, data_root: str | None = None) -> tuple[str, NDArray[np.uint8]]:
    """The first test images of the run's digits where they are here, else of the embedded sample; never a download."""
    config = net.config()
    roots = [data_root, config["data"]["root"] if config else None, os.environ.get("MNIST_MLP_DATA"), "./data"]
    sampled = data_root is None and config is not None and config["data"]["source"] == "sample"
    there = None if sampled else next((root for root in roots if root and has_official_files(root)), None)
    digits = digits_of(net, there) if there else load_digits("sample", "")
    return digits.source, digits.test_images[:CHECKED].numpy()
