import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import affine, elastic

from mnist_mlp.data.augment import augment, blur_matrix, displacement

CPU = torch.device("cpu")
ALL = {"rotation": 15.0, "scale": 0.15, "shear": 15.0, "translate": 2.0, "elastic": 1.5, "elastic_sigma": 4.0}


@pytest.fixture
def digit() -> Tensor:
    """An asymmetric 5 with blurred strokes away from the border, (1, 28, 28) uint8."""
    image = np.zeros((28, 28))
    image[6:8, 9:20] = image[6:15, 9:11] = image[13:15, 9:19] = image[13:22, 17:19] = image[20:22, 7:19] = 255
    return torch.from_numpy(gaussian_filter(image, 0.8).round().astype(np.uint8))[None]


def fix_draws(monkeypatch: pytest.MonkeyPatch, *draws: float) -> None:
    """Replace the random numbers of `augment`, in [-1, 1], by these; the last one is repeated."""
    remaining = list(draws)

    def rand(*shape: int, **options: Any) -> Tensor:
        draw = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return torch.full(shape, (draw + 1) / 2, **options)

    monkeypatch.setattr(torch, "rand", rand)


def by_torchvision(images: Tensor, **parameters: float) -> Tensor:
    identity = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]}
    return affine(images.float(), **(identity | parameters), interpolation=InterpolationMode.BILINEAR)


def assert_same_warp(actual: Tensor, expected: Tensor, images: Tensor) -> None:
    assert (expected - images).abs().max() > 50, "the transform changes too little for a meaningful comparison"
    assert torch.allclose(actual, expected, atol=0.01)  # of 255


def test_zero_strength_is_the_identity() -> None:
    images = torch.randint(0, 256, (8, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(images), images.float())
    fractions = torch.rand(8, 28, 28, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(fractions), fractions)


def test_elastic_distortion_agrees_with_torchvisions_for_the_same_field(
    digit: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    field = displacement(1, 2.0, 3.0, CPU)
    monkeypatch.setattr("mnist_mlp.data.augment.displacement", lambda *_: field)
    expected = elastic(digit.float(), field * 2 / 28)  # torchvision's unit is half the side
    assert_same_warp(augment(digit, elastic=2.0), expected, digit)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_displacement_has_the_correlation_length_of_its_blur(sigma: float) -> None:
    torch.manual_seed(0)
    row = displacement(4000, 1.0, sigma, CPU)[:, 14, :, 0]
    middle = row[:, 8:20]  # the blur is truncated at the border
    measured = torch.stack([(middle[:, 0] * middle[:, lag]).mean() for lag in range(12)])
    # autocorrelation of white noise blurred with a Gaussian: exp(-lag^2 / 4 sigma^2)
    expected = torch.exp(-(torch.arange(12.0) ** 2) / (4 * sigma**2))
    assert torch.allclose(measured, expected, atol=0.07)


@pytest.mark.parametrize("fraction", [-1.0, 0.4, 1.0])
def test_rotation_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    fix_draws(monkeypatch, fraction)
    assert_same_warp(augment(digit, rotation=30.0), by_torchvision(digit, angle=-30.0 * fraction), digit)


@pytest.mark.parametrize("fraction", [-1.0, 0.4, 1.0])
def test_shear_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    fix_draws(monkeypatch, fraction)
    assert_same_warp(augment(digit, shear=25.0), by_torchvision(digit, shear=[25.0 * fraction, 0.0]), digit)


@pytest.mark.parametrize("fraction", [-1.0, 0.4, 1.0])
def test_scale_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    fix_draws(monkeypatch, fraction)
    assert_same_warp(augment(digit, scale=0.3), by_torchvision(digit, scale=1 + 0.3 * fraction), digit)


@pytest.mark.parametrize("fraction", [-1.0, 0.4, 1.0])
def test_translation_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    fix_draws(monkeypatch, fraction)
    assert_same_warp(augment(digit, translate=4.0), by_torchvision(digit, translate=[-4.0 * fraction] * 2), digit)


def test_width_and_height_are_scaled_independently(digit: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = (np.arange(28) - 13.5) / 1.3 + 13.5
    wider = torch.from_numpy(np.stack([np.interp(positions, np.arange(28), row) for row in digit[0]])).float()[None]
    fix_draws(monkeypatch, 0, 0, 1, 0)  # angle, slant, width, then height and shift
    assert_same_warp(augment(digit, scale=0.3), wider, digit)
    fix_draws(monkeypatch, 0, 0, 0, 1, 0)
    assert_same_warp(augment(digit.mT, scale=0.3), wider.mT, digit.mT)


def test_rotation_shear_scale_and_shift_combine_into_one_interpolation(
    digit: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_draws(monkeypatch, 0.5, -0.8, 0.6, -0.4, 0.3)
    actual = augment(digit, rotation=30.0, shear=25.0, scale=0.3, translate=4.0)
    angle, slant = math.radians(15.0), math.tan(math.radians(-20.0))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.diag([1 / 1.18, 1 / 0.88]) @ rotation @ np.array([[1.0, slant], [0.0, 1.0]])  # output to input (x, y)
    inverse = inverse[::-1, ::-1]  # scipy's order is (row, column)
    expected = affine_transform(digit[0].double().numpy(), inverse, 13.5 + 1.2 - inverse @ [13.5, 13.5], order=1)
    assert_same_warp(actual, torch.from_numpy(expected).float()[None], digit)


def centroids(images: Tensor) -> Tensor:
    """Column and row of each image's center of mass, (n, 2)."""
    weights = images / images.sum((1, 2), keepdim=True)
    return torch.stack(((weights.sum(1) * torch.arange(28)).sum(1), (weights.sum(2) * torch.arange(28)).sum(1)), 1)


def test_shifts_are_uniform_up_to_the_strength_and_independent_per_axis(digit: Tensor) -> None:
    torch.manual_seed(0)
    shifts = centroids(augment(digit.expand(3000, -1, -1), translate=4.0)) - centroids(digit.float())
    assert 3.9 < shifts.abs().amax(0).min() <= shifts.abs().max() < 4.01
    assert torch.allclose(shifts.std(0), torch.tensor(4 / math.sqrt(3)), rtol=0.05)
    assert torch.corrcoef(shifts.T)[0, 1].abs() < 0.05


def test_elastic_distortion_is_measured_in_pixels(digit: Tensor) -> None:
    torch.manual_seed(0)
    # such a strong blur makes the fields constant: each image is shifted by its displacement
    shifted = augment(digit.expand(3000, -1, -1), elastic=1.2, elastic_sigma=1e4)
    shifts = centroids(shifted) - centroids(digit.float())
    assert torch.allclose(shifts.square().mean(0).sqrt(), torch.tensor(1.2), rtol=0.05)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0, 8.0])
def test_displacement_has_the_requested_rms_at_every_pixel(sigma: float) -> None:
    torch.manual_seed(0)
    pixels = displacement(6000, 1.5, sigma, CPU)
    assert pixels.shape == (6000, 28, 28, 2)
    assert torch.allclose(pixels.square().mean(0).sqrt(), torch.tensor(1.5), rtol=0.06)
    assert torch.allclose(pixels.square().mean((0, 1, 2)).sqrt(), torch.tensor(1.5), rtol=0.03)
    assert pixels.mean(0).abs().max() < 5 * 1.5 / math.sqrt(6000)


@pytest.mark.parametrize("sigma", [0.8, 2.0, 5.0])
def test_displacement_agrees_with_scipys_gaussian_filter(sigma: float) -> None:
    torch.manual_seed(0)
    actual = displacement(4, 1.0, sigma, CPU)
    torch.manual_seed(0)
    noise = (torch.rand(4, 2, 28, 28) * 2 - 1).double().numpy()

    def blurred(field: np.ndarray) -> np.ndarray:
        return gaussian_filter(field, sigma, mode="constant", truncate=40, axes=(-2, -1))

    weights = blurred(np.ones((28, 28)))  # below 1 at the border, where the kernel is truncated
    impulses = blurred(np.eye(784).reshape(784, 28, 28)) / weights
    deviation = np.sqrt((impulses**2).sum(0) / 3)  # of each blurred pixel; the noise has variance 1/3
    expected = np.moveaxis(blurred(noise) / weights / deviation, 1, -1)
    assert np.allclose(actual.numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_the_blur_preserves_a_constant_field() -> None:
    assert torch.allclose(blur_matrix(5.0, CPU) @ torch.ones(28), torch.ones(28))


def test_every_image_of_a_batch_is_warped_independently(digit: Tensor) -> None:
    torch.manual_seed(0)
    for name in ("rotation", "scale", "shear", "translate", "elastic"):
        warped = augment(digit.expand(16, -1, -1), **{name: ALL[name]})
        assert len({image.numpy().tobytes() for image in warped}) == 16, name


def test_the_same_seed_draws_the_same_warp(digit: Tensor) -> None:
    first, second = (augment(digit.expand(4, -1, -1), **ALL) for _ in range(2) if torch.manual_seed(3))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(digit.expand(4, -1, -1), **ALL))


def test_pixels_from_outside_the_image_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_draws(monkeypatch, 1.0)
    warped = augment(torch.full((1, 28, 28), 200, dtype=torch.uint8), translate=10.0)
    expected = torch.zeros(1, 28, 28)
    expected[:, :18, :18] = 200
    assert torch.allclose(warped, expected, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_values_stay_in_range(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (32, 28, 28)).to(dtype)
    warped = augment(images, **ALL)
    assert warped.is_floating_point()
    assert warped.shape == images.shape
    assert 0 <= warped.min() < 1
    assert 200 < warped.max() <= 255.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_warp_is_float32_under_any_trainer_precision(digit: Tensor, dtype: torch.dtype) -> None:
    def warped() -> Tensor:
        torch.manual_seed(0)
        return augment(digit.expand(4, -1, -1), **ALL).float()

    expected, default = warped(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # as Lightning does for 64-true and bf16-true
    try:
        assert torch.allclose(warped(), expected, atol=0.01)
    finally:
        torch.set_default_dtype(default)


def test_the_warp_is_float32_under_autocast(digit: Tensor) -> None:
    def warped() -> Tensor:
        torch.manual_seed(0)
        return augment(digit.expand(4, -1, -1), **ALL).float()

    expected = warped()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(warped(), expected, atol=0.01)
