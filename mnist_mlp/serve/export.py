"""Export a trained network to ONNX, torch.export or HTML, and check the file against the checkpoint."""

import base64
import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_mlp.data import picture
from mnist_mlp.data.mnist import has_official_files, load_digits
from mnist_mlp.datasets import DIGITS, class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.model import ACTIVATIONS
from mnist_mlp.runs.files import JSON, replace_file
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import source_name
from mnist_mlp.serve.nets import Dense, DenseNet, NetOrPath, TrainedNet, dense_net, load_classifier, locate, model_card
from mnist_mlp.training.classifier import DigitClassifier
from mnist_mlp.training.trainer import default_torch_state

OPSET, IR_VERSION = 20, 9
"""Those of ONNX 1.15 (2023), the first release with Gelu."""


def write_onnx(net: DenseNet, metadata: dict[str, str], path: Path) -> None:
    """Write an ONNX model from `images`, uint8 (n, 28, 28), to `probabilities`, float32 (n, classes), for any n."""
    try:
        import onnx
    except ImportError:
        raise UserError("format=onnx needs the package onnx: run pip install 'mnist_mlp[export]'") from None
    helper, numbers = onnx.helper, onnx.TensorProto
    node = helper.make_node
    weights = {"scale": np.array(net.scale), "shift": np.array(net.shift)}
    nodes = [
        node("Cast", ["images"], ["pixels"], to=numbers.FLOAT),
        node("Mul", ["pixels", "scale"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["inputs"]),
        node("Flatten", ["inputs"], ["layer0"], axis=1),
    ]
    for number, layer in enumerate(net.layers, start=1):
        weights[f"weight{number}"], weights[f"bias{number}"] = layer.weights, layer.biases
        layer_input, layer_output = f"layer{number - 1}", f"layer{number}"
        preactivation = "logits" if number == len(net.layers) else f"sum{number}"
        nodes.append(node("Gemm", [layer_input, f"weight{number}", f"bias{number}"], [preactivation], transB=1))
        if preactivation == "logits":
            nodes.append(node("Softmax", [preactivation], ["probabilities"], axis=1))
        elif net.activation == "silu":  # not an operator of this opset: x * Sigmoid(x)
            nodes.append(node("Sigmoid", [preactivation], [f"gate{number}"]))
            nodes.append(node("Mul", [preactivation, f"gate{number}"], [layer_output]))
        else:  # ONNX's operators have the same names in camel case, and the same defaults as torch
            nodes.append(node(net.activation.title().replace("_", ""), [preactivation], [layer_output]))
    graph = helper.make_graph(
        nodes,
        "mnist_mlp",
        [helper.make_tensor_value_info("images", numbers.UINT8, ["n", 28, 28], metadata["input"])],
        [helper.make_tensor_value_info("probabilities", numbers.FLOAT, ["n", net.sizes[-1]], metadata["output"])],
        [onnx.numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
        doc_string=metadata["net"],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="mnist_mlp"
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def run_onnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run an ONNX file on images (n, 28, 28) by ONNX's reference implementation; returns probabilities (n, classes)."""
    from onnx.reference import ReferenceEvaluator

    outputs: Any = ReferenceEvaluator(str(path)).run(None, {"images": images})
    return np.asarray(outputs[0])


METADATA = "metadata.json"
"""Name of the extra file that `torch.export.load(path, extra_files={"metadata.json": ""})` reads."""


def write_program(model: DigitClassifier, metadata: dict[str, str], path: Path) -> None:
    """Write a torch.export program from uint8 images (n, 28, 28) to probabilities (n, classes), for any n >= 1."""
    example, shapes = torch.zeros(2, 28, 28, dtype=torch.uint8), ({0: torch.export.Dim("n", min=1)},)
    with warnings.catch_warnings(action="ignore"):  # torch warns about its own internals
        program = torch.export.export(nn.Sequential(model, nn.Softmax(1)), (example,), dynamic_shapes=shapes)
        torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata, indent=2)})


def run_program(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run a torch.export program on images (n, 28, 28); returns probabilities (n, classes)."""
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        probabilities: Tensor = torch.export.load(path).module()(torch.from_numpy(images))
    return probabilities.numpy()


WEIGHT_TYPES = ("auto", "float16", "int8")
MAX_PAGE_BYTES = 1_000_000
"""By default, a page that would be larger with float16 weights stores int8 weights."""
SHARED_CONSTANTS = ("FIELD", "BOX", "CENTRE", "WORK", "INKED", "THINNEST", "THICKEST", "FAINT", "SPECK")
"""Constants of `mnist_mlp.prepare` that the page's own preprocessing uses."""
STORED_NET = re.compile(r'<script type="application/json" id="net">(.*?)</script>', re.DOTALL)


def draw_page(net: DenseNet, metadata: dict[str, str], weight_type: str = "auto") -> str:
    """Render the page to draw on: one HTML file that contains the network and works offline.

    Its weights are "float16", "int8" (one scale per unit), or "auto": int8 if the page would exceed MAX_PAGE_BYTES.
    """
    if weight_type not in WEIGHT_TYPES:
        raise UserError(f"weights={weight_type!r} is unknown: use {', '.join(WEIGHT_TYPES)}")
    if weight_type == "auto":
        page = draw_page(net, metadata, "float16")
        return page if len(page.encode()) <= MAX_PAGE_BYTES else draw_page(net, metadata, "int8")
    classes = json.loads(metadata["classes"]) if "classes" in metadata else DIGITS
    layers = [_encoded(layer, weight_type) for layer in net.on_unit_pixels()]
    stored = {"activation": net.activation, "classes": classes, "layers": layers}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnist_mlp.serve"), autoescape=jinja2.select_autoescape(),
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template("draw.html").render(
        metadata=metadata,
        classes=classes,
        noun=class_noun(classes),
        weight_type=weight_type,
        constants=json.dumps({name: getattr(picture, name) for name in SHARED_CONSTANTS}),
        net_json=Markup(json.dumps(stored, separators=(",", ":")).replace("<", "\\u003c")),
    )


def run_page(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run the network stored in a page on images (n, 28, 28), like network.js; returns probabilities (n, classes)."""
    match = STORED_NET.search(path.read_text(encoding="utf-8"))
    if match is None:
        raise UserError(f"{path} contains no network: use a page written by mnist_mlp.export")
    stored = json.loads(match.group(1))
    values = torch.from_numpy(images).flatten(1).float() / 255
    for number, layer in enumerate(stored["layers"]):
        values = ACTIVATIONS[stored["activation"]]()(values) if number else values
        values = values @ _decoded(layer).T + torch.from_numpy(_array(layer["biases"], "<f4"))
    return values.softmax(1).numpy()


def _encoded(layer: Dense, weight_type: str) -> dict[str, Any]:
    units, inputs = layer.weights.shape
    stored = {"units": units, "inputs": inputs, "biases": _base64(layer.biases.astype("<f4"))}
    if weight_type == "int8":
        scales = np.maximum(np.abs(layer.weights).max(1), 1e-30) / 127
        rounded = np.rint(layer.weights / scales[:, None]).astype(np.int8)
        return {**stored, "weights": _base64(rounded), "scales": _base64(scales.astype("<f4"))}
    largest = float(np.abs(layer.weights).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise UserError(f"a weight of {largest:.3g} exceeds the range of float16: use --weights int8")
    return {**stored, "weights": _base64(layer.weights.astype("<f2"))}


def _decoded(layer: dict[str, Any]) -> Tensor:
    weights = _array(layer["weights"], "i1" if "scales" in layer else "<f2").reshape(layer["units"], layer["inputs"])
    scales = _array(layer["scales"], "<f4")[:, None] if "scales" in layer else np.float32(1)
    return torch.from_numpy(weights.astype(np.float32) * scales)


def _array(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype).copy()


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


FORMATS: dict[str, tuple[str, float, Callable[[Path, NDArray[np.uint8]], NDArray[np.float32]]]] = {
    "onnx": ("model.onnx", 1e-4, run_onnx),
    "torch": ("model.pt2", 1e-4, run_program),
    "html": (RunFolder(Path()).draw_file.name, 0.1, run_page),
}
"""Default file name, tolerance of probabilities (larger for the rounded weights of a page), function to run a file."""
CHECKED_IMAGES = 1_000
"""Number of images on which a file is compared with the checkpoint."""
MIN_AGREEMENT = 0.99
"""Minimum fraction of images for which file and checkpoint predict the same class."""


@dataclass(frozen=True)
class Export:
    """An exported file, and its largest difference of a probability from the checkpoint's on `images` images."""

    path: Path
    format: str
    bytes: int
    images: int
    source: str
    largest_difference: float
    other_digits: int
    """Number of images for which file and checkpoint predict different classes."""

    def to_json(self) -> JSON:
        """Return the fields by name."""
        return {**self.__dict__, "path": str(self.path)}


@default_torch_state()
def export_run(
    run: NetOrPath, format: str, path: Path | None = None, weights: str = "auto", data_root: str | None = None
) -> Export:
    """Export a run as in `Run.export`; a file that disagrees with the checkpoint does not replace an earlier one.

    `locate` finds the run. Images for the check come from data_root, else from the folders that `real_images` tries.
    """
    if format not in FORMATS:
        raise UserError(f"format={format!r} is unknown: use {', '.join(FORMATS)}")
    net = locate(run)
    model = load_classifier(net.checkpoint)
    dense = dense_net(model)
    metadata = model_card(net, model, dense)
    source, images = real_images(net, data_root)
    name, tolerance, compute = FORMATS[format]
    target = path or net.home / name
    expected = model.probabilities(torch.from_numpy(images)).numpy()
    if not np.isfinite(expected).all():
        raise UserError(f"{net.checkpoint} is from a diverged run, with probabilities that are not finite: use another")
    scratch = target.with_name(f".{target.name}.{os.getpid()}{target.suffix}")
    try:
        if format == "onnx":
            write_onnx(dense, metadata, scratch)
        elif format == "torch":
            write_program(model, metadata, scratch)
        else:
            scratch.write_text(draw_page(dense, metadata, weights), encoding="utf-8")
        probabilities = compute(scratch, images)
        difference = float(np.abs(probabilities - expected).max())
        other_digits = int((probabilities.argmax(1) != expected.argmax(1)).sum())
        if not difference <= tolerance or other_digits > (1 - MIN_AGREEMENT) * len(images):
            raise UserError(
                f"the {format} file was discarded: on {len(images):,} images its probabilities differ from the "
                f"checkpoint's by up to {difference:.2g} (tolerance {tolerance:g}) and {other_digits} classes differ"
                + ("; try --weights float16" if format == "html" else "")
            )
        replace_file(scratch, target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        scratch.unlink(missing_ok=True)
    return Export(target, format, target.stat().st_size, len(images), source, difference, other_digits)


def real_images(net: TrainedNet, data_root: str | None = None) -> tuple[str, NDArray[np.uint8]]:
    """Load the run's first test images if its files are available, else those of the embedded sample; no download."""
    config = net.config()
    source, name = config["data"]["source"] if config else "mnist", net.dataset
    roots = [data_root, config["data"]["root"] if config else None, os.environ.get("MNIST_MLP_DATA"), "./data"]
    root = next((root for root in roots if root and has_official_files(root, name)), None)
    is_sample = root is None or source == "arrays" or (source == "sample" and data_root is None)
    digits = load_digits("sample" if is_sample else "files", root, name)
    return source_name(digits.source, digits.digest, name), digits.test_images[:CHECKED_IMAGES].numpy()
