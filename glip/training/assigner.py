"""ATSS: which anchors answer for which box (arXiv 1912.02424, algorithm 1).

Knows nothing about phrases, predictions or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glip.boxes import iou_matrix

CANDIDATES_PER_LEVEL = 9
CENTRE_MARGIN = 0.01  # pixels by which an anchor's centre must lie inside its box


class Assignment(NamedTuple):
    """The positive anchors of one picture and the box of each; all others are negative."""

    anchor_indices: Tensor
    """(M,) int64, rising, each at most once."""
    box_indices: Tensor
    """(M,) int64; a box may have no anchor at all."""


def assign(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Assignment:
    """Positive anchors of each box of one picture.

    Candidates of a box are the anchors with the nearest centres on each level. Those among them are
    positive whose IoU with the box reaches the mean plus the standard deviation of all its
    candidates' IoUs, so each box gets a threshold of its own.

    Args:
        boxes: (N, 4) xyxy, pixels; N may be 0.
        anchors: (A, 4) xyxy, pixels of the same frame, two or more.
        level_sizes: Anchors of each level, finest first; they sum to A. Levels of fewer than nine
            anchors give all they have.
    """
    if len(boxes) == 0:
        nothing = torch.empty(0, dtype=torch.int64, device=anchors.device)
        return Assignment(nothing, nothing)
    iou = iou_matrix(anchors, boxes)  # (A, N)
    anchor_centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    box_centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (anchor_centres[:, None] - box_centres).square().sum(-1).sqrt()  # (A, N)

    levels, start = [], 0
    for size, level in zip(level_sizes, distance.split(list(level_sizes)), strict=True):
        nearest = level.topk(min(CANDIDATES_PER_LEVEL, size), dim=0, largest=False).indices
        levels.append(nearest + start)
        start += size
    candidates = torch.cat(levels)  # (K, N), rows of `anchors`

    candidate_iou = iou.gather(0, candidates)  # (K, N)
    threshold = candidate_iou.mean(0) + candidate_iou.std(0)  # official: unbiased deviation
    centres = anchor_centres[candidates]  # (K, N, 2)
    inside = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], -1).amin(-1)
    positive = (candidate_iou >= threshold) & (inside > CENTRE_MARGIN)

    # An anchor that several boxes claim goes to the one that it overlaps most; the first on ties.
    claims = torch.full_like(iou, -1.0)
    rank, box = positive.nonzero(as_tuple=True)
    anchor = candidates[rank, box]
    claims[anchor, box] = iou[anchor, box]
    anchor_indices = (claims.amax(1) >= 0).nonzero()[:, 0]
    return Assignment(anchor_indices, claims[anchor_indices].argmax(1))
