"""A dynamic head block level by level, a tile at a time: for a CPU, and where there is no Triton.

Three steps: convolve, take moments, combine. The normalised maps are never written out: a group
norm is one factor and one offset per channel, gates and the dynamic ReLU need only means of
channels, so all that follows the convolutions is one weighted sum of their raw results.

Letters as in `levels.py`; B images, C channels, n = h · w cells of one level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.model.ops.deform import (
    SamplingPlan,
    join_plans,
    reread_at_coarser_size,
    sampled_matmul,
    sampling_plan,
)
from glip.model.ops.kept import kept
from glip.model.ops.levels import TAPS, Shape, mean_shares
from glip.model.ops.tiles import tile_length

OFFSETS = 2 * TAPS  # dy and dx of each

# Of what follows the convolutions, numbers of each cell and channel that are in use at a time.
LIVE = 8


def convolve(
    regions: Tensor,
    shapes: Sequence[Shape],
    offset: nn.Conv2d,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> list[list[Tensor]]:
    """Raw results of the three deformable convolutions, before any norm.

    Args:
        regions: (B, A, C), levels finest first, row-major inside each.
        shapes: (height, width) of each level.
        offset: Gives (dy, dx) of each tap, then the logits of their masks.
        weights: (O, C, 3, 3) of the same level, of the finer and of the coarser neighbour.
        biases: (O,) likewise.
    Returns:
        For each direction its levels' (B, n, C); of the coarser one at the neighbour's size.
    """
    sizes = [height * width for height, width in shapes]
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    moved = []
    for level, rows in enumerate(regions.split(sizes, 1)):
        moves = offset(_as_map(rows, shapes[level])).permute(0, 2, 3, 1)
        moves = moves if moves.dtype == torch.float64 else moves.float()
        moved.append((moves[..., :OFFSETS], moves[..., OFFSETS:].sigmoid()))

    def plan(offsets: Tensor, mask: Tensor, read: int, stride: int = 1) -> SamplingPlan:
        return sampling_plan(
            offsets,
            mask,
            input_hw=shapes[read],
            stride=stride,
            first_row=starts[read],
            rows_per_image=regions.shape[1],
        )

    levels = range(len(shapes))
    plans = (
        [plan(*moved[level], level) for level in levels],
        [plan(*moved[level], level - 1, stride=2) for level in levels[1:]],
        [
            plan(
                reread_at_coarser_size(offsets, shapes[level + 1]),
                reread_at_coarser_size(mask, shapes[level + 1]),
                level + 1,
            )
            for level, (offsets, mask) in enumerate(moved[:-1])
        ],
    )
    results: list[list[Tensor]] = []
    for weight, bias, own in zip(weights, biases, plans, strict=True):
        if not own:  # a single level has no neighbours
            results.append([])
            continue
        rows = sampled_matmul(regions, join_plans(own), weight, bias)
        results.append(list(rows.split([part.indices.shape[1] for part in own], 1)))
    return results


def moments(raw: Sequence[Sequence[Tensor]], shapes: Sequence[Shape]) -> Tensor:
    """Moments of each result over its cells, and its mean over the cells of the map it goes to.

    Args:
        raw: What `convolve` returns.
        shapes: (height, width) of each level.
    Returns:
        (3, B, S, C) float32 (float64 if the results are) mean, variance and mean over its level's
        map, segment by segment.
    """
    found = []
    for direction, results in enumerate(raw):
        for level, rows in enumerate(results):
            variance, mean = _variance_and_mean(rows)
            shown = mean
            if direction == 2:
                sides = zip(shapes[level + 1], shapes[level], strict=True)
                y, x = (_cell_shares(*side).to(mean) for side in sides)
                shown = (y[:, None] * x).flatten() @ rows.to(mean.dtype)
            found.append(torch.stack([mean, variance, shown]))
    return torch.stack(found, 2)


def combine(
    raw: Sequence[Sequence[Tensor]],
    weights: Tensor,
    slopes: Tensor,
    biases: Tensor,
    shapes: Sequence[Shape],
) -> Tensor:
    """Weighted sums y of the candidates of each cell, then the larger of two lines of y.

    A coarser candidate is enlarged first. official: bilinear with corners aligned, unlike the
    pyramid's nearest neighbour.

    Args:
        raw: What `convolve` returns.
        weights: (B, S, C) of each segment's results.
        slopes: (B, L, 2, C) of both lines.
        biases: (B, L, 2, C) of both lines.
        shapes: (height, width) of each level.
    Returns:
        (B, A, C) in the dtype of the results.
    """
    same, finer, coarser = raw
    count = len(shapes)
    tiles = []
    for level, shape in enumerate(shapes):
        parts, segments = [same[level]], [level]
        if level > 0:
            parts.append(finer[level - 1])
            segments.append(count + level - 1)
        if level < count - 1:
            small = _as_map(coarser[level], shapes[level + 1])
            large = F.interpolate(small, size=shape, mode="bilinear", align_corners=True)
            parts.append(large.permute(0, 2, 3, 1).flatten(1, 2))
            segments.append(2 * count - 1 + level)
        own = weights[:, segments, None].unbind(1)  # (B, 1, C) of each candidate
        (slope_1, slope_2), (bias_1, bias_2) = (
            lines[:, level, :, None].unbind(1) for lines in (slopes, biases)
        )
        for tile in zip(*(part.split(_tile_length(part), 1) for part in parts), strict=True):
            y = tile[0].to(own[0].dtype) * own[0]
            for rows, weight in zip(tile[1:], own[1:], strict=True):
                y = torch.addcmul(y, rows.to(y.dtype), weight)
            first, second = torch.addcmul(bias_1, y, slope_1), torch.addcmul(bias_2, y, slope_2)
            tiles.append(torch.maximum(first, second).to(parts[0].dtype))
    return torch.cat(tiles, 1)


@kept(64)
def _cell_shares(coarse: int, fine: int) -> Tensor:
    """(coarse,) see `mean_shares`."""
    return torch.from_numpy(mean_shares(coarse, fine))


def _as_map(rows: Tensor, shape: Shape) -> Tensor:
    """(B, n, C) -> (B, C, h, w), a view with channels last.

    Not `rows.mT.unflatten(2, shape)`: of one image that has strides which torch takes for the other
    layout, and convolution and interpolation begin or end with a copy.
    """
    return rows.unflatten(1, shape).permute(0, 3, 1, 2)


def _tile_length(raw: Tensor) -> int:
    """Cells of (B, n, C) that are worked on at a time."""
    return tile_length(LIVE * raw[:, 0].numel() * 4, raw.device)


def _variance_and_mean(raw: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) each, over the cells of (B, n, C), in float32 (float64 if that is what they are)."""
    wide = raw.dtype if raw.dtype == torch.float64 else torch.float32
    if raw.device.type != "cpu" or torch.is_grad_enabled():
        return torch.var_mean(raw.to(wide), 1, correction=0)
    # On a CPU torch's own is six times slower along this axis. Sums of squares begin at the first
    # cell's values rather than at zero, so nothing cancels where a mean is far from it.
    start = raw[:, :1].to(wide)
    total = squares = torch.zeros_like(start[:, 0])
    for tile in raw.split(_tile_length(raw), 1):
        difference = tile.to(wide) - start
        total = total + difference.sum(1)
        squares = squares + difference.square().sum(1)
    shift = total / raw.shape[1]
    return (squares / raw.shape[1] - shift.square()).clamp(min=0), shift + start[:, 0]
