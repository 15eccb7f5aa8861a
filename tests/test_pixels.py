"""Resizing and normalising, by the official arithmetic."""

import numpy as np
import pytest
from PIL import Image

from glip.config import PixelConfig
from glip.pixels import padded_hw, resize, resized_hw, to_array

# (width, height) -> (height, width) with a short side of 800 and a long one of 1333.
OFFICIAL = [
    ((640, 480), (800, 1066)),
    ((480, 640), (1066, 800)),
    ((1333, 800), (800, 1333)),
    ((1920, 1080), (750, 1333)),
    ((333, 500), (1201, 800)),
    ((2000, 400), (267, 1335)),  # the shorter side is rounded first: the longer one ends above
    ((300, 301), (802, 800)),
    ((801, 1335), (1333, 800)),
    ((800, 800), (800, 800)),
    ((1000, 599), (798, 1332)),
    ((427, 640), (1199, 800)),
]

# By the same formula as far as it reaches; the official code fails where a side becomes zero.
EXTREME = [
    ((1, 1), (800, 800)),
    ((30000, 200), (9, 1350)),
    ((200, 30000), (1350, 9)),
    ((2665, 1), (1, 2665)),  # the target side, rounded from 0.5002, is what the picture has
    ((2667, 1), (1, 1333)),
    ((100000, 1), (1, 1333)),
    ((1, 100000), (1333, 1)),
]


@pytest.mark.parametrize(("width_height", "expected"), OFFICIAL + EXTREME)
def test_resized_size(width_height: tuple[int, int], expected: tuple[int, int]) -> None:
    width, height = width_height
    assert resized_hw((height, width), 800, 1333) == expected


def test_resized_sides_are_never_empty() -> None:
    for long in (1, 2, 3, 10, 99, 1234, 99999):
        for short in (1, 2, 3, 7):
            assert min(resized_hw((min(short, long), long), 800, 1333)) >= 1


def test_picture_of_the_right_size_is_left_alone() -> None:
    picture = Image.new("RGB", (160, 96))
    assert resize(picture, PixelConfig(96, 160)) is picture


def test_shrinking_averages_instead_of_picking() -> None:
    columns = np.tile(np.array([0, 255], dtype=np.uint8), (64, 64))  # (64, 128), stripes
    picture = Image.fromarray(np.stack([columns] * 3, -1))
    small = np.asarray(resize(picture, PixelConfig(16, 32)))[2:-2, 2:-2]
    assert small.min() > 100 and small.max() < 155


def test_pixels_by_hand_in_the_official_channel_order() -> None:
    picture = Image.new("RGB", (2, 1), (123, 116, 255))
    pixels = to_array(picture, PixelConfig())
    assert pixels.shape == (3, 1, 2) and pixels.dtype == np.float32
    blue, green, red = pixels[:, 0, 1].tolist()
    assert red == pytest.approx((123 - 123.675) / 58.395, abs=1e-6)
    assert green == pytest.approx((116 - 116.28) / 57.12, abs=1e-6)
    assert blue == pytest.approx((255 - 103.53) / 57.375, abs=1e-6)


def test_mean_and_deviation_stay_with_their_colour_in_either_order() -> None:
    picture = Image.effect_noise((5, 4), 80).convert("RGB")
    settings = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    rgb = to_array(picture, PixelConfig(order="rgb", **settings))
    bgr = to_array(picture, PixelConfig(order="bgr", **settings))
    assert np.array_equal(rgb[::-1], bgr)


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 1), (32, 32)), ((32, 64), (32, 64)), ((33, 65), (64, 96))]
)
def test_sides_are_rounded_up_to_multiples_of_32(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert padded_hw(size) == expected
