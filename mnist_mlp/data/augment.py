"""Affine and elastic distortion of a batch of digits on its device, drawn afresh for every image."""

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

SIDE = 28
CANVAS = 32
"""Side of the square in whose middle an image is sampled: a power of two, which keeps grid_sample's arithmetic exact
if nothing is moved."""
UNIT = CANVAS / 2
"""Pixels in one of grid_sample's units, of which the canvas is two wide."""


def augment(
    images: Tensor,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    translate: float = 0.0,
    elastic: float = 0.0,
    elastic_sigma: float = 5.0,
) -> Tensor:
    """images: (n, 28, 28) of any number type -> (n, 28, 28) float with the same range of values.

    rotation and shear in degrees, scale relative, translate in pixels: each drawn uniformly up to the given
    strength either way. elastic: RMS displacement per axis, in pixels, of a uniform field blurred with a Gaussian
    of elastic_sigma pixels (Simard, Steinkraus and Platt 2003). Affine and elastic distortion are one bilinear
    sampling; pixels from outside the image are 0. With all strengths zero the result is the input, bit for bit.
    """
    count, device = len(images), images.device

    def draw(strength: float, *shape: int) -> Tensor:
        return uniform(device, count, *shape).mul_(strength)

    angle, slant = draw(math.radians(rotation)), draw(math.radians(shear)).tan()
    cos, sin = angle.cos(), angle.sin()
    size_x, size_y = 1 / (1 + draw(scale)), 1 / (1 + draw(scale))
    shift = draw(translate / UNIT, 2)
    # output to input, from the middle: rotate, shear, then scale
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
    """Smooth random fields (count, 28, 28, 2) of x and y in pixels, with an RMS of `rms` over the draws."""
    blur = blur_matrix(sigma, device)
    field = blur @ uniform(device, count, 2, SIDE, SIDE) @ blur.T
    # uniform noise has variance 1/3; a pixel's share of it after the blur is the product of its two rows' energies
    energy = blur.square().sum(1)
    expected = (energy[:, None] * energy[None, :] / 3).sqrt()
    return field.div_(expected).mul_(rms).permute(0, 2, 3, 1)


def uniform(device: torch.device, *shape: int) -> Tensor:
    """Numbers drawn from -1 to 1."""
    return torch.rand(*shape, device=device, dtype=torch.float32).mul_(2).sub_(1)


def blur_matrix(sigma: float, device: torch.device) -> Tensor:
    """The Gaussian blur of one axis as a (28, 28) matrix; each row sums to 1, so that the border stays as bright."""
    pixel = torch.arange(SIDE, device=device, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((pixel[:, None] - pixel[None, :]) / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)
