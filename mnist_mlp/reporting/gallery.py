"""Test digits in rows with a caption under each, as markup: readable on a phone, dark at night, and without scripts."""

import base64
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_mlp.reporting.digit_data import COLUMNS, sprite

STYLES = ("gallery.css",)
"""What a section with a gallery needs."""


def gallery(images: NDArray[np.uint8], captions: Sequence[tuple[str, str]], title: str = "") -> Markup:
    """The images (n, 28, 28), each with two captions: what it is taken for, and how surely or how often."""
    tiles = Markup().join(
        Markup(
            '<li><span class="digit" role="img" aria-label="Digit {}" style="--x: {}; --y: {}"></span>'
            "<b>{}</b><span>{}</span></li>"
        ).format(number + 1, number % COLUMNS, number // COLUMNS, *caption)
        for number, caption in enumerate(captions)
    )
    heading = Markup("<h3>{}</h3>").format(title) if title else Markup()
    source = base64.b64encode(sprite(images)).decode()
    return heading + Markup(
        '<ul class="gallery" style="--sprite: url(data:image/png;base64,{}); --columns: {}">{}</ul>'
    ).format(source, COLUMNS, tiles)
