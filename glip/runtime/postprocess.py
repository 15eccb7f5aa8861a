"""`glip.postprocess` for arrays: what the head of an exported model says -> detections, no torch.

The same rules in the same order; tests hold both to the same detections. Which of several equal
scores comes first may differ.

Letters: A regions of all levels, T tokens, P phrases, N detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from glip.association.matching import iou
from glip.choices import Aggregate
from glip.config import PostprocessOptions
from glip.runtime.sessions import Floats, RegionOutput

CENTRE_WEIGHT, SIZE_WEIGHT, MAX_LOG_SIZE = 10.0, 5.0, np.log(1000 / 16)  # see `glip.boxes`
STRIDES = (8, 16, 32, 64, 128)
ANCHOR_STRIDES = 8  # side of an anchor in strides of its level, see `glip.model.anchors`


class Found(NamedTuple):
    """Detections of one picture, best first."""

    boxes: Floats
    """(N, 4) xyxy."""
    scores: Floats
    """(N,)."""
    labels: npt.NDArray[np.int64]
    """(N,) rows of the token map."""

    def of(self, rows: npt.NDArray[Any]) -> Found:
        """The detections of (n,) rows, by number, or by one truth value for each, (N,)."""
        return Found(self.boxes[rows], self.scores[rows], self.labels[rows])


@lru_cache(maxsize=32)
def anchors_of(shapes: tuple[tuple[int, int], ...]) -> Floats:
    """(A, 4) xyxy of all levels, pixels of the padded picture; shared, do not write to it."""
    levels = []
    for (height, width), stride in zip(shapes, STRIDES, strict=True):
        y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
        shift = np.stack([x, y, x, y], -1).reshape(-1, 4)
        half, centre = (ANCHOR_STRIDES * stride - 1) / 2, (stride - 1) / 2
        levels.append(shift + np.array([centre - half] * 2 + [centre + half] * 2))
    return np.concatenate(levels).astype(np.float32)


def select(
    output: RegionOutput,
    index: int,
    shapes: tuple[tuple[int, int], ...],
    token_map: npt.NDArray[np.bool_],
    image_hw: tuple[int, int],
    options: PostprocessOptions,
) -> Found:
    """What goes into suppression for one picture, see `glip.postprocess.select_candidates`.

    Args:
        output: Of a batch.
        index: Row of the picture in it.
        shapes: (height, width) of each level.
        token_map: (P, T') with T' at most the output's T.
        image_hw: Height and width of the resized picture before padding.
        options: See there.
    """
    logits = output.logits[index, :, : token_map.shape[1]]
    probability = _phrase_probabilities(logits, token_map, options.aggregate)
    floor = max(options.probability, options.score**2)
    anchors, parts, start = anchors_of(shapes), [], 0
    for height, width in shapes:
        stop = start + height * width
        region, label = np.nonzero(probability[start:stop] > floor)
        region = region + start
        ranked = probability[region, label] * _sigmoid(output.centerness[index, region])
        order = np.argsort(-ranked, kind="stable")[: options.candidates_per_level]
        region = region[order]
        boxes = _clipped(_decoded(output.deltas[index, region], anchors[region]), image_hw)
        parts.append(Found(boxes, np.sqrt(ranked[order]), label[order].astype(np.int64)))
        start = stop
    return joined(parts)


def suppress(found: Found, options: PostprocessOptions) -> Found:
    """Non-maximum suppression inside each phrase and the cap, best first."""
    found = found.of(found.scores > options.score) if options.score > 0 else found
    return cap(found.of(_nms(found, found.labels, options.nms)), options.max_detections)


def one_phrase_each(found: Found, options: PostprocessOptions) -> Found:
    """Of boxes that overlap by more than `options.nms`, whatever their phrases, the best stays."""
    return found.of(_nms(found, np.zeros_like(found.labels), options.nms))


def without_negatives(found: Found, phrases: int, overlap: float) -> Found:
    """Detections of the phrases, less those that a negative explains better.

    Args:
        found: Labels from `phrases` on are negatives.
        phrases: How many are asked for.
        overlap: IoU above which a higher-scoring negative takes a detection's place.
    """
    kept, others = found.of(found.labels < phrases), found.of(found.labels >= phrases)
    better = others.scores > kept.scores[:, None]
    beaten = (iou(_wide(kept.boxes), _wide(others.boxes)) > overlap) & better
    return kept.of(np.logical_not(np.any(beaten, axis=1)))


def relabelled(
    found: Found, labels: npt.NDArray[np.int64], phrases: int, options: PostprocessOptions
) -> Found:
    """Detections of wordings and negatives as those of the names they stand for.

    Args:
        found: Detections of everything that was asked, uncapped, best first; far edges exclusive.
        labels: (Q,), of each phrase that was asked the row of its name, from `phrases` on a
            negative.
        phrases: How many names there are.
        options: `nms` between the wordings of a name, and between names and negatives.
    """
    last = np.array([0, 0, 1, 1], np.float32)  # overlaps count the last pixel in, as everywhere
    inner = Found(found.boxes - last, found.scores, labels[found.labels])
    inner = inner.of(_nms(inner, inner.labels, options.nms))
    inner = without_negatives(inner, phrases, options.nms)
    if options.exclusive:
        inner = one_phrase_each(inner, options)
    inner = cap(inner, options.max_detections)
    return inner._replace(boxes=inner.boxes + last)


def merged(parts: Sequence[Found], limit: int) -> Found:
    """Detections of several passes over one picture, best first."""
    found = joined(parts)
    return cap(found.of(np.argsort(-found.scores, kind="stable")), limit)


def joined(parts: Sequence[Found]) -> Found:
    """All parts one after the other."""
    return Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def cap(found: Found, limit: int) -> Found:
    """The `limit` best, and official: all that equal the last of them."""
    if len(found.scores) <= limit:
        return found
    return found.of(found.scores >= found.scores[limit - 1])


def rescaled(boxes: Floats, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Floats:
    """(N, 4) boxes in pixels of the same picture at another size."""
    y, x = to_hw[0] / from_hw[0], to_hw[1] / from_hw[1]
    return boxes * np.array([x, y, x, y], np.float32)


def edges(boxes: Floats, image_hw: tuple[int, int]) -> Floats:
    """(N, 4) boxes that count the last pixel in, with exclusive far edges, inside the picture."""
    height, width = image_hw
    limit = np.array([width, height, width, height], np.float32)
    return np.minimum(boxes + np.array([0, 0, 1, 1], np.float32), limit)


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # of e^100, whose inverse is zero as it should be
        return np.float32(1) / (np.float32(1) + np.exp(-x))


def _phrase_probabilities(
    logits: Floats, token_map: npt.NDArray[np.bool_], aggregate: Aggregate | None
) -> Floats:
    """(A, T') logits to (A, P)."""
    if aggregate == "max":
        return np.stack([_sigmoid(logits[:, row].max(1)) for row in token_map], 1)
    weights = token_map.astype(np.float32)
    if aggregate == "first":
        weights = np.eye(token_map.shape[1], dtype=np.float32)[token_map.argmax(1)]
    return _sigmoid(logits) @ (weights / weights.sum(1, keepdims=True)).T


def _decoded(deltas: Floats, anchors: Floats) -> Floats:
    """official: plus one, see `glip.boxes.decode_boxes`."""
    centre, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2] + 1
    centre = deltas[:, :2] / np.float32(CENTRE_WEIGHT) * size + centre
    grown = np.minimum(deltas[:, 2:] / np.float32(SIZE_WEIGHT), np.float32(MAX_LOG_SIZE))
    half = (np.exp(grown) * size - 1) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _clipped(boxes: Floats, image_hw: tuple[int, int]) -> Floats:
    height, width = image_hw
    limit = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    return np.minimum(np.maximum(boxes, 0), limit)


def _wide(boxes: Floats) -> npt.NDArray[np.float64]:
    """The same with exclusive far corners. official: plus one in every overlap."""
    return boxes.astype(np.float64) + np.array([0, 0, 1, 1])


def _nms(found: Found, labels: npt.NDArray[np.int64], threshold: float) -> npt.NDArray[np.int64]:
    """Rows that survive greedy suppression inside each label, best score first."""
    kept: list[npt.NDArray[np.int64]] = []
    boxes = _wide(found.boxes)
    order = np.argsort(-found.scores, kind="stable")
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        while len(rows):
            best, rows = rows[:1], rows[1:]
            kept.append(best)
            rows = rows[iou(boxes[best], boxes[rows])[0] <= threshold]
    survivors = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return survivors[np.argsort(-found.scores[survivors], kind="stable")]
