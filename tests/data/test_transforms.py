"""Pictures as tensors."""

import torch
from PIL import Image

from glip.config import PixelConfig
from glip.data.transforms import pad_batch, to_pixels
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


def test_picture_alone_is_padded_to_its_own_size() -> None:
    assert pad_batch([torch.ones(3, 33, 32)]).shape == (1, 3, 64, 32)
