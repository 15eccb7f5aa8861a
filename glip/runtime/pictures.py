"""Pictures on their way into an exported model, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from glip.config import PixelConfig
from glip.pixels import padded_hw, resize, to_array
from glip.runtime.sessions import Floats


class PreparedArray(NamedTuple):
    """One picture, resized and normalised; see `glip.engine.Prepared`."""

    number: int
    """Place in the caller's list."""
    pixels: Floats
    """(3, H, W), padded with zeros below and on the right."""
    resized_hw: tuple[int, int]
    """Height and width before padding."""
    original_hw: tuple[int, int]

    @property
    def padded_hw(self) -> tuple[int, int]:
        """What pictures of one batch have in common."""
        return self.pixels.shape[1], self.pixels.shape[2]


def prepare(
    image: Image.Image,
    config: PixelConfig,
    size_hw: tuple[int, int] | None = None,
    number: int = 0,
) -> PreparedArray:
    """An upright RGB picture as the graphs take it.

    Args:
        image: As `glip.images.load_image` gives it.
        config: How the weights want it.
        size_hw: If the graphs take pictures of one size only, that size: the picture is fitted into
            it, its shape kept, in place of the config's sides.
        number: Whatever the caller tells pictures apart by.
    """
    original = (image.height, image.width)
    if size_hw is None:
        image = resize(image, config)
        size_hw = padded_hw((image.height, image.width))
    else:
        scale = min(size_hw[0] / image.height, size_hw[1] / image.width)
        height, width = (
            max(1, min(round(a * scale), b)) for a, b in zip(original, size_hw, strict=True)
        )
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.zeros((3, *size_hw), np.float32)
    pixels[:, : image.height, : image.width] = to_array(image, config)
    return PreparedArray(number, pixels, (image.height, image.width), original)


def batches(pictures: Sequence[PreparedArray], size: int | None) -> list[list[int]]:
    """Places of pictures of one padded size, at most `size` together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(picture.padded_hw, []).append(place)
    return [
        places[start : start + (size or len(places))]
        for places in groups.values()
        for start in range(0, len(places), size or len(places))
    ]
