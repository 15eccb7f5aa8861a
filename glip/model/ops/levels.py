"""How levels of a pyramid that lie in one table of rows read one another: tables of places.

Everything here depends on the sizes of the levels only. It is made on the host, uploaded once for
each size and device, and never read back.

Directions, of the outputs of a dynamic head block: each level reads itself (*same*, levels 0 to
L - 1), each but the first reads its *finer* neighbour (levels 1 to L - 1), and each but the last
its *coarser* one, whose output has the neighbour's size (again levels 1 to L - 1). A *segment* is a
level of one direction.

Letters: L levels, A cells of all levels, Q outputs of all directions, S segments, K taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from glip.model.ops.kept import kept
from glip.model.ops.transfer import uploaded

TAPS = 9  # of a 3x3 kernel
MOVES = 3 * TAPS  # dy and dx of each tap, then the logits of their masks
CHUNK = 64  # rows that one program of a kernel goes through

Shape = tuple[int, int]
Ints = NDArray[np.int64]


class Chunks(NamedTuple):
    """Runs of at most `CHUNK` rows that lie in one segment, those of one segment side by side."""

    runs: Tensor  # (N, 5) int32: segment; first output and number of outputs of its direction;
    #               where the run begins and ends among them
    of_segments: Tensor  # (S, 3) int32: first chunk, one past the last, rows
    shares: Tensor  # (Q,) float32 share of each output in the mean over its level's map


class Cells(NamedTuple):
    """What the cells of each level choose from."""

    runs: Tensor  # (N', 5) int32: those of the first direction
    corners: Tensor  # (A, 4) int32 coarser outputs around a cell, counted from their first
    weights: Tensor  # (A, 4) float32 their shares in the enlarged map
    counts: tuple[int, int]  # A, and outputs of each other direction


class Mosaic(NamedTuple):
    """All levels side by side in one map, a cell or more apart, so that one convolution does."""

    size_hw: Shape
    rows: Tensor  # (h · w,) int32 row of the table; any row between the levels
    keep: Tensor  # (h · w, 1) bool, False between the levels


class Layout(NamedTuple):
    """Places of one pyramid, on one device."""

    counts: tuple[int, int, int]  # outputs of each direction; they sum to Q
    mosaic: Mosaic
    moves: Tensor  # (Q · MOVES,) int32 place in an image's (h · w, MOVES) moves of the mosaic
    grid: Tensor  # (Q, 5) int32: first row, height and width of the map that is read; y, x of tap 0
    chunks: Chunks
    cells: Cells


def segments(levels: int) -> list[tuple[int, int]]:
    """(direction, level that chooses from it) of each segment."""
    return (
        [(0, level) for level in range(levels)]
        + [(1, level) for level in range(1, levels)]
        + [(2, level) for level in range(levels - 1)]
    )


class Membership(NamedTuple):
    """Which candidates a level chooses from, and where they come from."""

    directions: Tensor  # (S,) int64
    levels: Tensor  # (L, S), one where a segment is a candidate of a level
    shares: Tensor  # (S, 1), one by the number of candidates of its level
    lines: Tensor  # (2, 1) what is added to the slopes of the two lines of a dynamic ReLU


@kept(16)
def membership(levels: int, device: str, dtype: torch.dtype) -> Membership:
    """Of a pyramid of so many levels, in the number format of the sums, float32 or float64."""
    wide = np.float64 if dtype == torch.float64 else np.float32
    directions, chosen = (np.array(part) for part in zip(*segments(levels), strict=True))
    matrix = np.arange(levels)[:, None] == chosen
    return Membership(
        uploaded(torch.from_numpy(directions), device),
        uploaded(torch.from_numpy(matrix.astype(wide)), device),
        uploaded(torch.from_numpy((1 / matrix.sum(1)[chosen][:, None]).astype(wide)), device),
        uploaded(torch.from_numpy(np.array([[0.0], [-1.0]], wide)), device),
    )


@kept(48)  # data whose pictures have all shapes come in some forty sizes; 6 MB for each
def layout(shapes: tuple[Shape, ...], device: str) -> Layout:
    """Places for levels of these (height, width), finest first."""
    sizes = [height * width for height, width in shapes]
    starts = np.cumsum([0, *sizes])
    rest = int(starts[-1]) - sizes[0]
    counts = (int(starts[-1]), rest, rest)
    size_hw, canvas = _mosaic(shapes)
    levels = range(len(shapes))
    own = [canvas[level].reshape(-1, 1) * MOVES + np.arange(MOVES) for level in levels]
    reread = [_reread(canvas[fine], shapes[fine + 1]) for fine in levels[:-1]]
    from_same = [_read(shapes[level], shapes[level], starts[level]) for level in levels]
    from_finer = [
        _read(shapes[level], shapes[level - 1], starts[level - 1], stride=2) for level in levels[1:]
    ]
    rows = np.zeros(size_hw, np.int64)
    keep = np.zeros(size_hw, bool)
    for level in levels:
        rows.flat[canvas[level].ravel()] = starts[level] + np.arange(sizes[level])
        keep.flat[canvas[level].ravel()] = True
    enlarged = [_enlarged(shapes[level + 1], shapes[level]) for level in levels[:-1]]
    first = starts[1:-1] - sizes[0]  # of each level's outputs in the coarser direction
    corners = [places + start for (places, _), start in zip(enlarged, first, strict=True)]
    weights = [weight for _, weight in enlarged]
    shares = [
        np.bincount(places.ravel(), weight.ravel(), sizes[level + 1]) / sizes[level]
        for level, (places, weight) in enumerate(enlarged)
    ]
    equal = [np.full(size, 1 / size) for size in sizes]
    runs, of_segments, same = _runs(sizes, counts)
    none = np.zeros((sizes[-1], 4))  # the coarsest level has no coarser neighbour

    def on_device(parts: Sequence[NDArray[Any]], dtype: DTypeLike) -> Tensor:
        return uploaded(torch.from_numpy(np.concatenate(parts).astype(dtype)), device)

    return Layout(
        counts,
        Mosaic(
            size_hw,
            on_device([rows.ravel()], np.int32),
            on_device([keep.reshape(-1, 1)], np.bool_),
        ),
        on_device([part.ravel() for part in own + own[1:] + reread], np.int32),
        on_device(from_same + from_finer + from_same[1:], np.int32),
        Chunks(
            on_device([runs], np.int32),
            on_device([of_segments], np.int32),
            on_device([*equal, *equal[1:], *shares], np.float32),
        ),
        Cells(
            on_device([runs[:same]], np.int32),
            on_device([*corners, none], np.int32),
            on_device([*weights, none], np.float32),
            counts[:2],
        ),
    )


def _mosaic(shapes: Sequence[Shape]) -> tuple[Shape, list[Ints]]:
    """Its (height, width), and for each level the (h, w) places of its cells, row by row."""
    (height, width), rest = shapes[0], shapes[1:]
    lefts = np.cumsum([0, *(w + 1 for _, w in rest)])
    size_hw = height, max(width, int(lefts[-1]))
    if rest:
        size_hw = height + 1 + max(h for h, _ in rest), size_hw[1]
    corners = [(0, 0), *((height + 1, int(left)) for left in lefts[:-1])]
    places = np.arange(size_hw[0] * size_hw[1]).reshape(size_hw)
    return size_hw, [
        places[top : top + h, left : left + w]
        for (top, left), (h, w) in zip(corners, shapes, strict=False)
    ]


def reread_places(fine: Shape, coarse: Shape, channels: int) -> tuple[Ints, Ints]:
    """Where a coarser level finds its moves among those of its finer neighbour.

    Args:
        fine: (H, W) of the finer level.
        coarse: (h, w) of the coarser one.
        channels: N, of the buffer: offsets and masks have one each.
    Returns:
        (h · w, N) cell of the finer level, and channel there.
    """
    # official: the kernel is handed the finer level's (N, H, W) buffer and reads its first
    # N * h * w numbers as (N, h, w). Neither a crop nor a resize; the weights were trained with it.
    cells = fine[0] * fine[1]
    used = coarse[0] * coarse[1]
    assert used <= cells, f"{coarse} is larger than {fine}"
    place = np.arange(channels) * used + np.arange(used)[:, None]
    return place % cells, place // cells


def _reread(fine: Ints, coarse: Shape) -> Ints:
    """(h · w, MOVES) places of what a coarser level reads, see `_mosaic` for `fine`."""
    parts = []
    for begin, channels in ((0, 2 * TAPS), (2 * TAPS, TAPS)):
        cell, channel = reread_places((fine.shape[0], fine.shape[1]), coarse, channels)
        parts.append(fine.ravel()[cell] * MOVES + channel + begin)
    return np.concatenate(parts, 1)


def _read(out: Shape, read: Shape, start: int, stride: int = 1) -> Ints:
    """(h · w, 5) rows of the grid, of outputs of one size that read a map of another."""
    y, x = (axis.ravel() * stride - 1 for axis in np.indices(out))  # padded by one
    fixed = np.broadcast_to(np.array([start, *read]), (len(y), 3))
    return np.concatenate([fixed, np.stack([y, x], 1)], 1)


def _enlarged(small: Shape, large: Shape) -> tuple[Ints, NDArray[np.float64]]:
    """(H · W, 4) cells of a small map and their weights in each cell of it, enlarged bilinearly.

    official: corners are aligned, unlike in the pyramid.
    """
    sides = zip(small, large, strict=True)
    (top, bottom, down), (left, right, along) = (_stretched(*side) for side in sides)
    places = [y[:, None] * small[1] + x for y in (top, bottom) for x in (left, right)]
    weights = [y[:, None] * x for y in (1 - down, down) for x in (1 - along, along)]
    return tuple(np.stack(part, -1).reshape(-1, 4) for part in (places, weights))  # type: ignore


def _stretched(few: int, many: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """(many,) cells before and behind each cell of a stretched axis, and what the latter counts."""
    step = (few - 1) / (many - 1) if many > 1 else 0.0
    position: NDArray[np.float64] = np.arange(many) * np.float64(step)
    low = np.minimum(position.astype(np.int64), few - 1)
    return low, np.minimum(low + 1, few - 1), position - low


def mean_shares(few: int, many: int) -> NDArray[np.float32]:
    """(few,) share of each cell of an axis in the mean over it when stretched to `many` cells."""
    low, high, share = _stretched(few, many)
    total = np.bincount(low, 1 - share, few) + np.bincount(high, share, few)
    return (total / many).astype(np.float32)


def _runs(sizes: Sequence[int], counts: Sequence[int]) -> tuple[Ints, Ints, int]:
    """The runs and segments of `Chunks`, and how many runs the first direction has."""
    runs: list[tuple[int, int, int, int, int]] = []
    of_segments: list[tuple[int, int, int]] = []
    for direction, count in enumerate(counts):
        first, begin = sum(counts[:direction]), 0
        for size in sizes if direction == 0 else sizes[1:]:
            chunk = len(runs)
            ends = [*range(begin, begin + size, CHUNK), begin + size]
            runs += [
                (len(of_segments), first, count, start, stop) for start, stop in pairwise(ends)
            ]
            of_segments.append((chunk, len(runs), size))
            begin += size
    same = sum(-(-size // CHUNK) for size in sizes)
    return np.array(runs), np.array(of_segments), same
