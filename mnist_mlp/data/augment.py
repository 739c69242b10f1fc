"""Random affine and elastic distortion of batches of images on their device."""

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

SIDE = 28
CANVAS = 32
"""Side to which images are padded: with a power of two, grid_sample's arithmetic is exact for the identity."""
UNIT = CANVAS / 2
"""Pixels per unit of grid_sample, whose coordinates run from -1 to 1."""


def augment(
    images: Tensor,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    translate: float = 0.0,
    elastic: float = 0.0,
    elastic_sigma: float = 5.0,
) -> Tensor:
    """Distort every image independently, with one bilinear interpolation and zeros outside the image.

    Affine parameters are uniform in [-strength, strength]. If all strengths are 0, the output equals the input exactly.

    Args:
        images: (n, 28, 28) of any numeric dtype.
        rotation: Maximum angle in degrees.
        scale: Maximum relative change of width and of height, drawn independently.
        shear: Maximum angle in degrees.
        translate: Maximum shift in pixels per axis.
        elastic: RMS displacement per axis in pixels, from blurred uniform noise (Simard, Steinkraus and Platt 2003).
        elastic_sigma: Standard deviation of that Gaussian blur in pixels.

    Returns:
        (n, 28, 28) float32 in the value range of the input.
    """
    count, device = len(images), images.device

    def draw(strength: float, *shape: int) -> Tensor:
        return uniform(device, count, *shape).mul_(strength)

    angle, slant = draw(math.radians(rotation)), draw(math.radians(shear)).tan()
    cos, sin = angle.cos(), angle.sin()
    size_x, size_y = 1 / (1 + draw(scale)), 1 / (1 + draw(scale))
    shift = draw(translate / UNIT, 2)
    # maps output to input coordinates, relative to the center: rotate, shear, scale
    row_x = torch.stack((cos * size_x, (cos * slant - sin) * size_x, shift[:, 0]), 1)
    row_y = torch.stack((sin * size_y, (sin * slant + cos) * size_y, shift[:, 1]), 1)
    with torch.autocast(device.type, enabled=False):
        axis = (torch.arange(SIDE, device=device, dtype=torch.float32) - (SIDE - 1) / 2) / UNIT
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        grid = torch.stack((x, y, torch.ones_like(x)), 2).view(-1, 3) @ torch.stack((row_x, row_y), 2)
        grid = grid.view(count, SIDE, SIDE, 2)
        if elastic:
            grid = grid.add(displacement(count, elastic, elastic_sigma, device), alpha=1 / UNIT)
        canvas = pad(images.float(), [(CANVAS - SIDE) // 2] * 4)
        warped = grid_sample(canvas[:, None], grid, padding_mode="zeros", align_corners=False)
    return warped[:, 0]


def displacement(count: int, rms: float, sigma: float, device: torch.device) -> Tensor:
    """Draw smooth random fields (count, 28, 28, 2) of x and y displacements with the expected RMS, in pixels."""
    blur = blur_matrix(sigma, device)
    field = blur @ uniform(device, count, 2, SIDE, SIDE) @ blur.T
    # uniform noise has variance 1/3, which the blur scales at each pixel by the product of its rows' energies
    energy = blur.square().sum(1)
    expected = (energy[:, None] * energy[None, :] / 3).sqrt()
    return field.div_(expected).mul_(rms).permute(0, 2, 3, 1)


def uniform(device: torch.device, *shape: int) -> Tensor:
    """Draw uniformly from [-1, 1)."""
    return torch.rand(*shape, device=device, dtype=torch.float32).mul_(2).sub_(1)


def blur_matrix(sigma: float, device: torch.device) -> Tensor:
    """Return the Gaussian blur of one axis as a (28, 28) matrix whose rows sum to 1, also at the borders."""
    pixel = torch.arange(SIDE, device=device, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((pixel[:, None] - pixel[None, :]) / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)
