"""Arrays and tensors of pixels -> 8-bit images, or the reason why they cannot be.

What an array means follows from its shape and number format alone, never from its own extremes, so
that a dark picture stays dark. Knows nothing about files, colours or transparency.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor

FLOAT_TOLERANCE = 1e-3
"""How far a float pixel may leave [0, 1]: rounding overshoots by less, a wrong unit by more."""


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor; where torch was never imported, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def from_array(pixels: npt.NDArray[Any] | Tensor, limit: int) -> Image.Image:
    """An image of mode L, RGB or RGBA with 8 bits a channel.

    Args:
        pixels: an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor (H, W), (1, H, W),
            (3, H, W) or (4, H, W) on any device; uint8, uint16, bool or floats in [0, 1].
        limit: largest H times W.
    Raises:
        ImageError: another shape or type, values outside their range, too many pixels.
    """
    array = _in_memory(pixels) if is_tensor(pixels) else cast(npt.NDArray[Any], pixels)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise _wrong_layout(array)
    height, width = array.shape[:2]
    if not 0 < height * width <= limit:
        raise ImageError(_wrong_size(describe_pixels(pixels), width, height, limit))
    if array.dtype != np.uint8:
        array = _scaled(array, describe_pixels(pixels))
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def describe_pixels(pixels: npt.NDArray[Any] | Tensor) -> str:
    """An array or tensor in words, for messages."""
    if not is_tensor(pixels):
        return f"array of shape {pixels.shape} and type {pixels.dtype}"
    shape = "nested shape" if pixels.is_nested else f"shape {tuple(pixels.shape)}"
    return f"tensor of {shape} and type {str(pixels.dtype).removeprefix('torch.')}"


def _wrong_size(name: str, width: int, height: int, limit: int) -> str:
    if width * height == 0:
        return f"{name} has no pixels"
    return too_many_pixels(name, width, height, limit)


def too_many_pixels(name: str, width: int, height: int, limit: int) -> str:
    """The message about a picture that is larger than allowed, and the way out."""
    return (
        f"{name} has {width} x {height} = {width * height:,} pixels, more than the limit of "
        f"{limit:,}; if it can be trusted, raise max_pixels or the environment variable "
        "GLIP_MAX_PIXELS"
    )


def _in_memory(tensor: Tensor) -> npt.NDArray[Any]:
    """(H, W) or (C, H, W) on any device -> (H, W) or (H, W, C) in memory."""
    name = describe_pixels(tensor)
    if tensor.is_nested:
        raise ImageError(f"{name} is no picture; pass its members one by one")
    if tensor.is_quantized:
        raise ImageError(f"{name} is no picture: {_EXPECTED}; pass tensor.dequantize()")
    if tensor.is_meta or str(tensor.layout) != "torch.strided":
        raise ImageError(f"{name} has no dense values; pass a strided tensor with data")
    if tensor.ndim == 3:
        if tensor.shape[0] not in (1, 3, 4):
            hint = (
                "; its channels come last, use .permute(2, 0, 1)"
                if tensor.shape[-1] in (1, 3, 4)
                else ""
            )
            raise ImageError(
                f"{name} is no picture: expected (1, H, W), (3, H, W) or (4, H, W){hint}"
            )
        tensor = tensor.permute(1, 2, 0)
    elif tensor.ndim != 2:
        hint = _batch_hint(tensor.ndim, "C, H, W")
        raise ImageError(f"{name} is no picture: expected (H, W) or (3, H, W){hint}")
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has no such type
        tensor = tensor.float()
    try:
        return tensor.detach().cpu().resolve_neg().resolve_conj().numpy()
    except (TypeError, RuntimeError) as error:  # number formats that numpy does not know
        raise ImageError(f"{name} is no picture: {_EXPECTED}; convert it with .float()") from error


def _wrong_layout(array: npt.NDArray[Any]) -> ImageError:
    """What is wrong with the shape of an array."""
    name = describe_pixels(array)
    if array.ndim != 3:
        hint = _batch_hint(array.ndim, "H, W, C")
        return ImageError(f"{name} is no picture: expected (H, W) or (H, W, 3){hint}")
    hint = ""
    if array.shape[0] in (1, 3, 4):
        hint = "; its channels come first, use array.transpose(1, 2, 0)"
    return ImageError(
        f"{name} is no picture: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}"
    )


_EXPECTED = "expected uint8, uint16, bool or floats in [0, 1]"


def _scaled(pixels: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Any supported type as eight bits."""
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if kind == "b":
        return eight_bits(pixels, full=1)
    if kind == "u" and size == 2:
        return eight_bits(pixels, full=65535)
    if kind != "f":
        raise ImageError(
            f"{name} is no picture: {_EXPECTED}; if the values are 0 ... 255, convert them to uint8"
        )
    low, high = _extremes(pixels, name)
    if low < -FLOAT_TOLERANCE or high > 1 + FLOAT_TOLERANCE:
        unit = low >= 0 and high <= 255
        fix = "divide by 255" if unit else "undo the normalisation or scale it"
        raise ImageError(
            f"{name} has values from {low:g} to {high:g}, floats must lie in [0, 1]; {fix}"
        )
    return eight_bits(np.clip(pixels, 0, 1), full=1)


def from_unbounded(values: npt.NDArray[Any], mode: str, name: str) -> Image.Image:
    """(H, W) of Pillow's modes I and F, which carry no range: the smallest usual one that fits."""
    low, high = _extremes(values, name)
    ranges = (255, 65535) if mode == "I" else (1, 255, 65535)
    full = next((full for full in ranges if high <= full), None)
    if low < 0 or full is None:
        raise ImageError(
            f"{name} has values from {low:g} to {high:g}; "
            f"scale them to 0 ... {' or '.join(map(str, ranges))}"
        )
    return Image.fromarray(eight_bits(values, full=full))


def _extremes(values: npt.NDArray[Any], name: str) -> tuple[float, float]:
    """Lowest and highest value, all being finite."""
    low, high = float(values.min()), float(values.max())  # NaN wins both
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(values.size - np.isfinite(values).sum())
        raise ImageError(
            f"{name} has NaN or infinite values ({count:,} of {values.size:,}); "
            "replace them, for instance with numpy.nan_to_num"
        )
    return low, high


def eight_bits(values: npt.NDArray[Any], *, full: int) -> npt.NDArray[np.uint8]:
    """(H, W, ...) values in [0, full] -> 0 ... 255, rounded, so that x / 255 comes back as x."""
    scaled: npt.NDArray[np.float32] = values.astype(np.float32) * np.float32(255 / full)
    return np.rint(scaled).astype(np.uint8)


def _batch_hint(ndim: int, axes: str) -> str:
    return f"; as a batch (B, {axes}), pass its members one by one" if ndim == 4 else ""
