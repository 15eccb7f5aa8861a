"""Pictures as exported models take them."""

import numpy as np
import pytest
from PIL import Image

from glip.config import PixelConfig
from glip.pixels import to_array
from glip.runtime.pictures import batches, padded, prepare

CONFIG = PixelConfig(short_side=64, long_side=160)


def test_a_picture_is_resized_and_padded_with_zeros() -> None:
    ready = prepare(Image.new("RGB", (100, 50), (9, 9, 9)), CONFIG, number=3)
    assert (ready.number, ready.original_hw, ready.resized_hw) == (3, (50, 100), (64, 128))
    assert ready.padded_hw == (64, 128)
    small = prepare(Image.new("RGB", (65, 65), (255,) * 3), CONFIG)
    batch = padded([small._replace(pixels=small.pixels[:, :33])])
    assert batch.shape == (1, 3, 64, 64) and not batch[:, :, 33:].any()


@pytest.mark.parametrize(
    ("size", "resized"), [((300, 100), (43, 128)), ((10, 300), (96, 3)), ((128, 96), (96, 128))]
)
def test_a_picture_is_fitted_into_the_one_size(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    image = Image.effect_noise(size, 60).convert("RGB")
    ready = prepare(image, CONFIG, (96, 128))
    assert ready.resized_hw == resized
    height, width = resized
    [batch] = padded([ready], (96, 128))
    assert batch.shape == (3, 96, 128)
    assert not batch[:, height:].any() and not batch[:, :, width:].any()
    if size == (128, 96):
        np.testing.assert_array_equal(ready.pixels, to_array(image, CONFIG))


def test_batches_hold_one_size_and_no_more_than_asked() -> None:
    pictures = [
        prepare(Image.new("RGB", size), CONFIG)
        for size in ((64, 64), (128, 64), (64, 64), (64, 64))
    ]
    assert batches(pictures, None) == [[0, 2, 3], [1]]
    assert batches(pictures, 2) == [[0, 2], [3], [1]]
