"""Pictures on their way into an exported model, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from glip.config import PixelConfig
from glip.pixels import Prepared, resize, to_array
from glip.runtime.sessions import Floats


def prepare(
    image: Image.Image,
    config: PixelConfig,
    size_hw: tuple[int, int] | None = None,
    number: int = 0,
) -> Prepared:
    """An upright RGB picture as the graphs take it, not padded yet.

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
    else:
        scale = min(size_hw[0] / image.height, size_hw[1] / image.width)
        height, width = (
            max(1, min(round(a * scale), b)) for a, b in zip(original, size_hw, strict=True)
        )
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return Prepared(number, to_array(image, config), original)


def padded(pictures: Sequence[Prepared], size_hw: tuple[int, int] | None = None) -> Floats:
    """(B, 3, H, W) of pictures of one padded size, or of that one size, zeros below and right."""
    batch = np.zeros((len(pictures), 3, *(size_hw or pictures[0].padded_hw)), np.float32)
    for row, picture in zip(batch, pictures, strict=True):
        height, width = picture.resized_hw
        row[:, :height, :width] = picture.pixels
    return batch


def batches(pictures: Sequence[Prepared], size: int | None) -> list[list[int]]:
    """Places of pictures of one padded size, at most `size` together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(picture.padded_hw, []).append(place)
    return [
        places[start : start + (size or len(places))]
        for places in groups.values()
        for start in range(0, len(places), size or len(places))
    ]
