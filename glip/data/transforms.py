"""Pictures as tensors, one by one and in batches. What is done to them stands in `glip.pixels`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from glip.config import PixelConfig
from glip.pixels import padded_hw, to_array


def to_pixels(image: Image.Image, config: PixelConfig) -> Tensor:
    """(3, H, W) float32, normalised, in the channel order of the weights; `image` is 8-bit RGB."""
    return torch.from_numpy(to_array(image, config))


def pad_batch(images: Sequence[Tensor]) -> Tensor:
    """(B, 3, H, W) with zeros below and right of each (3, h, w) picture.

    No mask goes with it, so padding changes results a little; batches of pictures of one padded
    size give what each gives alone.
    """
    sizes = [padded_hw((image.shape[1], image.shape[2])) for image in images]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    batch = images[0].new_zeros(len(images), 3, height, width)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch
