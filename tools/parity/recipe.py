"""Weights and pictures that anyone can make again from a name, for comparing implementations.

Golden numbers are recorded with pseudo-random weights: the value of a parameter follows from its
official key and shape alone, by integer arithmetic and exactly rounded float64 operations, so every
platform makes the same bits. numpy only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

_STEP = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_SPREAD = math.sqrt((2**32 - 1) / 3)  # deviation of the sum of four uniform 16-bit integers
_BLOCK = 2**20

# Gain of a weight by the end of its key, where it is not one; the first that fits.
_GAINS = (
    (".attention.self.query.weight", 2.0),
    (".attention.self.key.weight", 2.0),
    (".attention.output.dense.weight", 0.3),
    (".output.dense.weight", 0.4),
    (".b_attn.attn.v_proj.weight", 1.5),
    (".b_attn.attn.l_proj.weight", 1.5),
    (".b_attn.attn.out_l_proj.weight", 0.5),
    (".AttnConv.1.weight", 4.0),
    (".relu.fc.0.weight", 1.5),
    (".relu.fc.2.weight", 2.5),
    ("rpn.head.bbox_pred.weight", 3.0),
    ("rpn.head.centerness.weight", 3.0),
    ("rpn.head.dot_product_projection_text.weight", 14.0),
)


def seed(name: str, salt: str = "") -> int:
    """First eight bytes, little endian, of the SHA-256 of salt and name."""
    return int.from_bytes(hashlib.sha256((salt + name).encode()).digest()[:8], "little")


def stream(start: int, first: int, count: int) -> NDArray[np.uint64]:
    """Numbers `first` to `first + count - 1` of the splitmix64 stream that begins at `start`."""
    with np.errstate(over="ignore"):
        z = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(_STEP)
        z += np.uint64(start)
        for shift, factor in _MIX:
            z ^= z >> np.uint64(shift)
            z *= np.uint64(factor)
        z ^= z >> np.uint64(31)
    return z


def units(start: int, count: int) -> NDArray[np.float64]:
    """`count` nearly normal numbers of mean 0 and variance 1: sums of four uniform fields each."""
    out = np.empty(count)
    for first in range(0, count, _BLOCK):
        size = min(_BLOCK, count - first)
        fields = stream(start, first, size).view(np.uint16).reshape(size, 4)
        out[first : first + size] = (fields.sum(1, dtype=np.int64) - 131070) / _SPREAD
    return out


def tensor(
    name: str, shape: Sequence[int], mean: float = 0.0, std: float = 1.0, salt: str = ""
) -> FloatArray:
    """The named float32 array: `mean + std * unit` in float64, rounded once, in C order."""
    values = mean + std * units(seed(name, salt), math.prod(shape))
    return values.astype(np.float32).reshape(tuple(shape))


def is_computed(key: str) -> bool:
    """Whether an entry is a buffer that models compute, to which the recipe does not apply."""
    return key.endswith(("relative_position_index", "position_ids")) or ".cell_anchors." in key


def law(key: str, shape: Sequence[int]) -> tuple[float, float]:
    """Mean and deviation of a parameter from its official key (without `module.`) and shape."""
    exact = {
        "rpn.head.bias0": (-4.0, 0.0),
        "rpn.head.log_scale": (0.3, 0.05),
        "rpn.head.bias_lang": (0.0, 0.5),
    }
    if key in exact:
        return exact[key]
    if key.endswith(("gamma_v", "gamma_l")):
        return 0.5, 0.1
    if key.startswith("rpn.head.scales."):
        return 1.0, 0.1
    if key.endswith(("relative_position_bias_table", "word_embeddings.weight")):
        return 0.0, 0.5
    if key.endswith("_embeddings.weight"):
        return 0.0, 0.2
    if len(shape) >= 2:
        gain = next((gain for end, gain in _GAINS if key.endswith(end)), 1.0)
        return 0.0, gain / math.sqrt(math.prod(shape[1:]))
    if key.endswith(".bn.weight"):
        return 1.5, 0.2
    if key.endswith(".weight"):
        return 1.0, 0.1
    return 0.0, 0.05


def parameter(key: str, shape: Sequence[int], salt: str = "") -> FloatArray:
    """The value of one entry of an official checkpoint."""
    return tensor(key, shape, *law(key, shape), salt)


def image(name: str, height: int, width: int, salt: str = "") -> FloatArray:
    """(3, height, width), as if normalised: triangle waves, eight flat rectangles, fine noise."""

    def triangle(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return 4.0 * np.abs(t - np.floor(t) - 0.5) - 1.0

    y, x = np.arange(height, dtype=float)[:, None], np.arange(width, dtype=float)[None]
    waves = units(seed("waves:" + name, salt), 12).reshape(3, 4)
    picture = np.stack(
        [
            0.7 * triangle((0.011 + 0.004 * a) * x + (0.007 + 0.004 * b) * y + 0.1 * c)
            + 0.3 * triangle((0.043 + 0.01 * d) * x - 0.031 * y)
            for a, b, c, d in waves
        ]
    )
    numbers = stream(seed("rects:" + name, salt), 0, 56).reshape(8, 7).tolist()
    for wide, high, left, top, *colours in numbers:
        wide, high = 12 + wide % max(1, width // 2), 12 + high % max(1, height // 2)
        left, top = left % width, top % height
        for channel, colour in enumerate(colours):
            value = (colour % 4001 - 2000) / 1000.0
            picture[channel, top : top + high, left : left + wide] = value
    noise = units(seed("noise:" + name, salt), 3 * height * width).reshape(3, height, width)
    picture += 0.15 * noise
    return picture.astype(np.float32)


def sample_indices(name: str, size: int, count: int) -> NDArray[np.int64]:
    """Flat indices, in C order, at which a large tensor is recorded; some may repeat."""
    return (stream(seed("sample:" + name), 0, count) % np.uint64(size)).astype(np.int64)
