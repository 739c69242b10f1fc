"""A trained net written for other programs, and checked against its checkpoint on real images before it is kept."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_mlp.data.mnist import files_are_there, load_digits
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON
from mnist_mlp.serving.card import model_card
from mnist_mlp.serving.checkpoint import load_classifier
from mnist_mlp.serving.dense import dense_net
from mnist_mlp.serving.draw_page import draw_page, run_page
from mnist_mlp.serving.evaluation import digits_of
from mnist_mlp.serving.locate import TrainedNet, locate
from mnist_mlp.serving.onnx_graph import run_onnx, write_onnx
from mnist_mlp.serving.torch_program import run_program, write_program

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
    there = None if sampled else next((root for root in roots if root and files_are_there(root)), None)
    digits = digits_of(net, there) if there else load_digits("sample", "")
    return digits.source, digits.test_images[:CHECKED].numpy()
