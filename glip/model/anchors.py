"""One square anchor per cell and level, as in ATSS (arXiv 1912.02424).

Knows nothing about pictures or predictions: it turns map sizes into boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glip.model.ops.kept import kept
from glip.model.ops.transfer import uploaded

ANCHOR_STRIDES = 8  # side of an anchor in strides of its level


def cell_anchor(stride: int) -> Tensor:
    """(4,) xyxy of the anchor at the first cell of a level, in pixels of the padded picture.

    official: corners are pixel-inclusive, so a side of `8 * stride` spans `8 * stride - 1`, and the
    centre lies at `(stride - 1) / 2`, half a pixel before the middle of the cell.
    """
    return torch.from_numpy(_corners(stride))


def _corners(stride: int) -> NDArray[np.float32]:
    half, centre = (ANCHOR_STRIDES * stride - 1) / 2, (stride - 1) / 2
    return np.array([centre - half, centre - half, centre + half, centre + half], np.float32)


@kept(48)
def _cached(shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: str) -> Tensor:
    levels = []
    for shape, stride in zip(shapes, strides, strict=True):
        y, x = (axis.ravel() * stride for axis in np.indices(shape))
        levels.append(
            (np.stack([x, y, x, y], 1) + _corners(stride)).astype(np.float32)
        )  # row-major cells
    return uploaded(torch.from_numpy(np.concatenate(levels)), device)


def grid_anchors(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Anchors of all levels, finest first, row-major inside a level.

    Args:
        shapes: (height, width) of each level's map.
        strides: Pixels between neighbouring cells of each level.
    Returns:
        (A, 4) xyxy float32, pixels of the padded picture. Shared between calls: do not write to it.
    """
    return _cached(tuple(shapes), tuple(strides), str(device))
