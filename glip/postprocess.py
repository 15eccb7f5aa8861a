"""From the model's output to detections: phrase scores, the best of each level, boxes, suppression.

One matrix product turns token probabilities into phrase scores; there is no loop over phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from glip.boxes import clip_boxes, decode_boxes, iou_matrix, nms_per_label
from glip.choices import Aggregate
from glip.errors import ConfigError
from glip.model.head import HeadOutput
from glip.text.prompt import first_token, mean_weights


@dataclass(frozen=True)
class PostprocessOptions:
    """How outputs become detections; the defaults are the official test settings."""

    probability: float = 0.05
    """A phrase's probability at a region must exceed this before its centerness counts."""
    score: float = 0.0
    """Detections must score above this; 0 keeps whatever passed `probability`."""
    nms: float = 0.6
    """Of two boxes of one phrase that overlap by more than this IoU, the better one stays."""
    candidates_per_level: int = 1000
    max_detections: int = 100
    aggregate: Aggregate = "mean"
    """A phrase's probability from its tokens' probabilities."""
    exclusive: bool = False
    """Of what is left, boxes of different phrases suppress each other too: one phrase for each
    thing. Not official, where a dog may be a "dog" and an "animal"."""

    def __post_init__(self) -> None:
        for name in ("probability", "score", "nms"):
            value: object = getattr(self, name)
            shown = "threshold" if name == "score" else name  # as users of `predict` know it
            if not isinstance(value, Real) or not 0 <= float(value) <= 1:
                raise ConfigError(f"{shown} must lie between 0 and 1, got {value!r}")
        for name in ("candidates_per_level", "max_detections"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or int(value) < 1:
                raise ConfigError(f"{name} must be a whole number from 1, got {value!r}")
        if self.aggregate not in get_args(Aggregate):
            raise ConfigError(
                f"aggregate must be one of {get_args(Aggregate)}, got {self.aggregate!r}"
            )


class Found(NamedTuple):
    """Detections of one picture as plain tensors, best first."""

    boxes: Tensor
    """(N, 4) float32 xyxy; the frame is that of the call that made them."""
    scores: Tensor
    """(N,) float32."""
    labels: Tensor
    """(N,) int64, row of the token map."""


def phrase_probabilities(
    logits: Tensor, token_map: Tensor, aggregate: Aggregate = "mean"
) -> Tensor:
    """Probability of each phrase at each region.

    Args:
        logits: (..., A, T) alignment logits.
        token_map: (P, T) bool, the tokens of each phrase, at least one each.
        aggregate: official: the mean of the tokens' probabilities.
    Returns:
        (..., A, P) in [0, 1].
    """
    if aggregate == "max":
        counts = token_map.sum(-1, keepdim=True)  # (P, 1)
        tokens = token_map.int().argsort(
            stable=True, dim=-1, descending=True
        )  # its own tokens first
        slot = torch.arange(int(counts.max()), device=logits.device)
        tokens = tokens.gather(1, torch.where(slot < counts, slot, 0))  # short phrases repeat one
        return logits[..., tokens].amax(-1).sigmoid()
    weights = first_token(token_map) if aggregate == "first" else mean_weights(token_map)
    return logits.sigmoid() @ weights.mT


def select_candidates(
    output: HeadOutput,
    index: int,
    token_map: Tensor,
    image_hw: tuple[int, int],
    options: PostprocessOptions,
) -> Found:
    """What goes into suppression for one picture: level after level, best first in each.

    Args:
        output: Of a batch.
        index: Row of the picture in it.
        token_map: (P, T') bool with T' at most the output's T.
        image_hw: Height and width of the resized picture before padding; boxes are clipped to it.
        options: See there.
    Returns:
        Boxes in pixels of the resized picture. official: boxes of no extent at the border are kept.
    """
    logits = output.logits[index, :, : token_map.shape[1]]
    probability = phrase_probabilities(logits, token_map, options.aggregate)  # (A, P)
    # A score is sqrt(probability · centerness), so what is below its square cannot reach it.
    floor = max(options.probability, options.score**2)
    boxes, scores, labels = [], [], []
    start = 0
    for size in output.level_sizes:
        stop = start + size
        level = probability[start:stop]
        region, label = (level > floor).nonzero(as_tuple=True)
        centerness = output.centerness[index, start:stop].sigmoid()
        ranked = level[region, label] * centerness[region]
        best, order = ranked.topk(min(len(ranked), options.candidates_per_level))
        region = region[order] + start
        deltas, anchors = output.deltas[index, region], output.anchors[region]
        boxes.append(clip_boxes(decode_boxes(deltas, anchors), image_hw))
        scores.append(best.sqrt())
        labels.append(label[order])
        start = stop
    return Found(torch.cat(boxes), torch.cat(scores), torch.cat(labels))


class Selection(NamedTuple):
    """What goes into suppression for a batch, still on its device; `fetched` brings it here."""

    groups: tuple[tuple[tuple[int, ...], Tensor], ...]
    """Rows of the batch that share a prompt, and (rows, N, 6) of them: box, score², label. What is
    below the floor has a negative score; all is NaN if the model's output was not finite."""

    def fetched(self, sizes_hw: Sequence[tuple[int, int]]) -> list[Found] | None:
        """What `select_candidates` gives for each picture, on the CPU; None if it is not finite."""
        found: dict[int, Found] = {}
        for rows, numbers in self.groups:
            for row, own in zip(rows, numbers.cpu(), strict=True):
                if own.isnan().any():
                    return None
                boxes, ranked, labels = own[own[:, 4] >= 0].split([4, 1, 1], 1)
                boxes = clip_boxes(boxes, sizes_hw[row])
                found[row] = Found(boxes, ranked[:, 0].sqrt(), labels[:, 0].long())
        return [found[row] for row in sorted(found)]


def select_on_device(
    output: HeadOutput, token_maps: Sequence[Tensor], options: PostprocessOptions
) -> Selection:
    """`select_candidates` for all pictures, with nothing read back: for a GPU.

    Args:
        output: Of a batch.
        token_maps: (P, T') bool of each picture, on any device; a shared one should be one tensor.
        options: See there.
    """
    groups: dict[int, list[int]] = {}
    for row, token_map in enumerate(token_maps):
        groups.setdefault(id(token_map), []).append(row)
    finite = torch.stack([part.isfinite().all() for part in output[:3]]).all()
    selected = []
    for rows in groups.values():
        whole = len(rows) == len(token_maps)
        own = (
            output
            if whole
            else output._replace(
                logits=output.logits[rows],
                deltas=output.deltas[rows],
                centerness=output.centerness[rows],
            )
        )
        token_map = token_maps[rows[0]].to(output.logits.device)
        numbers = torch.where(finite, _best_of_levels(own, token_map, options), torch.nan)
        selected.append((tuple(rows), numbers))
    return Selection(tuple(selected))


def _best_of_levels(output: HeadOutput, token_map: Tensor, options: PostprocessOptions) -> Tensor:
    """(B, N, 6) of pictures with one prompt, see `Selection`."""
    logits = output.logits[..., : token_map.shape[1]]
    probability = phrase_probabilities(logits, token_map, options.aggregate)  # (B, A, P)
    phrases = probability.shape[2]
    floor = max(options.probability, options.score**2)
    ranked = probability * output.centerness.sigmoid()[..., None]
    ranked = torch.where(probability > floor, ranked, -1.0)
    scores, regions, labels = [], [], []
    start = 0
    for size in output.level_sizes:
        level = ranked[:, start : start + size].flatten(1)
        best, place = level.topk(min(level.shape[1], options.candidates_per_level))
        scores.append(best)
        regions.append(place // phrases + start)
        labels.append(place % phrases)
        start += size
    region = torch.cat(regions, 1)
    deltas = output.deltas.gather(1, region[..., None].expand(-1, -1, 4))
    boxes = decode_boxes(deltas.flatten(0, 1), output.anchors[region.flatten()])
    columns = (
        boxes.view_as(deltas),
        torch.cat(scores, 1)[..., None],
        torch.cat(labels, 1)[..., None],
    )
    return torch.cat([column.float() for column in columns], -1)


def suppress(found: Found, options: PostprocessOptions) -> Found:
    """Per-phrase non-maximum suppression and the cap on the number of detections, best first."""
    if options.score > 0:
        found = Found(*(part[found.scores > options.score] for part in found))
    kept = nms_per_label(found.boxes, found.scores, found.labels, options.nms)
    return cap(Found(*(part[kept] for part in found)), options.max_detections)


def cap(found: Found, limit: int) -> Found:
    """The `limit` best of detections that are sorted by falling score.

    official: all that equal the last of them in score stay as well.
    """
    if len(found.scores) <= limit:
        return found
    return Found(*(part[found.scores >= found.scores[limit - 1]] for part in found))


def merge(parts: Sequence[Found], limit: int) -> Found:
    """Detections of several passes over one picture, their labels already rows of the whole prompt.

    A phrase belongs to one pass only, so suppression inside each pass equals suppression over all.
    """
    boxes, scores, labels = (torch.cat(columns) for columns in zip(*parts, strict=True))
    order = scores.argsort(descending=True, stable=True)
    return cap(Found(boxes[order], scores[order], labels[order]), limit)


def without_negatives(found: Found, phrases: int, overlap: float) -> Found:
    """Detections of the phrases, less those that a negative explains better.

    Args:
        found: Labels from `phrases` on are negatives.
        phrases: How many are asked for.
        overlap: IoU above which a higher-scoring negative takes a detection's place.
    """
    wanted = found.labels < phrases
    kept, others = (Found(*(part[rows] for part in found)) for rows in (wanted, ~wanted))
    beaten = (iou_matrix(kept.boxes, others.boxes) > overlap) & (
        others.scores > kept.scores[:, None]
    )
    return Found(*(part[~beaten.any(1)] for part in kept))


def one_phrase_each(found: Found, options: PostprocessOptions) -> Found:
    """Of boxes that overlap by more than `options.nms`, whatever their phrases, the best stays."""
    kept = nms_per_label(found.boxes, found.scores, torch.zeros_like(found.labels), options.nms)
    return Found(*(part[kept] for part in found))


def relabelled(found: Found, labels: Tensor, phrases: int, options: PostprocessOptions) -> Found:
    """Detections of wordings and negatives as those of the names they stand for.

    Args:
        found: Detections of everything that was asked, uncapped, best first; far edges exclusive.
        labels: (Q,) int64, of each phrase that was asked the row of its name, from `phrases` on a
            negative.
        phrases: How many names there are.
        options: `nms` between the wordings of a name, and between names and negatives.
    """
    # Overlaps count the last pixel in, as everywhere.
    inner = Found(found.boxes - found.boxes.new_tensor([0, 0, 1, 1]), found.scores, found.labels)
    inner = inner._replace(labels=labels[found.labels])
    kept = nms_per_label(inner.boxes, inner.scores, inner.labels, options.nms)
    inner = without_negatives(Found(*(part[kept] for part in inner)), phrases, options.nms)
    if options.exclusive:
        inner = one_phrase_each(inner, options)
    inner = cap(inner, options.max_detections)
    return inner._replace(boxes=inner.boxes + inner.boxes.new_tensor([0, 0, 1, 1]))


def rescale(boxes: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """(N, 4) boxes of a picture of one size in pixels of the same picture at another size."""
    y, x = to_hw[0] / from_hw[0], to_hw[1] / from_hw[1]
    return boxes * boxes.new_tensor([x, y, x, y])
