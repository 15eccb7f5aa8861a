"""ATSS: which anchors answer for which box (arXiv 1912.02424, algorithm 1).

All pictures of a batch at once, and nothing is read back from a GPU on the way. Knows nothing about
phrases, predictions or losses. Letters: B pictures, N boxes, A anchors, K candidates of a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glip.boxes import iou

CANDIDATES_PER_LEVEL = 9
CENTRE_MARGIN = 0.01  # pixels by which an anchor's centre must lie inside its box


class Assignment(NamedTuple):
    """The box that each anchor of each picture answers for, if any."""

    positive: Tensor
    """(B, A) bool, whether there is one."""
    rows: Tensor
    """(B, A) int64, that of the box; any of a negative anchor. A box may have no anchor at all."""


@torch.no_grad()
def assign(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Assignment:
    """Positive anchors of each box.

    Candidates of a box are the anchors with the nearest centres on each level. Those among them are
    positive whose IoU with the box reaches the mean plus the standard deviation of all its
    candidates' IoUs, so each box gets a threshold of its own.

    Args:
        boxes: (B, N, 4) xyxy, pixels; N from 1. A box of no size has no anchor's centre inside, and
            so no anchor: such ones fill the rows of pictures with fewer boxes.
        anchors: (A, 4) xyxy, pixels of the same frame, two or more.
        level_sizes: Anchors of each level, finest first; they sum to A. Levels of fewer than nine
            anchors give all they have.
    """
    candidates = _nearest(boxes, anchors, level_sizes)  # (B, N, K)
    near, wanted = anchors[candidates], boxes[:, :, None]  # (B, N, K, 4), (B, N, 1, 4)
    overlap = iou(near, wanted)
    threshold = overlap.mean(-1) + overlap.std(-1)  # official: unbiased deviation
    centres = (near[..., :2] + near[..., 2:]) / 2
    inside = torch.cat([centres - wanted[..., :2], wanted[..., 2:] - centres], -1).amin(-1)
    positive = (overlap >= threshold[..., None]) & (inside > CENTRE_MARGIN)

    # An anchor that several boxes claim goes to the one that it overlaps most; the first on ties.
    claims = overlap.new_full((*boxes.shape[:2], len(anchors)), -1.0)
    best = claims.scatter_(-1, candidates, overlap.where(positive, -1.0)).max(1)
    return Assignment(best.values >= 0, best.indices)


def _nearest(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """(B, N, K) rows of anchors, the nearest of each level; `assign` has the arguments."""
    across, down = (
        ((boxes[..., axis] + boxes[..., axis + 2]) / 2)[..., None]
        - (anchors[:, axis] + anchors[:, axis + 2]) / 2
        for axis in (0, 1)
    )
    distance = (across.square() + down.square()).sqrt()  # (B, N, A)
    levels, start = [], 0
    for size, level in zip(level_sizes, distance.split(list(level_sizes), -1), strict=True):
        nearest = level.topk(min(CANDIDATES_PER_LEVEL, size), largest=False).indices
        levels.append(nearest + start)
        start += size
    return torch.cat(levels, -1)
