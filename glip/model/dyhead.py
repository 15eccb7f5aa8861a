"""Dynamic head block: deformable convolution, scale attention, dynamic ReLU (arXiv 2106.08322).

Each level hears itself and its two neighbours. What is as large as the maps happens in
`glip/model/ops`; what stands here works on means of their channels.

Letters: B images, A cells of all levels in one row, C channels, L levels; S candidates of all
levels, which `glip/model/ops/levels.py` calls segments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.model.initial import normal_
from glip.model.ops import by_level, table
from glip.model.ops.levels import MOVES, TAPS, membership


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


class _Choice(NamedTuple):
    """What each level makes of its candidates: the larger of two lines of their weighted sum."""

    weights: Tensor  # (B, S, C) of the raw results: gates and norms in one
    slopes: Tensor  # (B, L, 2, C)
    biases: Tensor  # (B, L, 2, C)


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
        self.offset = nn.Conv2d(channels, MOVES, 3, padding=1)
        self.gate = nn.Linear(channels, 1)
        self.squeeze = nn.Linear(channels, channels // 4)
        self.excite = nn.Linear(channels // 4, 4 * channels)
        normal_(self.gate.weight, std=0.01)
        nn.init.zeros_(self.gate.bias)

    def forward(self, regions: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """The levels after one round of talk between neighbours.

        Args:
            regions: (B, A, C), levels finest first, row-major inside each.
            shapes: (height, width) of each level.
        Returns:
            (B, A, C).
        """
        ops = table if table.serves(regions.device) else by_level
        convs = self.same, self.finer, self.coarser
        weights, biases = [conv.weight for conv in convs], [conv.bias for conv in convs]
        raw = ops.convolve(regions, shapes, self.offset, weights, biases)
        with torch.autocast(regions.device.type, enabled=False):
            choice = self._choose(*ops.moments(raw, shapes), levels=len(shapes))
        return ops.combine(raw, *choice, shapes)

    def _choose(self, mean: Tensor, variance: Tensor, shown: Tensor, *, levels: int) -> _Choice:
        """Group norm, scale attention and dynamic ReLU, of (B, S, C) moments.

        Args:
            mean: (B, S, C) of each candidate over its cells.
            variance: (B, S, C) likewise.
            shown: (B, S, C) mean over the level's map, to which a coarser candidate is enlarged.
            levels: L.
        Returns:
            Weights (B, S, C), slopes and biases (B, L, 2, C).
        """
        convs = self.same, self.finer, self.coarser
        norms = [part for conv in convs for part in (conv.norm.weight, conv.norm.bias)]
        layers = self.gate, self.squeeze, self.excite
        linear = [part for layer in layers for part in (layer.weight, layer.bias)]
        small = _widened([*norms, *linear], mean.dtype)
        of = membership(levels, str(mean.device), mean.dtype)

        # A group norm as one factor and one offset of each channel.
        groups = self.same.norm.num_groups, -1
        norm = torch.stack(small[:6]).unflatten(0, (3, 2)).index_select(0, of.directions)
        weight, bias = norm.unflatten(-1, groups).unbind(1)  # (S, groups, channels of a group)
        between, group_mean = torch.var_mean(
            mean.unflatten(-1, groups), -1, correction=0, keepdim=True
        )
        group_variance = variance.unflatten(-1, groups).mean(-1, keepdim=True) + between
        factor = weight * (group_variance + self.same.norm.eps).rsqrt()
        offset = torch.addcmul(bias, group_mean, factor, value=-1).flatten(-2)
        factor = factor.flatten(-2)  # (B, S, C), as is the offset
        shown = torch.addcmul(offset, shown, factor)  # of the normalised map

        # Scale attention. official: a hard sigmoid after a ReLU, so no candidate weighs less than a
        # half; their mean is taken, not their sum.
        gate = F.hardsigmoid(F.linear(shown, small[6], small[7]).relu()) * of.shares  # (B, S, 1)
        gated = torch.stack([shown, offset, factor]) * gate  # (3, B, S, C)
        mean, shift = of.levels @ gated[:2]  # (B, L, C) each, of the sum of a level's candidates

        # Dynamic ReLU (arXiv 2003.10027): slopes begin at 1 and 0.
        hidden = F.linear(mean, small[8], small[9]).relu()
        code = F.hardsigmoid(F.linear(hidden, small[10], small[11])).unflatten(-1, (2, 2, -1))
        slope, bias = code.unbind(-2)  # (B, L, 2, C), in [0, 1]
        slopes = torch.add(of.lines, slope, alpha=2)
        biases = torch.addcmul(bias - 0.5, shift[:, :, None], slopes)
        return _Choice(gated[2], slopes, biases)


def _widened(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Small tensors in another number format, all at once: on a GPU every launch costs the same."""
    if all(tensor.dtype == dtype for tensor in tensors):
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors]).to(dtype)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
