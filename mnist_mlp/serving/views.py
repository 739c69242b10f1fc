"""Test-time augmentation: what a net says of an image and of distorted views of it, together."""

import torch
from torch import Tensor

from mnist_mlp.data.augment import augment
from mnist_mlp.errors import UserError
from mnist_mlp.training.classifier import DigitClassifier

STRENGTH = 0.5
"""Views are distorted by so much of the strengths that the net was trained with."""
MOST_VIEWS = 1_000


def log_probabilities_of_views(model: DigitClassifier, images: Tensor, views: int, seed: int = 0) -> Tensor:
    """The mean (n, 10) of the log-probabilities of the images (n, 28, 28) uint8 and of `views` views of each.

    Each view is drawn by the net's own augmentation at STRENGTH of its strengths; the same seed draws the same views
    (multi-column averaging over distorted inputs: Ciresan, Meier and Schmidhuber 2012). UserError where the net was
    trained without distortions: their kind and strength would be an invention, and be chosen on test.
    """
    if not 1 <= views <= MOST_VIEWS:
        raise UserError(f"views={views} is out of range: allowed is 1 to {MOST_VIEWS:,}")
    trained = model.augmentation.strengths()
    if not trained:
        raise UserError(
            "views are distorted as a net's training images were, and this one was trained without augment.*: "
            "evaluate it without --augment"
        )
    weaker = {name: value * (1.0 if name == "elastic_sigma" else STRENGTH) for name, value in trained.items()}
    total = model.logits(images).log_softmax(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(views):
            total += model.logits(augment(images, **weaker)).log_softmax(1)
    return total / (views + 1)
