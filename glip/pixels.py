"""From a picture to normalised numbers at the size that the model wants.

The only place that knows channel orders. Knows nothing about files (`glip/images.py`), models or
torch: exported models run without it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip.config import PixelConfig

SIZE_DIVISOR = 32  # the coarsest stride of the backbone


def resized_hw(image_hw: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width after resizing, by the official arithmetic (it truncates).

    Args:
        image_hw: Of the picture.
        short_side: Wanted length of the shorter side.
        long_side: If the longer side would grow beyond this, the shorter one shrinks instead.
    Returns:
        The longer side can exceed `long_side` a little: the shorter one is rounded first.
    """
    short, long = min(image_hw), max(image_hw)
    target = short_side
    if long / short * target > long_side:
        target = round(long_side * short / long)
    if target < 1:  # thinner than official code can resize: one pixel, and no longer than allowed
        scaled = (1, long_side)
    elif target == short:
        return image_hw
    else:
        scaled = (target, int(target * long / short))
    return scaled if image_hw[0] <= image_hw[1] else (scaled[1], scaled[0])


def resize(image: Image.Image, config: PixelConfig) -> Image.Image:
    """The picture at the size the model wants. official: bilinear, antialiased, in 8 bits."""
    height, width = resized_hw((image.height, image.width), config.short_side, config.long_side)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def to_array(image: Image.Image, config: PixelConfig) -> npt.NDArray[np.float32]:
    """(3, H, W), normalised, in the channel order of the weights.

    Args:
        image: RGB, 8 bits.
        config: Mean and deviation per channel on the scale 0..255.
    """
    pixels = np.empty((3, image.height, image.width), np.float32)
    bands = list(zip(image.split(), config.mean, config.std, strict=True))
    if config.order == "bgr":
        bands.reverse()
    for plane, (band, mean, std) in zip(pixels, bands, strict=True):  # one at a time: cache
        np.subtract(np.asarray(band), np.float32(mean), out=plane)
        plane /= np.float32(std)
    return pixels


def padded_hw(image_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width rounded up to what the backbone can divide."""
    height, width = image_hw
    return height + -height % SIZE_DIVISOR, width + -width % SIZE_DIVISOR


class Prepared(NamedTuple):
    """One picture on its way through a model."""

    number: int
    """Place in the caller's list."""
    pixels: Any
    """(3, h, w), normalised: a tensor, or an array on the way into an exported model; on the way to
    a GPU 8-bit RGB instead."""
    original_hw: tuple[int, int]

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width that the model sees."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def padded_hw(self) -> tuple[int, int]:
        """Height and width with its padding: pictures that share it can share a batch."""
        return padded_hw(self.resized_hw)
