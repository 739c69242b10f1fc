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
    """A lopsided 5 of soft strokes, (1, 28, 28) uint8, clear of the border."""
    image = np.zeros((28, 28))
    image[6:8, 9:20] = image[6:15, 9:11] = image[13:15, 9:19] = image[13:22, 17:19] = image[20:22, 7:19] = 255
    return torch.from_numpy(gaussian_filter(image, 0.8).round().astype(np.uint8))[None]


def fix_draws(monkeypatch: pytest.MonkeyPatch, *draws: float) -> None:
    """Makes every draw of `augment` the given share of its strength, from -1 to 1; the last of them is repeated."""
    waiting = list(draws)

    def rand(*shape: int, **options: Any) -> Tensor:
        share = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return torch.full(shape, (share + 1) / 2, **options)

    monkeypatch.setattr(torch, "rand", rand)


def by_torchvision(images: Tensor, **change: float) -> Tensor:
    still = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]}
    return affine(images.float(), **(still | change), interpolation=InterpolationMode.BILINEAR)


def assert_same_warp(ours: Tensor, theirs: Tensor, images: Tensor) -> None:
    assert (theirs - images).abs().max() > 50, "the transform hardly changes the image: the test would prove nothing"
    assert torch.allclose(ours, theirs, atol=0.01)  # of 255


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
    theirs = elastic(digit.float(), field * 2 / 28)  # torchvision's unit is half the side
    assert_same_warp(augment(digit, elastic=2.0), theirs, digit)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_displacement_has_the_correlation_length_of_its_blur(sigma: float) -> None:
    torch.manual_seed(0)
    row = displacement(4000, 1.0, sigma, CPU)[:, 14, :, 0]
    middle = row[:, 8:20]  # clear of the border, where less is blurred together
    measured = torch.stack([(middle[:, 0] * middle[:, lag]).mean() for lag in range(12)])
    # a Gaussian blurred once more, by itself: exp(-lag^2 / 4 sigma^2) (Simard 2003's field)
    expected = torch.exp(-(torch.arange(12.0) ** 2) / (4 * sigma**2))
    assert torch.allclose(measured, expected, atol=0.07)


@pytest.mark.parametrize("share", [-1.0, 0.4, 1.0])
def test_rotation_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    fix_draws(monkeypatch, share)
    assert_same_warp(augment(digit, rotation=30.0), by_torchvision(digit, angle=-30.0 * share), digit)


@pytest.mark.parametrize("share", [-1.0, 0.4, 1.0])
def test_shear_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    fix_draws(monkeypatch, share)
    assert_same_warp(augment(digit, shear=25.0), by_torchvision(digit, shear=[25.0 * share, 0.0]), digit)


@pytest.mark.parametrize("share", [-1.0, 0.4, 1.0])
def test_scale_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    fix_draws(monkeypatch, share)
    assert_same_warp(augment(digit, scale=0.3), by_torchvision(digit, scale=1 + 0.3 * share), digit)


@pytest.mark.parametrize("share", [-1.0, 0.4, 1.0])
def test_translation_agrees_with_torchvision(digit: Tensor, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    fix_draws(monkeypatch, share)
    assert_same_warp(augment(digit, translate=4.0), by_torchvision(digit, translate=[-4.0 * share] * 2), digit)


def test_width_and_height_are_scaled_apart(digit: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    place = (np.arange(28) - 13.5) / 1.3 + 13.5
    wider = torch.from_numpy(np.stack([np.interp(place, np.arange(28), row) for row in digit[0]])).float()[None]
    fix_draws(monkeypatch, 0, 0, 1, 0)  # angle, slant, width, then height and shift
    assert_same_warp(augment(digit, scale=0.3), wider, digit)
    fix_draws(monkeypatch, 0, 0, 0, 1, 0)
    assert_same_warp(augment(digit.mT, scale=0.3), wider.mT, digit.mT)


def test_rotation_shear_scale_and_shift_combine_into_one_sampling(
    digit: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_draws(monkeypatch, 0.5, -0.8, 0.6, -0.4, 0.3)
    ours = augment(digit, rotation=30.0, shear=25.0, scale=0.3, translate=4.0)
    angle, slant = math.radians(15.0), math.tan(math.radians(-20.0))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    back = np.diag([1 / 1.18, 1 / 0.88]) @ turn @ np.array([[1.0, slant], [0.0, 1.0]])  # (x, y) out to (x, y) in
    back = back[::-1, ::-1]  # scipy counts rows first
    theirs = affine_transform(digit[0].double().numpy(), back, 13.5 + 1.2 - back @ [13.5, 13.5], order=1)
    assert_same_warp(ours, torch.from_numpy(theirs).float()[None], digit)


def centroids(images: Tensor) -> Tensor:
    """(n, 2): column and row of the centre of mass."""
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
    # blurred this much, each field is constant: a shift, whose size is seen from outside
    moved = augment(digit.expand(3000, -1, -1), elastic=1.2, elastic_sigma=1e4)
    shifts = centroids(moved) - centroids(digit.float())
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
def test_displacement_is_as_smooth_as_scipys_gaussian_filter_makes_it(sigma: float) -> None:
    torch.manual_seed(0)
    ours = displacement(4, 1.0, sigma, CPU)
    torch.manual_seed(0)
    noise = (torch.rand(4, 2, 28, 28) * 2 - 1).double().numpy()

    def blurred(field: np.ndarray) -> np.ndarray:
        return gaussian_filter(field, sigma, mode="constant", truncate=40, axes=(-2, -1))

    inside = blurred(np.ones((28, 28)))  # what falls outside the image is not to darken its border
    impulses = blurred(np.eye(784).reshape(784, 28, 28)) / inside
    spread = np.sqrt((impulses**2).sum(0) / 3)  # of a blurred pixel, where the noise has variance 1/3
    expected = np.moveaxis(blurred(noise) / inside / spread, 1, -1)
    assert np.allclose(ours.numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_the_blur_keeps_a_constant_field() -> None:
    assert torch.allclose(blur_matrix(5.0, CPU) @ torch.ones(28), torch.ones(28))


def test_every_image_of_a_batch_is_warped_its_own_way(digit: Tensor) -> None:
    torch.manual_seed(0)
    for name in ("rotation", "scale", "shear", "translate", "elastic"):
        warped = augment(digit.expand(16, -1, -1), **{name: ALL[name]})
        assert len({image.numpy().tobytes() for image in warped}) == 16, name


def test_the_same_seed_draws_the_same_warp(digit: Tensor) -> None:
    first, again = (augment(digit.expand(4, -1, -1), **ALL) for _ in range(2) if torch.manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(digit.expand(4, -1, -1), **ALL))


def test_what_comes_from_outside_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_the_warp_is_as_precise_under_any_trainer_precision(digit: Tensor, dtype: torch.dtype) -> None:
    def warped() -> Tensor:
        torch.manual_seed(0)
        return augment(digit.expand(4, -1, -1), **ALL).float()

    expected, default = warped(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # as Lightning does for 64-true and bf16-true
    try:
        assert torch.allclose(warped(), expected, atol=0.01)
    finally:
        torch.set_default_dtype(default)


def test_the_warp_is_as_precise_under_autocast(digit: Tensor) -> None:
    def warped() -> Tensor:
        torch.manual_seed(0)
        return augment(digit.expand(4, -1, -1), **ALL).float()

    expected = warped()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(warped(), expected, atol=0.01)
