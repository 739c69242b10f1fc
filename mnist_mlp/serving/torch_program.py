"""A net as a torch.export program: runs with torch alone, without this package."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_mlp.training.classifier import DigitClassifier

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
