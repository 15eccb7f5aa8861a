"""Arrays and tensors as images, without anything that is written in a file."""

import numpy as np
import pytest
import torch

from glip.arrays import describe_pixels, eight_bits, from_array, from_unbounded
from glip.errors import ImageError

ROW = [[0, 128, 255]]


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.array(ROW, np.uint8), "L"),
        (np.array(ROW, np.uint8)[..., None], "L"),
        (np.zeros((1, 3, 3), np.uint8), "RGB"),
        (np.zeros((1, 3, 4), np.uint8), "RGBA"),
        (torch.zeros(3, 1, 3, dtype=torch.uint8), "RGB"),
        (torch.zeros(4, 1, 3), "RGBA"),
        (torch.zeros(1, 1, 3, dtype=torch.bfloat16), "L"),
    ],
)
def test_shape_decides_the_mode(pixels: np.ndarray | torch.Tensor, mode: str) -> None:
    image = from_array(pixels, 3)
    assert (image.mode, image.size) == (mode, (3, 1))
    with pytest.raises(ImageError, match="more than the limit of 2"):
        from_array(pixels, 2)


@pytest.mark.parametrize(
    ("dtype", "full"), [(np.uint16, 65535), (np.float16, 1), (np.float32, 1), (np.float64, 1)]
)
def test_values_are_scaled_by_their_full_range(dtype: type, full: int) -> None:
    values = (np.array(ROW) / 255 * full).round(4).astype(dtype)
    assert np.asarray(from_array(values, 9)).tolist() == ROW
    assert eight_bits(values, full=full).tolist() == ROW


def test_unbounded_values_take_the_smallest_range_that_holds_them() -> None:
    assert np.asarray(from_unbounded(np.array([[0.0, 1.0]]), "F", "x")).tolist() == [[0, 255]]
    assert np.asarray(from_unbounded(np.array([[0, 255]]), "I", "x")).tolist() == [[0, 255]]
    assert np.asarray(from_unbounded(np.array([[0, 65535]]), "I", "x")).tolist() == [[0, 255]]


def test_pixels_in_words() -> None:
    assert describe_pixels(np.zeros((2, 3))) == "array of shape (2, 3) and type float64"
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    assert describe_pixels(nested) == "tensor of nested shape and type float32"
