"""Crops: how much they show, and that both boxes are seen in them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from glip.labelling.crop import CROP_PX, DASHED, crop

GREY = Image.new("RGB", (400, 300), (128, 128, 128))


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_a_box_with_its_surroundings() -> None:
    small = crop(GREY, (100, 100, 140, 120))
    assert small.size == (65, 45)  # 0.2 * 40 + 4 around it
    assert small.getpixel((12, 12)) == (0, 0, 0) and small.getpixel((11, 11)) == (255, 255, 255)
    assert max(crop(GREY, (0, 0, 400, 300)).size) == CROP_PX
    assert GREY.getpixel((100, 100)) == (128, 128, 128)  # the picture itself is as it was


def test_what_was_and_what_is_are_both_seen() -> None:
    dashes = ImageColor.getrgb(DASHED)
    both = crop(GREY, (100, 100, 140, 120), (180, 100, 200, 120))
    assert both.size == (149, 69)  # 100 x 20 with 24 around it
    assert {dashes, (255, 255, 255), (0, 0, 0)} < colours(both)
    gone = crop(GREY, None, (100, 100, 140, 120))
    assert colours(gone) == {dashes, (0, 0, 0), (128, 128, 128)}
    assert dashes not in colours(crop(GREY, (100, 100, 140, 120)))
    assert crop(GREY, None, (10, 10, 10.4, 10.4)).size == (10, 10)  # smaller than a dash


def test_of_a_box_beyond_the_picture_there_is_the_nearest_edge() -> None:
    assert crop(GREY, (500, 100, 600, 150)).size == (1, 99)
    assert min(crop(GREY, (900, 900, 990, 990), (-90, -80, -70, -60)).size) > 0
    assert min(crop(GREY, (-90, -80, -70, -60)).size) == 1
