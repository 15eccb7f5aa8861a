"""Dynamic head block: deformable convolution, scale attention, dynamic ReLU (arXiv 2106.08322).

Each level hears itself and its two neighbours. The normalised maps are never written out: a group
norm is one factor and one offset per channel, gates and the dynamic ReLU (arXiv 2003.10027) need
only means of channels, so all that follows the convolutions is one weighted sum of their raw
results.

Letters: B images, A cells of all levels in one row, C channels, n = h · w cells of one level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

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
from glip.model.ops.tiles import tile_length

TAPS = 9  # of a 3x3 kernel
OFFSETS = 2 * TAPS  # dy and dx of each

# Of what follows the convolutions, numbers of each cell and channel that are in use at a time.
LIVE = 8


class DeformableConv(nn.Module):
    """Weights of one 3x3 deformable convolution and of the group norm behind it.

    Args:
        channels: C in and out.
        groups: Of the norm.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(channels * TAPS)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, table: Tensor, plans: Sequence[SamplingPlan]) -> list[Tensor]:
        """Raw results, before the norm, one (B, n, C) for each plan, all in one pass."""
        rows = sampled_matmul(table, join_plans(plans), self.weight, self.bias)
        return list(rows.split([plan.indices.shape[1] for plan in plans], 1))


class _Candidate(NamedTuple):
    """One of the maps that a level chooses from, `raw * factor + offset` when normalised."""

    raw: Tensor  # (B, n, C) before the norm, at the level's size
    factor: Tensor  # (B, C)
    offset: Tensor  # (B, C)
    mean: Tensor  # (B, C) of the normalised map over its cells


@lru_cache(maxsize=64)
def _cell_shares(coarse: int, fine: int) -> Tensor:
    """(coarse,) share of each cell of an axis in the mean after resizing it to `fine` cells."""
    with torch.inference_mode(False):
        basis = torch.eye(coarse)[None]
        return F.interpolate(basis, size=fine, mode="linear", align_corners=True)[0].mean(-1)


def _as_map(rows: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, n, C) -> (B, C, h, w), a view with channels last.

    Not `rows.mT.unflatten(2, shape)`: of one image that has strides which torch takes for the other
    layout, and convolution and interpolation begin or end with a copy.
    """
    return rows.unflatten(1, shape).permute(0, 3, 1, 2)


def _tile_length(raw: Tensor) -> int:
    """Cells of (B, n, C) that are worked on at a time."""
    return tile_length(LIVE * raw[:, 0].numel() * 4, raw.device)


def _variance_and_mean(raw: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) each, over the cells of (B, n, C), in float32."""
    if raw.device.type != "cpu" or torch.is_grad_enabled():
        return torch.var_mean(raw.float(), 1, correction=0)
    # On a CPU torch's own is six times slower along this axis. Sums of squares begin at the first
    # cell's values rather than at zero, so nothing cancels where a mean is far from it.
    start = raw[:, :1].float()
    total = squares = torch.zeros_like(start[:, 0])
    for tile in raw.split(_tile_length(raw), 1):
        difference = tile.float() - start
        total = total + difference.sum(1)
        squares = squares + difference.square().sum(1)
    shift = total / raw.shape[1]
    return (squares / raw.shape[1] - shift.square()).clamp(min=0), shift + start[:, 0]


class DyHeadBlock(nn.Module):
    """One block over all levels of a pyramid, with the same weights on each.

    Args:
        channels: C.
        groups: Of the group norms.
    """

    def __init__(self, channels: int, groups: int = 16) -> None:
        super().__init__()
        self.coarser = DeformableConv(channels, groups)
        self.same = DeformableConv(channels, groups)
        self.finer = DeformableConv(channels, groups)
        self.offset = nn.Conv2d(channels, OFFSETS + TAPS, 3, padding=1)
        self.gate = nn.Linear(channels, 1)
        self.squeeze = nn.Linear(channels, channels // 4)
        self.excite = nn.Linear(channels // 4, 4 * channels)
        nn.init.normal_(self.gate.weight, std=0.01)
        nn.init.zeros_(self.gate.bias)

    def forward(self, regions: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """The levels after one round of talk between neighbours.

        Args:
            regions: (B, A, C), levels finest first, row-major inside each.
            shapes: (height, width) of each level.
        Returns:
            (B, A, C).
        """
        sizes = [height * width for height, width in shapes]
        starts = [sum(sizes[:level]) for level in range(len(sizes))]
        last = len(shapes) - 1
        total = regions.shape[1]
        same, finer, coarser = [], [], []
        for level, rows in enumerate(regions.split(sizes, 1)):
            moves = self.offset(_as_map(rows, shapes[level])).permute(0, 2, 3, 1).float()
            offsets, mask = moves[..., :OFFSETS], moves[..., OFFSETS:].sigmoid()
            same.append(
                sampling_plan(
                    offsets,
                    mask,
                    input_hw=shapes[level],
                    first_row=starts[level],
                    rows_per_image=total,
                )
            )
            if level > 0:
                finer.append(
                    sampling_plan(
                        offsets,
                        mask,
                        input_hw=shapes[level - 1],
                        stride=2,
                        first_row=starts[level - 1],
                        rows_per_image=total,
                    )
                )
            if level < last:
                coarser.append(
                    sampling_plan(
                        reread_at_coarser_size(offsets, shapes[level + 1]),
                        reread_at_coarser_size(mask, shapes[level + 1]),
                        input_hw=shapes[level + 1],
                        first_row=starts[level + 1],
                        rows_per_image=total,
                    )
                )
        from_same = self.same(regions, same)
        from_finer = self.finer(regions, finer)
        from_coarser = self.coarser(regions, coarser)

        levels = []
        for level in range(len(shapes)):
            candidates = [self._normalised(self.same.norm, from_same[level])]
            if level > 0:
                candidates.append(self._normalised(self.finer.norm, from_finer[level - 1]))
            if level < last:
                candidates.append(
                    self._enlarged(from_coarser[level], shapes[level + 1], shapes[level])
                )
            levels += self._combine(candidates)
        return torch.cat(levels, 1)

    def _normalised(self, norm: nn.GroupNorm, raw: Tensor) -> _Candidate:
        """Group norm as a factor and an offset of each channel."""
        variance, mean = _variance_and_mean(raw)
        groups = (norm.num_groups, -1)
        group_mean = mean.unflatten(1, groups).mean(-1, keepdim=True)
        group_variance = variance.unflatten(1, groups).mean(-1, keepdim=True) + mean.unflatten(
            1, groups
        ).var(-1, correction=0, keepdim=True)
        factor = norm.weight.unflatten(0, groups) * (group_variance + norm.eps).rsqrt()
        offset = norm.bias.unflatten(0, groups) - group_mean * factor
        factor, offset = factor.flatten(1), offset.flatten(1)
        return _Candidate(raw, factor, offset, mean * factor + offset)

    def _enlarged(
        self, raw: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]
    ) -> _Candidate:
        """A coarser neighbour's map: normalised at its own size, then resized to the level's.

        official: bilinear with corners aligned, unlike the pyramid's nearest neighbour.
        """
        small = self._normalised(self.coarser.norm, raw)
        maps = _as_map(raw, from_hw)
        large = F.interpolate(maps, size=to_hw, mode="bilinear", align_corners=True)
        y, x = (_cell_shares(a, b).to(raw.device) for a, b in zip(from_hw, to_hw, strict=True))
        mean = (y[:, None] * x).flatten() @ raw.float()  # (B, C) over the cells of `large`
        rows = large.permute(0, 2, 3, 1).flatten(1, 2)
        return _Candidate(rows, small.factor, small.offset, mean * small.factor + small.offset)

    def _combine(self, candidates: Sequence[_Candidate]) -> list[Tensor]:
        """Scale attention over the candidates, then the dynamic ReLU: (B, n, C) in tiles of n."""
        count = len(candidates)
        # official: a hard sigmoid after a ReLU, so no candidate weighs less than a half.
        gates = [F.hardsigmoid(self._linear(self.gate, c.mean).relu()) / count for c in candidates]
        mean = torch.stack([g * c.mean for g, c in zip(gates, candidates, strict=True)]).sum(0)
        shift = torch.stack([g * c.offset for g, c in zip(gates, candidates, strict=True)]).sum(0)
        hidden = self._linear(self.squeeze, mean).relu()
        code = F.hardsigmoid(self._linear(self.excite, hidden)) - 0.5
        slope_1, bias_1, slope_2, bias_2 = code[:, None].chunk(4, 2)  # (B, 1, C) each
        slope_1, slope_2 = 2 * slope_1 + 1, 2 * slope_2
        bias_1, bias_2 = (shift[:, None] * a + b for a, b in ((slope_1, bias_1), (slope_2, bias_2)))
        weights = [(g * c.factor)[:, None] for g, c in zip(gates, candidates, strict=True)]

        first = candidates[0].raw
        rows = _tile_length(first)
        tiles = []
        for parts in zip(*(candidate.raw.split(rows, 1) for candidate in candidates), strict=True):
            y = parts[0].float() * weights[0]
            for part, weight in zip(parts[1:], weights[1:], strict=True):
                y = torch.addcmul(y, part.float(), weight)
            y = torch.maximum(torch.addcmul(bias_1, y, slope_1), torch.addcmul(bias_2, y, slope_2))
            tiles.append(y.to(first.dtype))
        return tiles

    @staticmethod
    def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
        """The layer on float32 means (float64 in a float64 model), whatever the model runs in."""
        return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
