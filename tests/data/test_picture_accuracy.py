"""Accuracy on MNIST's test digits as pictures, style by style, beside that from the IDX file; slow: minutes.

MNIST_MLP_DATA=... pytest -m slow -n 0 -s tests/data/test_picture_accuracy.py    prints the table
"""

import os

import numpy as np
import pytest
import torch
from pictures import STYLES

from mnist_mlp.config import Config, ModelConfig
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.data.picture import prepare
from mnist_mlp.training.classifier import DigitClassifier

pytestmark = [pytest.mark.slow, pytest.mark.mnist]
IMAGES = int(os.environ.get("MNIST_MLP_PICTURES", "2500"))
"""Per style; 10,000 are all."""
LARGEST_LOSS = 0.01


@pytest.fixture(scope="module")
def model() -> DigitClassifier:
    """Four epochs of plain training: a net that has seen nothing but the digits of the file."""
    root = os.environ.get("MNIST_MLP_DATA")
    if not root:
        pytest.skip("needs the full MNIST: set MNIST_MLP_DATA")
    digits = load_digits("mnist", root)
    torch.manual_seed(0)
    config = Config(model=ModelConfig(hidden_layers=2, hidden_units=[256]))
    made = DigitClassifier.from_config(config)
    optimizer = torch.optim.Adam(made.mlp.parameters(), lr=0.001)
    for _ in range(4):
        for batch in torch.randperm(len(digits.train_labels)).split(128):
            loss = torch.nn.functional.cross_entropy(made(digits.train_images[batch]), digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return made.eval()


@pytest.mark.parametrize("style", STYLES)
def test_a_style_costs_at_most_a_point(style: str, model: DigitClassifier) -> None:
    digits = load_digits("mnist", os.environ["MNIST_MLP_DATA"])
    chosen = torch.from_numpy(np.random.default_rng(3).permutation(len(digits.test_labels))[:IMAGES])
    images, labels = digits.test_images[chosen], digits.test_labels[chosen]
    random = np.random.default_rng(0)
    prepared = torch.from_numpy(np.stack([prepare(STYLES[style](image, random)) for image in images.numpy()]))

    def accuracy(seen: torch.Tensor) -> float:
        return float((model.probabilities(seen).argmax(1) == labels).double().mean())

    from_file, from_pictures = accuracy(images), accuracy(prepared)
    print(f"\n{style:15} {100 * from_pictures:6.2f} %  from the file {100 * from_file:6.2f} %  n = {len(labels)}")
    assert from_pictures >= from_file - LARGEST_LOSS
