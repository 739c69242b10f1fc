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
    "given",
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
def test_every_form_of_the_same_images_is_predicted_alike(given: Any) -> None:
    model = digit_classifier(**{"model.hidden_units": [16], "model.hidden_layers": 1})
    expected = model.eval()(IMAGES).softmax(1).detach()
    torch.testing.assert_close(model.probabilities(given), expected, rtol=1e-2, atol=1e-2)
    tight = given.dtype not in (torch.float16,)
    if tight:
        torch.testing.assert_close(model.probabilities(given), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(model.predict(given), expected.argmax(1))


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (28, 28, 1), (1, 1, 28, 28), (1, 28, 28, 1)])
def test_one_image_is_a_batch_of_one(shape: tuple[int, ...]) -> None:
    assert torch.equal(as_pixels(IMAGES[0].reshape(shape)), IMAGES[:1])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (IMAGES.float(), r"images are floats from 0 to 250: give uint8 in 0\.\.255 or floats in \[0, 1\]"),
        ((IMAGES.float() / 255 - 0.1307) / 0.3081, r"images are floats from -0\.4242 to .*: give .*not normalised"),
        (torch.full((2, 28, 28), torch.nan), "images are floats from nan to nan: give"),
        (IMAGES.long(), "images are int64: give uint8"),
        (IMAGES > 127, "images are bool: give uint8"),
        ((IMAGES > 127).to(torch.uint8), "images are uint8 of 0 and 1 alone, which may be a mask: multiply by 255"),
        (IMAGES.reshape(7, 784), r"images have the shape \(7, 784\): give"),
        (IMAGES[:, None].expand(7, 3, 28, 28), r"images have the shape \(7, 3, 28, 28\): give"),
        (torch.zeros(32, 32), r"images have the shape \(32, 32\): give"),
        ([IMAGES[0], IMAGES[1]], r"images is a list: give .*by torch\.stack"),
        ("seven.png", "images is a str: give a torch tensor or a numpy array"),
    ],
)
def test_what_is_ambiguous_is_refused_in_one_line(given: Any, says: str) -> None:
    model = digit_classifier()
    for method in (model.probabilities, model.predict):
        with pytest.raises(UserError, match=f"^{says}") as caught:
            method(given)
        assert "\n" not in str(caught.value)


def test_a_blank_image_is_an_image() -> None:
    assert as_pixels(np.zeros((28, 28), np.uint8)).shape == as_pixels(torch.zeros(28, 28)).shape == (1, 28, 28)


def test_the_classifier_itself_refuses_floats_once_it_is_trained() -> None:
    model = digit_classifier().eval()
    with pytest.raises(UserError, match="takes uint8 images: use probabilities or predict for floats"):
        model(IMAGES.float() / 255)
