"""Pictures as tensors."""

import numpy as np
import pytest
import torch
from PIL import Image

from glip.config import PixelConfig
from glip.data.transforms import (
    RawPixels,
    pad_batch,
    raw_pixels,
    to_pixels,
)
from glip.pixels import to_array


def test_pixels_are_those_of_the_array() -> None:
    picture = Image.effect_noise((5, 4), 80).convert("RGB")
    pixels = to_pixels(picture, PixelConfig())
    assert pixels.dtype == torch.float32
    assert pixels.equal(torch.from_numpy(to_array(picture, PixelConfig())))


def test_batch_is_padded_with_zeros_below_and_to_the_right() -> None:
    wide, high = torch.ones(3, 30, 40), torch.full((3, 50, 20), 2.0)
    batch = pad_batch([wide, high])
    assert batch.shape == (2, 3, 64, 64)
    assert batch[0, :, :30, :40].equal(wide) and batch[1, :, :50, :20].equal(high)
    assert batch.sum() == wide.sum() + high.sum()


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalising_on_a_device_gives_the_same_batch(order: str) -> None:
    random = np.random.default_rng(1)
    images = [
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
        for size in ((40, 64), (33, 20))
    ]
    config = PixelConfig(mean=(1.5, 2.5, 3.5), std=(0.3, 7.0, 60.0), order=order)
    expected = pad_batch([to_pixels(image, config) for image in images])
    raw = RawPixels.of([raw_pixels(image) for image in images], config)
    assert raw.cells.dtype == torch.uint8 and raw.cells.shape == (2, 64, 64, 3)
    found = raw.to("cpu")
    assert found.equal(expected) and found.is_contiguous()
    assert raw.to("cpu", torch.bfloat16).equal(expected.bfloat16())


def test_picture_alone_is_padded_to_its_own_size() -> None:
    assert pad_batch([torch.ones(3, 33, 32)]).shape == (1, 3, 64, 32)
