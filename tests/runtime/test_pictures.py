"""Pictures on their way into an exported model."""

import numpy as np
from PIL import Image

from glip.config import PixelConfig
from glip.runtime.pictures import prepare

CONFIG = PixelConfig(short_side=64, long_side=96, mean=(0.0,) * 3, std=(1.0,) * 3, order="rgb")


def test_sides_are_those_of_the_weights_padded_with_zeros():
    made = prepare(Image.new("RGB", (30, 20), (7, 8, 9)), CONFIG, number=4)
    assert (made.number, made.original_hw, made.resized_hw) == (4, (20, 30), (64, 96))
    assert made.padded_hw == (64, 96) and made.pixels.dtype == np.float32
    np.testing.assert_array_equal(made.pixels[:, 0, 0], [7, 8, 9])


def test_a_picture_is_fitted_into_a_fixed_size_with_its_shape():
    made = prepare(Image.new("RGB", (50, 100), (7, 8, 9)), CONFIG, (64, 64))
    assert made.pixels.shape == (3, 64, 64) and made.resized_hw == (64, 32)
    assert made.pixels[:, :, :32].min() == 7 and not made.pixels[:, :, 32:].any()


def test_a_thin_picture_keeps_a_pixel():
    assert prepare(Image.new("RGB", (1000, 1)), CONFIG, (64, 64)).resized_hw == (1, 64)
