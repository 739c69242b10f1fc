"""The page to draw digits on: one HTML file with the net inside, which needs neither network nor server."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.special import erf, expit

from mnist_mlp.data import segmentation as framing
from mnist_mlp.data import segmentation as ink
from mnist_mlp.errors import UserError
from mnist_mlp.serve.nets import Dense, DenseNet

TEMPLATES = Path(__file__).parent / "templates"
WEIGHT_TYPES = ("auto", "float16", "int8")
LARGEST_PAGE = 1_000_000
"""Bytes. What is larger with float16 weights gets int8 ones, unless they were asked for."""
CONSTANTS = {
    **{name: getattr(framing, name) for name in ("FIELD", "BOX", "CENTRE", "WORK", "INKED", "THINNEST", "THICKEST")},
    **{name: getattr(ink, name) for name in ("FAINT", "SPECK")},
}
"""What the page's preparation shares with ours."""
STORED = re.compile(r'<script type="application/json" id="net">(.*?)</script>', re.DOTALL)


def draw_page(net: DenseNet, facts: dict[str, str], weight_type: str = "auto") -> str:
    """The page as text. weight_type: "float16", "int8" (one scale a unit), or "auto": float16 where below 1 MB."""
    if weight_type not in WEIGHT_TYPES:
        raise UserError(f"weights={weight_type!r} is none of {', '.join(WEIGHT_TYPES)}")
    if net.activation not in ACTIVATE:
        raise UserError(f"activation {net.activation} is not on the page: export as torch")
    if weight_type != "auto":
        return _page(net, facts, weight_type)
    page = _page(net, facts, "float16")
    return page if len(page.encode()) <= LARGEST_PAGE else _page(net, facts, "int8")


def run_page(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the net that is written in a page says of images (n, 28, 28): (n, 10). Decodes it as network.js does."""
    found = STORED.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise UserError(f"{path} holds no net")
    stored = json.loads(found.group(1))
    activate = ACTIVATE[stored["activation"]]
    values = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    for place, layer in enumerate(stored["layers"]):
        values = values @ _decoded(layer).T + _floats(layer["biases"])
        if place + 1 < len(stored["layers"]):
            values = activate(values)
    parts = np.exp(values - values.max(1, keepdims=True))
    told: NDArray[np.float32] = parts / parts.sum(1, keepdims=True)
    return told


ACTIVATE: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "gelu": lambda x: (x * (1 + erf(x / np.sqrt(2))) / 2).astype(np.float32),
    "silu": lambda x: x * expit(x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "tanh": np.tanh,
    "sigmoid": expit,
}


def _page(net: DenseNet, facts: dict[str, str], weight_type: str) -> str:
    encode = _as_int8 if weight_type == "int8" else _as_float16
    stored = {"activation": net.activation, "layers": [encode(layer) for layer in net.on_unit_pixels()]}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    prepare = environment.get_template("prepare.js").render(constants=json.dumps(CONSTANTS))
    script = "\n".join([prepare, _text("network.js"), _text("draw.js")])
    shown = {name: text for name, text in facts.items() if name not in ("input", "output")}
    return environment.get_template("draw.html").render(
        net={"name": facts["name"], "facts": [*shown.items(), ("weights in this page", weight_type)]},
        lead=_lead(facts),
        css=Markup(_text("draw.css")),
        script=Markup(script),
        net_json=Markup(json.dumps(stored, separators=(",", ":")).replace("<", "\\u003c")),
    )


def _lead(facts: dict[str, str]) -> str:
    accuracy = f"; right on {facts['test accuracy']}" if "test accuracy" in facts else ""
    return f"{facts['name']}: {facts['net']}{accuracy}. It runs in this page."


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _as_float16(layer: Dense) -> dict[str, Any]:
    largest = float(np.abs(layer.weights).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise UserError(f"a weight of {largest:.3g} does not fit float16: export with --weights int8")
    return _stored(layer, layer.weights.astype("<f2"))


def _as_int8(layer: Dense) -> dict[str, Any]:
    scales = np.maximum(np.abs(layer.weights).max(1), 1e-30) / 127
    rounded = np.rint(layer.weights / scales[:, None]).astype(np.int8)
    return {**_stored(layer, rounded), "scales": _base64(scales.astype("<f4"))}


def _stored(layer: Dense, weights: NDArray[Any]) -> dict[str, Any]:
    units, inputs = layer.weights.shape
    return {
        "units": units,
        "inputs": inputs,
        "weights": _base64(weights),
        "biases": _base64(layer.biases.astype("<f4")),
    }


def _decoded(layer: dict[str, Any]) -> NDArray[np.float32]:
    content, shape = base64.b64decode(layer["weights"]), (layer["units"], layer["inputs"])
    if "scales" not in layer:
        return np.frombuffer(content, "<f2").reshape(shape).astype(np.float32)
    weights: NDArray[np.float32] = np.frombuffer(content, np.int8).reshape(shape) * _floats(layer["scales"])[:, None]
    return weights


def _floats(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
