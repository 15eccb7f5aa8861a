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

from glip.model.deform import (
    SamplingPlan,
    join_plans,
    reread_at_coarser_size,
    sampled_matmul,
    sampling_plan,
)

TAPS = 9  # of a 3x3 kernel
OFFSETS = 2 * TAPS  # dy and dx of each


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
            moves = self.offset(rows.mT.unflatten(2, shapes[level])).permute(0, 2, 3, 1).float()
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
            levels.append(self._combine(candidates))
        return torch.cat(levels, 1)

    def _normalised(self, norm: nn.GroupNorm, raw: Tensor) -> _Candidate:
        """Group norm as a factor and an offset of each channel."""
        variance, mean = torch.var_mean(raw.float(), 1, correction=0)  # (B, C) over cells
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
        maps = raw.mT.unflatten(2, from_hw)
        large = F.interpolate(maps, size=to_hw, mode="bilinear", align_corners=True)
        y, x = (_cell_shares(a, b).to(raw.device) for a, b in zip(from_hw, to_hw, strict=True))
        mean = (y[:, None] * x).flatten() @ raw.float()  # (B, C) over the cells of `large`
        return _Candidate(
            large.flatten(2).mT, small.factor, small.offset, mean * small.factor + small.offset
        )

    def _combine(self, candidates: Sequence[_Candidate]) -> Tensor:
        """Scale attention over the candidates, then the dynamic ReLU: (B, n, C)."""
        count = len(candidates)
        # official: a hard sigmoid after a ReLU, so no candidate weighs less than a half.
        gates = [F.hardsigmoid(self._linear(self.gate, c.mean).relu()) / count for c in candidates]
        mean = torch.stack([g * c.mean for g, c in zip(gates, candidates, strict=True)]).sum(0)
        y = candidates[0].raw * (gates[0] * candidates[0].factor)[:, None]
        for gate, candidate in zip(gates[1:], candidates[1:], strict=True):
            y = torch.addcmul(y, candidate.raw.to(y.dtype), (gate * candidate.factor)[:, None])
        shift = torch.stack([g * c.offset for g, c in zip(gates, candidates, strict=True)]).sum(0)

        hidden = self._linear(self.squeeze, mean).relu()
        code = F.hardsigmoid(self._linear(self.excite, hidden)) - 0.5
        slope_1, bias_1, slope_2, bias_2 = code.chunk(4, 1)  # (B, C) each
        slope_1, slope_2 = 2 * slope_1 + 1, 2 * slope_2
        first = torch.addcmul((shift * slope_1 + bias_1)[:, None], y, slope_1[:, None])
        second = torch.addcmul((shift * slope_2 + bias_2)[:, None], y, slope_2[:, None])
        return torch.maximum(first, second).to(candidates[0].raw.dtype)

    @staticmethod
    def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
        """The layer on float32 means (float64 in a float64 model), whatever the model runs in."""
        return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
