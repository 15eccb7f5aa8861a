"""All box arithmetic: IoU, GIoU, clipping, and the deltas between anchors and boxes.

Boxes are (N, 4) xyxy in pixels. The official code counts pixels inclusively in most places: a box
from 0 to 9 is 10 wide. Functions that do so say it (`official: plus one`). Whoever uses the package
sees edges instead, as files and other programs have them: that box is from 0 to 10; `to_edges` and
`to_last_pixels` are the two ways over the border.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CENTRE_WEIGHT = 10.0  # deltas are scaled so that the four components have similar spread
SIZE_WEIGHT = 5.0
MAX_LOG_SIZE = math.log(1000 / 16)  # a predicted side grows at most this much over its anchor's


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 2) centres and (..., 2) sides of boxes. official: plus one in the sides only."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + 1


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas (dx, dy, dw, dh) that carry each anchor onto its box; `decode_boxes` is the inverse.

    Args:
        boxes: (..., 4) xyxy, pixels, paired row by row with the anchors.
        anchors: (..., 4) xyxy, pixels.
    Returns:
        (..., 4), centre offsets times 10 and log sizes times 5.
    """
    box_centre, box_size = _centres_and_sizes(boxes)
    anchor_centre, anchor_size = _centres_and_sizes(anchors)
    return torch.cat(
        [
            CENTRE_WEIGHT * (box_centre - anchor_centre) / anchor_size,
            SIZE_WEIGHT * (box_size / anchor_size).log(),
        ],
        -1,
    )


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes that deltas make of anchors.

    Args:
        deltas: (..., 4) as of `encode_boxes`; log sizes above log(1000 / 16) are cut there.
        anchors: (..., 4) xyxy, pixels, paired row by row or broadcast.
    Returns:
        (..., 4) xyxy, pixels; not clipped to the picture.
    """
    anchor_centre, anchor_size = _centres_and_sizes(anchors)
    centre = deltas[..., :2] / CENTRE_WEIGHT * anchor_size + anchor_centre
    size = (deltas[..., 2:] / SIZE_WEIGHT).clamp(max=MAX_LOG_SIZE).exp() * anchor_size
    half = (size - 1) / 2  # official: plus one
    return torch.cat([centre - half, centre + half], -1)


def clip_boxes(boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Boxes cut at the border pixels. official: x to [0, width - 1], y to [0, height - 1].

    Args:
        boxes: (..., 4) xyxy, pixels.
        image_hw: Height and width of the picture before padding.
    """
    height, width = image_hw
    limit = boxes.new_tensor([width - 1, height - 1, width - 1, height - 1])
    return torch.minimum(boxes.clamp(min=0), limit)


def _inclusive(boxes: Tensor) -> Tensor:
    """(..., 4) boxes with exclusive far corners, so that plain box arithmetic counts plus one."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + 1], -1)


def to_edges(boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Boxes of a model as users have them: x2 = x + width, inside the picture.

    Args:
        boxes: (..., 4) xyxy, pixels, the last pixel counted in.
        image_hw: Height and width of the picture.
    Returns:
        (..., 4) xyxy, the far edges exclusive.
    """
    height, width = image_hw
    whole = _inclusive(boxes)
    return torch.minimum(whole, whole.new_tensor([width, height, width, height]))


def to_last_pixels(boxes: Tensor) -> Tensor:
    """(..., 4) boxes with exclusive far edges as the model counts them, the last pixel in."""
    return boxes - boxes.new_tensor([0, 0, 1, 1])


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(...) intersection over union of (..., 4) paired or broadcast boxes. official: plus one."""
    (boxes, others) = (_inclusive(boxes), _inclusive(others))
    near = torch.maximum(boxes[..., :2], others[..., :2])
    far = torch.minimum(boxes[..., 2:], others[..., 2:])
    overlap = (far - near).clamp(min=0).prod(-1)
    areas, other_areas = ((b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, others))
    return overlap / (areas + other_areas - overlap)


def iou_matrix(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes. official: plus one."""
    return iou(boxes[:, None], others)


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU (arXiv 1902.09630) of paired boxes, as the box loss uses it.

    official: here without plus one; far corners of the first boxes below the near ones count as
    equal to them, and both areas in a denominator get 1e-7.

    Args:
        boxes: (..., 4) xyxy, predictions.
        others: (..., 4) xyxy, targets, paired row by row.
    Returns:
        (...) in [-1, 1].
    """
    near, far = boxes[..., :2], torch.maximum(boxes[..., :2], boxes[..., 2:])
    overlap = torch.minimum(far, others[..., 2:]) - torch.maximum(near, others[..., :2])
    intersection = torch.where((overlap > 0).all(-1), overlap.prod(-1), 0.0)
    area = (far - near).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1)
    union = area - intersection + 1e-7
    hull = torch.maximum(far, others[..., 2:]) - torch.minimum(near, others[..., :2])
    enclosing = hull.prod(-1) + 1e-7
    return intersection / union - (enclosing - union) / enclosing


def nms_per_label(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Indices that survive greedy non-maximum suppression inside each label, best score first.

    official: plus one in the overlap, and only an overlap strictly above the threshold suppresses.

    Args:
        boxes: (N, 4) xyxy, pixels.
        scores: (N,).
        labels: (N,) int64; boxes of different labels never touch each other.
        threshold: IoU in [0, 1].
    Returns:
        (M,) int64.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    # Labels are kept apart by moving each to its own place. In float64 the shift costs no digits of
    # the coordinates, which torchvision's own batched form loses in float32 with many labels.
    wide = _inclusive(boxes.double())
    place = labels.double() * (wide.max() - wide.min() + 1)
    kept: Tensor = _nms()(wide + place[:, None], scores.double(), threshold)
    return kept


@cache
def _nms() -> Any:
    """Torchvision's operator, from its library of operators alone where that is found.

    All of torchvision takes longer to import than a prediction.
    """
    package = find_spec("torchvision")
    for folder in package.submodule_search_locations or () if package else ():
        for library in sorted(Path(folder).glob("_C*.*")):
            if not hasattr(torch.ops.torchvision, "nms"):
                with suppress(OSError):
                    torch.ops.load_library(str(library))
    if not hasattr(torch.ops.torchvision, "nms"):
        import_module("torchvision")
    return torch.ops.torchvision.nms
