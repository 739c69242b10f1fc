"""Virtual adversarial training: regularize predictions to be stable under small perturbations of the input.

Miyato, Maeda, Koyama and Ishii 2018, "Virtual Adversarial Training" (arXiv 1704.03976). The loss uses neither labels
nor the positions of pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div
from torch.nn.modules.batchnorm import _BatchNorm

XI = 0.1
"""The paper's xi, L2 norm of the initial perturbation of pixels in [0, 1]: large enough for bfloat16's precision."""
PIXEL_MAX = 255.0


def virtual_adversarial_loss(
    model: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor, radius: float
) -> Tensor:
    """Return the mean KL divergence () from the predictions on images to those on perturbed images.

    Each image is perturbed in the direction that changes its prediction most, estimated by one power iteration
    (section 3.3 of the paper). The predictions on the images, given by `logits` (n, classes), are constants.

    images: (n, 28, 28) float on the scale 0 to 255; radius: L2 norm of the perturbations of pixels in [0, 1].
    """
    clean = logits.detach().float().log_softmax(1)

    def divergence(perturbations: Tensor) -> Tensor:
        perturbed = model(images + PIXEL_MAX * perturbations).float().log_softmax(1)
        return kl_div(perturbed, clean, reduction="batchmean", log_target=True)

    with _freeze_running_statistics(model):
        probe = (XI * _normalize(torch.randn_like(images))).requires_grad_()
        (gradient,) = torch.autograd.grad(divergence(probe), [probe])
        return divergence(radius * _normalize(gradient))


def _normalize(perturbations: Tensor) -> Tensor:
    """Scale perturbations (n, 28, 28) to L2 norm 1; zeros stay zeros."""
    norms: Tensor = perturbations.flatten(1).norm(dim=1).clamp_min(torch.finfo(perturbations.dtype).tiny)
    return perturbations / norms[:, None, None]


@contextmanager
def _freeze_running_statistics(model: object) -> Iterator[None]:
    """Normalize by the batch without updating running statistics, which are of clean images only."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    layers = [module for module in modules if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
