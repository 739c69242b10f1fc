from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_up_digits
from small_steps import digit_classifier

from mnist_mlp.data.module import as_pixels
from mnist_mlp.errors import UserError

IMAGES = torch.from_numpy(made_up_digits(7, 0)[0])


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.numpy(),
        IMAGES[:, None],
        IMAGES[..., None],
        IMAGES.float() / 255,
        (IMAGES.double() / 255).numpy()[:, None],
        (IMAGES.float() / 255).half(),
        IMAGES.numpy()[::-1][::-1],
    ],
    ids=["torch", "numpy", "channel first", "channel last", "floats", "double numpy", "half", "negative stride"],
)
def test_all_representations_of_the_same_images_give_the_same_predictions(images: Any) -> None:
    model = digit_classifier(**{"model.hidden_units": [16], "model.hidden_layers": 1})
    expected = model.eval()(IMAGES).softmax(1).detach()
    torch.testing.assert_close(model.probabilities(images), expected, rtol=1e-2, atol=1e-2)
    if images.dtype != torch.float16:
        torch.testing.assert_close(model.probabilities(images), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(model.predict(images), expected.argmax(1))


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (28, 28, 1), (1, 1, 28, 28), (1, 28, 28, 1)])
def test_a_single_image_is_a_batch_of_one(shape: tuple[int, ...]) -> None:
    assert torch.equal(as_pixels(IMAGES[0].reshape(shape)), IMAGES[:1])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.float(), r"images are floats from 0 to 250: expected values in \[0, 1\]"),
        ((IMAGES.float() / 255 - 0.1307) / 0.3081, r"images are floats from -0\.4242 to .*: expected .*not normalized"),
        (torch.full((2, 28, 28), torch.nan), "images are floats from nan to nan: expected"),
        (IMAGES.long(), "images are int64: expected .*uint8"),
        (IMAGES > 127, "images are bool: expected .*uint8"),
        ((IMAGES > 127).to(torch.uint8), "images are uint8 with values 0 and 1 only: multiply by 255"),
        (IMAGES.reshape(7, 784), r"images have shape \(7, 784\): expected"),
        (IMAGES[:, None].expand(7, 3, 28, 28), r"images have shape \(7, 3, 28, 28\): expected"),
        (torch.zeros(32, 32), r"images have shape \(32, 32\): expected"),
        ([IMAGES[0], IMAGES[1]], r"images is a list: use .*torch\.stack"),
        ("seven.png", "images is a str: use a torch tensor or a numpy array"),
    ],
)
def test_ambiguous_images_are_rejected_with_a_one_line_error(images: Any, message: str) -> None:
    model = digit_classifier()
    for method in (model.probabilities, model.predict):
        with pytest.raises(UserError, match=f"^{message}") as caught:
            method(images)
        assert "\n" not in str(caught.value)


def test_a_blank_image_is_valid() -> None:
    assert as_pixels(np.zeros((28, 28), np.uint8)).shape == as_pixels(torch.zeros(28, 28)).shape == (1, 28, 28)


def test_forward_rejects_floats_in_evaluation_mode() -> None:
    model = digit_classifier().eval()
    with pytest.raises(UserError, match=r"uint8.*predict"):
        model(IMAGES.float() / 255)
