"""Accuracy on MNIST's test images rendered as pictures, compared with the original images; takes minutes.

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
"""Number of test images per style, of 10,000."""
MAX_LOSS = 0.01


@pytest.fixture(scope="module")
def model() -> DigitClassifier:
    """A classifier trained for four epochs on unmodified images."""
    root = os.environ.get("MNIST_MLP_DATA")
    if not root:
        pytest.skip("needs the full MNIST: set MNIST_MLP_DATA")
    digits = load_digits("mnist", root)
    torch.manual_seed(0)
    config = Config(model=ModelConfig(hidden_layers=2, hidden_units=[256]))
    classifier = DigitClassifier.from_config(config)
    optimizer = torch.optim.Adam(classifier.mlp.parameters(), lr=0.001)
    for _ in range(4):
        for batch in torch.randperm(len(digits.train_labels)).split(128):
            loss = torch.nn.functional.cross_entropy(classifier(digits.train_images[batch]), digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return classifier.eval()


@pytest.mark.parametrize("style", STYLES)
def test_accuracy_on_pictures_is_at_most_one_point_lower(style: str, model: DigitClassifier) -> None:
    digits = load_digits("mnist", os.environ["MNIST_MLP_DATA"])
    subset = torch.from_numpy(np.random.default_rng(3).permutation(len(digits.test_labels))[:IMAGES])
    images, labels = digits.test_images[subset], digits.test_labels[subset]
    random = np.random.default_rng(0)
    prepared = torch.from_numpy(np.stack([prepare(STYLES[style](image, random)) for image in images.numpy()]))

    def accuracy(inputs: torch.Tensor) -> float:
        return float((model.probabilities(inputs).argmax(1) == labels).double().mean())

    original, from_pictures = accuracy(images), accuracy(prepared)
    print(f"\n{style:15} {100 * from_pictures:6.2f} %  original images {100 * original:6.2f} %  n = {len(labels)}")
    assert from_pictures >= original - MAX_LOSS
