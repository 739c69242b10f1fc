"""Images as users have them, made into what a classifier takes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_mlp.errors import UserError

FORMS = "give uint8 in 0..255 or floats in [0, 1], one image (28, 28) or many (n, 28, 28), with or without a channel"


def as_pixels(images: Any) -> Tensor:
    """Pixels of one image or many as (n, 28, 28), uint8 or float32, both on the scale 0 to 255, light ink on dark.

    images: torch or numpy, uint8 in 0..255 or floats in [0, 1] (what torchvision's ToTensor gives); (28, 28),
    (n, 28, 28), (n, 1, 28, 28) or (n, 28, 28, 1). UserError where that could be something else: integers of other
    types, floats outside [0, 1], uint8 that are only 0 and 1, several channels.
    """
    if isinstance(images, (list, tuple)):
        raise UserError(f"images is a {type(images).__name__}: give one array, by torch.stack or numpy.stack")
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor):
        raise UserError(f"images is a {type(images).__name__}: give a torch tensor or a numpy array")
    return _scaled(_without_channel(images))


def _without_channel(images: Tensor) -> Tensor:
    shape = tuple(images.shape)
    if shape == (28, 28):
        return images[None]
    if len(shape) == 4 and shape[1:] == (1, 28, 28):
        return images[:, 0]
    if len(shape) in (3, 4) and shape[-3:] == (28, 28, 1):
        return images[..., 0].reshape(-1, 28, 28)
    if len(shape) == 3 and shape[1:] == (28, 28):
        return images
    raise UserError(f"images have the shape {shape}: {FORMS}")


def _scaled(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        if images.numel() and int(images.max()) == 1:
            raise UserError("images are uint8 of 0 and 1 alone, which may be a mask: multiply by 255 if 1 is full ink")
        return images
    if not images.is_floating_point():
        raise UserError(f"images are {str(images.dtype).removeprefix('torch.')}: {FORMS}")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):  # NaN is outside, too
        low, high = images.min().item(), images.max().item()
        raise UserError(
            f"images are floats from {low:.4g} to {high:.4g}: {FORMS}; not normalised, the classifier does that itself"
        )
    return images.float() * 255
