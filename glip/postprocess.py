"""From the model's output to detections: phrase scores, the best of each level, boxes, suppression.

One matrix product turns token probabilities into phrase scores; there is no loop over phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glip.boxes import clip_boxes, decode_boxes, iou_matrix, nms_per_label
from glip.choices import Aggregate
from glip.config import PostprocessOptions
from glip.model.head import HeadOutput


class Found(NamedTuple):
    """Detections of one picture as plain tensors, best first."""

    boxes: Tensor
    """(N, 4) float32 xyxy; the frame is that of the call that made them."""
    scores: Tensor
    """(N,) float32."""
    labels: Tensor
    """(N,) int64, row of the token map."""


def mean_weights(token_map: Tensor) -> Tensor:
    """Weights that average the tokens of each phrase, as the official code does.

    Args:
        token_map: (..., P, T) bool.
    Returns:
        (..., P, T) float32; rows sum to one, a row without tokens (padding) stays zero.
    """
    return token_map.float() / token_map.sum(dim=-1, keepdim=True).clamp(min=1)


def first_token(token_map: Tensor) -> Tensor:
    """Weights that pick the first token of each phrase.

    Args:
        token_map: (..., P, T) bool.
    Returns:
        (..., P, T) float32, one-hot; a row without tokens (padding) stays zero.
    """
    return (token_map & (token_map.cumsum(dim=-1) == 1)).float()


def phrase_probabilities(
    logits: Tensor, token_map: Tensor, aggregate: Aggregate | None = None
) -> Tensor:
    """Probability of each phrase at each region.

    Args:
        logits: (..., A, T) alignment logits.
        token_map: (P, T) bool, the tokens of each phrase, at least one each.
        aggregate: By default the mean of the tokens' probabilities, as official.
    Returns:
        (..., A, P) in [0, 1].
    """
    return _probabilities(logits, tokens_of_phrases(token_map, aggregate), aggregate)


def tokens_of_phrases(token_map: Tensor, aggregate: Aggregate | None = None) -> Tensor:
    """What a token map comes to for an aggregate; for the host, as a count of it is read.

    Args:
        token_map: (P, T) bool, the tokens of each phrase, at least one each.
        aggregate: As of `phrase_probabilities`.
    Returns:
        (P, T) float32 weights of the tokens of each phrase. For "max" (P, K) int64 instead: the
        tokens themselves, of which short phrases repeat the first.
    """
    if aggregate == "max":
        counts = token_map.sum(-1, keepdim=True)  # (P, 1)
        own_first = token_map.int().argsort(stable=True, dim=-1, descending=True)
        slot = torch.arange(int(counts.max()), device=token_map.device)
        return own_first.gather(1, torch.where(slot < counts, slot, 0))
    return first_token(token_map) if aggregate == "first" else mean_weights(token_map)


def _probabilities(logits: Tensor, tokens: Tensor, aggregate: Aggregate | None) -> Tensor:
    """(..., A, T) logits to (..., A, P), see `tokens_of_phrases`."""
    if aggregate == "max":
        return logits[..., tokens].amax(-1).sigmoid()
    return logits.sigmoid() @ tokens.mT


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
    """What goes into suppression for a batch, still on its device; see `Arriving` for the way."""

    groups: tuple[tuple[tuple[int, ...], Tensor], ...]
    """Rows of the batch that share a prompt, and (rows, N, 6) of them: box, score², label. What is
    below the floor has a negative score; all is NaN if the model's output was not finite."""

    @property
    def numbers(self) -> list[Tensor]:
        """Those of the groups, (rows, N, 6) each."""
        return [numbers for _, numbers in self.groups]

    def candidates(
        self, numbers: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]
    ) -> list[Found] | None:
        """What `select_candidates` gives for each picture; None if the output was not finite.

        Args:
            numbers: The same as the property, (rows, N, 6) each, on the host.
            sizes_hw: Of the resized pictures.
        """
        found: dict[int, Found] = {}
        for (rows, _), of_group in zip(self.groups, numbers, strict=True):
            for row, own in zip(rows, of_group, strict=True):
                if own.isnan().any():
                    return None
                boxes, ranked, labels = own[own[:, 4] >= 0].split([4, 1, 1], 1)
                boxes = clip_boxes(boxes, sizes_hw[row])
                found[row] = Found(boxes, ranked[:, 0].sqrt(), labels[:, 0].long())
        return [found[row] for row in sorted(found)]


def select_on_device(
    output: HeadOutput, tokens: Sequence[Tensor], options: PostprocessOptions
) -> Selection:
    """`select_candidates` for all pictures, with nothing read back: for a GPU.

    Args:
        output: Of a batch.
        tokens: Of each picture what `tokens_of_phrases` gives, (P, T') or (P, K), on its device; a
            shared one should be one tensor.
        options: See there.
    """
    groups: dict[int, list[int]] = {}
    for row, own_tokens in enumerate(tokens):
        groups.setdefault(id(own_tokens), []).append(row)
    finite = torch.stack([part.isfinite().all() for part in output[:3]]).all()
    selected = []
    for rows in groups.values():
        whole = len(rows) == len(tokens)
        own = output if whole else _of_rows(output, rows)
        best = _best_of_levels(own, tokens[rows[0]], options)
        numbers = torch.where(finite, best, torch.nan)
        selected.append((tuple(rows), numbers))
    return Selection(tuple(selected))


def _of_rows(output: HeadOutput, rows: Sequence[int]) -> HeadOutput:
    """The output of some pictures of a batch, without uploading which: a GPU would be waited for.

    Logits (n, A, T), deltas (n, A, 4) and centerness (n, A).
    """
    logits, deltas, centerness = (torch.stack([part[row] for row in rows]) for part in output[:3])
    return output._replace(logits=logits, deltas=deltas, centerness=centerness)


def _best_of_levels(output: HeadOutput, tokens: Tensor, options: PostprocessOptions) -> Tensor:
    """(B, N, 6) of pictures with one prompt, see `Selection`; its (P, T') or (P, K) tokens."""
    aggregate = options.aggregate
    logits = output.logits if aggregate == "max" else output.logits[..., : tokens.shape[1]]
    probability = _probabilities(logits, tokens, aggregate)  # (B, A, P)
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
    """Per-phrase non-maximum suppression of N boxes, (N, 4), and the cap on them, best first."""
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


def rescale(boxes: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """(N, 4) boxes of a picture of one size in pixels of the same picture at another size."""
    y, x = to_hw[0] / from_hw[0], to_hw[1] / from_hw[1]
    return boxes * boxes.new_tensor([x, y, x, y])
