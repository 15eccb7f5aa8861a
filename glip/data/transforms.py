"""Pictures as tensors, one by one and in batches. What is done to them stands in `glip.pixels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glip.config import PixelConfig
from glip.model.ops.transfer import uploaded
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


def raw_pixels(image: Image.Image) -> Tensor:
    """(3, H, W) uint8 RGB, a view of pixels that lie cell by cell; `image` is 8-bit RGB."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class RawPixels:
    """What `pad_batch` makes of `to_pixels`, to be normalised on a device: a quarter of the way
    there.
    """

    cells: Tensor
    """(B, H, W, 3) uint8 RGB; whatever beyond each picture."""
    sizes_hw: tuple[tuple[int, int], ...]
    """Of each picture, without its padding."""
    config: PixelConfig
    """Mean, deviation and order of the channels."""

    @classmethod
    def of(cls, images: Sequence[Tensor], config: PixelConfig, *, pin: bool = False) -> RawPixels:
        """Of pictures.

        Args:
            images: (3, h, w) uint8 each, see `raw_pixels`.
            config: How the weights want them.
            pin: Put them where a GPU can copy from while it works.
        """
        sizes = tuple((image.shape[1], image.shape[2]) for image in images)
        padded = [padded_hw(size) for size in sizes]
        height, width = max(h for h, _ in padded), max(w for _, w in padded)
        cells = torch.empty(len(images), height, width, 3, dtype=torch.uint8, pin_memory=pin)
        for row, image in zip(cells, images, strict=True):
            row[: image.shape[1], : image.shape[2]] = image.permute(1, 2, 0)
        return cls(cells, sizes, config)

    def pin_memory(self) -> RawPixels:
        """The same where a GPU can copy from while it works."""
        return replace(self, cells=self.cells.pin_memory())

    def to(
        self,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        *,
        non_blocking: bool = False,
    ) -> Tensor:
        """(B, 3, H, W) on a device, normalised, zeros beyond each picture; the sums in float32."""
        cells = self.cells.to(device, non_blocking=non_blocking)
        pixels = cells.permute(0, 3, 1, 2).float()
        mean, std = _channels(self.config.mean, self.config.std, str(pixels.device))
        pixels = pixels.sub_(mean).div_(std)
        if self.config.order == "bgr":
            pixels = pixels.flip(1)
        heights, widths = uploaded(torch.tensor(self.sizes_hw), pixels.device).mT[..., None]
        below = torch.arange(cells.shape[1], device=cells.device) >= heights  # (B, H)
        right = torch.arange(cells.shape[2], device=cells.device) >= widths  # (B, W)
        pixels.masked_fill_(below[:, None, :, None], 0).masked_fill_(right[:, None, None], 0)
        return pixels.to(dtype, memory_format=torch.contiguous_format)


@lru_cache(maxsize=8)
def _channels(mean: tuple[float, ...], std: tuple[float, ...], device: str) -> Tensor:
    """(2, 3, 1, 1) on a device."""
    with torch.inference_mode(False):  # cached tensors outlive the mode they were first asked in
        return uploaded(torch.tensor([mean, std]), device)[..., None, None]
