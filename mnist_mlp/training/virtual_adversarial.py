"""Virtual adversarial training: predictions that stay as they are when an image is moved a little, whichever way.

Miyato, Maeda, Koyama and Ishii 2018, "Virtual Adversarial Training" (arXiv 1704.03976). It needs no labels, and knows
nothing of where a pixel lies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div
from torch.nn.modules.batchnorm import _BatchNorm

FIRST_PROBE = 0.1
"""L2 norm, of pixels in [0, 1], of the random perturbation from which the worst direction is found (xi in the paper,
where it only has to be small; one much smaller would be lost in the eight bits of bfloat16)."""
FULL_RANGE = 255.0


def virtual_adversarial_loss(
    model: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor, radius: float
) -> Tensor:
    """How far the predictions move when each image does, by `radius` in the direction that changes them most: ().

    The mean Kullback-Leibler divergence from the predictions on the images, taken as given, to those on the moved
    ones. The direction is found by one power iteration from a random one (section 3.3 of the paper).

    images: (n, 28, 28) float on the scale 0 to 255, and logits: (n, 10), the model's of them; radius: L2 norm, of
    pixels in [0, 1].
    """
    given = logits.detach().float().log_softmax(1)

    def divergence(moves: Tensor) -> Tensor:
        moved = model(images + FULL_RANGE * moves).float().log_softmax(1)
        return kl_div(moved, given, reduction="batchmean", log_target=True)

    with _statistics_kept(model):
        probe = (FIRST_PROBE * _unit(torch.randn_like(images))).requires_grad_()
        (steepest,) = torch.autograd.grad(divergence(probe), [probe])
        return divergence(radius * _unit(steepest))


def _unit(moves: Tensor) -> Tensor:
    """Each image's move (n, 28, 28) with an L2 norm of 1; where it is none at all, none."""
    norms: Tensor = moves.flatten(1).norm(dim=1).clamp_min(torch.finfo(moves.dtype).tiny)
    return moves / norms[:, None, None]


@contextmanager
def _statistics_kept(model: object) -> Iterator[None]:
    """Batch norm goes on normalising by the batch, but what it keeps for evaluation is of the images alone."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    layers = [part for part in parts if isinstance(part, _BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
