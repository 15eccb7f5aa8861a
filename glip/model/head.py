"""The head: fusion, text layer and dynamic block in turn (Eq. 4 to 6), then the outputs.

Region-word alignment logits (Eq. 3) stand where other detectors have classifier logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.model.dyhead import DyHeadBlock
from glip.model.fusion import BiAttention
from glip.model.initial import normal_
from glip.model.ops.linear import linear_each
from glip.model.text_encoder import TextLayer, Words

PRIOR = 0.01  # probability that an untrained model gives to any region-word pair


class HeadOutput(NamedTuple):
    """What the model says of a batch; the criterion and post-processing need nothing else."""

    logits: Tensor
    """(B, A, T) float32 region-word alignment, before the sigmoid."""
    deltas: Tensor
    """(B, A, 4) float32, see `glip.boxes.decode_boxes`."""
    centerness: Tensor
    """(B, A) float32, before the sigmoid."""
    anchors: Tensor
    """(A, 4) xyxy, pixels of the padded batch."""
    level_sizes: tuple[int, ...]
    """Anchors of each level, finest first; they sum to A."""


class Tower(NamedTuple):
    """What the blocks leave: the input of the output layers."""

    regions: Tensor
    """(B, A, C)."""
    words: Words


class HeadStage(nn.Module):
    """One step of the tower: words and regions meet, then each is refined on its own.

    Args:
        block: The visual part.
        fusion: Deep fusion; None in models of type (A), where words pass unchanged.
        text_layer: Refines the fused words; present exactly when fusion is.
    """

    def __init__(
        self,
        block: DyHeadBlock,
        fusion: BiAttention | None = None,
        text_layer: TextLayer | None = None,
    ) -> None:
        super().__init__()
        assert (fusion is None) == (text_layer is None)
        self.fusion = fusion
        self.text_layer = text_layer
        self.block = block

    def forward(self, tower: Tower, shapes: Sequence[tuple[int, int]]) -> Tower:
        """The next state of both sides, regions (B, A, C) and words (B, T, D).

        Args:
            tower: The present one.
            shapes: (height, width) of each level.
        """
        regions, words = tower
        if self.fusion is not None and self.text_layer is not None:
            regions, words = self.fusion(regions, words)
            words = self.text_layer(words)
        return Tower(self.block(regions, shapes), words)


class Outputs(nn.Module):
    """Alignment logits, box deltas and centerness of each region, always in float32.

    Args:
        visual_dim: C, width of a region.
        text_dim: D, width of a token.
        levels: Levels of the pyramid; each has a learned scale for its deltas.
    """

    def __init__(self, visual_dim: int, text_dim: int, levels: int) -> None:
        super().__init__()
        self.project = nn.Linear(text_dim, visual_dim)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.word_bias = nn.Parameter(torch.zeros(text_dim))
        self.bias = nn.Parameter(torch.full((1,), -math.log((1 - PRIOR) / PRIOR)))
        self.deltas = nn.Linear(visual_dim, 4)
        self.centerness = nn.Linear(visual_dim, 1)
        self.scales = nn.Parameter(torch.ones(levels))
        for layer in (self.deltas, self.centerness):
            normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def align(self, regions: Tensor, words: Words) -> Tensor:
        """Eq. 3: (B, A, T) logits of regions (B, A, C) and words (B, T, D).

        official: a token is scaled to length one; the projection takes half of it, the bias all.
        """
        with torch.autocast(regions.device.type, enabled=False):
            states = F.normalize(words.states.float(), dim=-1, eps=1e-12)
            projected = self.project(states / 2) / self.log_scale.exp()  # (B, T, C)
            bias = states @ self.word_bias + self.bias  # (B, T)
            return linear_each(regions.float(), projected, bias)

    def locate(self, regions: Tensor, level_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, A, 4) deltas and (B, A) centerness logits of regions (B, A, C)."""
        with torch.autocast(regions.device.type, enabled=False):
            regions = regions.float()
            scale = torch.cat([s.expand(n) for s, n in zip(self.scales, level_sizes, strict=True)])
            return self.deltas(regions) * scale[:, None], self.centerness(regions)[..., 0]


class Head(nn.Module):
    """Stages and outputs over a pyramid whose levels lie in one row.

    Args:
        stages: The tower, first stage first.
        outputs: The layers on top of it.
    """

    def __init__(self, stages: Sequence[HeadStage], outputs: Outputs) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.outputs = outputs
        self.fused = stages[0].fusion is not None

    def tower(self, pyramid: Sequence[Tensor], words: Words) -> Tower:
        """All stages.

        Args:
            pyramid: (B, C, H_l, W_l), finest first.
            words: (B, T, D) of the same batch. Without fusion they come out as they went in.
        Returns:
            Regions (B, A, C), all levels in one row, and words (B, T, D).
        """
        shapes = [cast(tuple[int, int], tuple(level.shape[-2:])) for level in pyramid]
        regions = torch.cat([level.flatten(2).mT for level in pyramid], 1)  # (B, A, C)
        state = Tower(regions, words)
        for stage in self.stages:
            state = stage(state, shapes)
        return state
