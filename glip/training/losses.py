"""The losses of GLIP (arXiv 2112.03857, Eq. 2): focal alignment, GIoU boxes, centerness.

Where a detector has class logits, GLIP has logits between regions and words, so the classification
loss is a focal loss (arXiv 1708.02002) over tokens. Boxes (arXiv 1902.09630) and centerness (arXiv
1904.01355) are as in ATSS. Everything is float32, whatever the model runs in.

Knows nothing about the model beyond its `HeadOutput`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from glip.boxes import decode_boxes, giou
from glip.data.batch import Target
from glip.distributed import mean_over_processes
from glip.model.head import HeadOutput
from glip.settings import within
from glip.training.assigner import Assignment, assign

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0
SMALLEST_NORMALISER = 1e-6  # of the box loss, when no process has a positive anchor


def token_targets(
    assignment: Assignment, target: Target, token_map: Tensor, anchors: int, tokens: int
) -> Tensor:
    """What each region's logits with the words should say: ones at the tokens of its phrase.

    Args:
        assignment: Of the picture.
        target: Its phrases are rows of the token map.
        token_map: (P, T') bool, T' at most `tokens`.
        anchors: A.
        tokens: T.
    Returns:
        (A, T) float32 of zeros and ones; all zero for negative regions. official: not divided by
        the number of a phrase's tokens, and a phrase without tokens is all zero as well.
    """
    result = torch.zeros(anchors, tokens, device=token_map.device)
    phrases = target.phrases[assignment.box_indices]
    result[assignment.anchor_indices, : token_map.shape[1]] = token_map[phrases].float()
    return result


def alignment_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Focal loss between regions and words of one picture, summed.

    official: [CLS], [SEP] and separators count as negatives of every region; only padding is left
    out, which is the caller's part. All anchors count, there is no band that is ignored.

    Args:
        logits: (A, T), real tokens only.
        targets: (A, T) of zeros and ones.
        weights: (A,) factor of each region.
    Returns:
        () float32.
    """
    each: Tensor = sigmoid_focal_loss(logits.float(), targets, alpha=FOCAL_ALPHA, gamma=FOCAL_GAMMA)
    return each.sum() if weights is None else (each.sum(-1) * weights).sum()


def _judged_words(target: Target, token_map: Tensor, text_mask: Tensor) -> Tensor:
    """(T,) True on the real tokens whose alignment can be right or wrong."""
    if target.unsure is None:
        return text_mask
    unsure = token_map[target.unsure].any(0) & ~token_map[target.phrases].any(0)
    return text_mask & ~F.pad(unsure, (0, len(text_mask) - len(unsure)))


def centerness_targets(boxes: Tensor, anchors: Tensor) -> Tensor:
    """How central each anchor lies in its box: 1 in the middle, towards 0 at the border.

    Args:
        boxes: (M, 4) xyxy, pixels, paired row by row; each contains the centre of its anchor.
        anchors: (M, 4) xyxy, pixels.
    Returns:
        (M,) in [0, 1], the square root of min / max of the distances to opposite sides, both axes.
    """
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    near, far = centres - boxes[:, :2], boxes[:, 2:] - centres  # (M, 2) each
    return (torch.minimum(near, far) / torch.maximum(near, far)).prod(-1).sqrt()


def box_loss(deltas: Tensor, anchors: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """1 - GIoU of predicted and true boxes, weighted and summed.

    Args:
        deltas: (M, 4) predictions, see `glip.boxes.decode_boxes`.
        anchors: (M, 4) xyxy, pixels.
        boxes: (M, 4) xyxy, pixels, paired row by row.
        weights: (M,).
    Returns:
        () float32.
    """
    return ((1 - giou(decode_boxes(deltas.float(), anchors), boxes)) * weights).sum()


@dataclass(frozen=True)
class Criterion:
    """From the model's output to named losses whose sum is minimised.

    Each is a sum over the batch divided by a number that belongs to the batches of all processes:
    alignment and centerness by the count of positive anchors, boxes by the sum of their centerness
    targets. The mean over processes is taken, as gradients will be averaged over them too.
    """

    alignment_weight: float = 1.0
    box_weight: float = 2.0
    """official: boxes count twice as much as words."""
    centerness_weight: float = 1.0

    def __post_init__(self) -> None:
        for weight in fields(self):
            within(f"losses: {weight.name}", getattr(self, weight.name), least=0)

    def __call__(
        self,
        output: HeadOutput,
        targets: Sequence[Target],
        token_maps: Sequence[Tensor],
        text_mask: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of one batch, weights applied.

        Every process of a distributed run has to make this call, also for a batch without boxes.

        Args:
            output: Of B pictures.
            targets: B.
            token_maps: B of (P, T') bool, T' at most the output's T.
            text_mask: (B, T) or (1, T) bool, True on real tokens.
        Returns:
            "alignment", "box" and "centerness", () float32 each. Without a positive anchor the last
            two are zeros that still depend on the output, so that gradients flow on every process.
        """
        with torch.autocast(output.logits.device.type, enabled=False):
            return self._losses(output, targets, token_maps, text_mask)

    def _losses(
        self,
        output: HeadOutput,
        targets: Sequence[Target],
        token_maps: Sequence[Tensor],
        text_mask: Tensor,
    ) -> dict[str, Tensor]:
        anchors = output.anchors
        text_mask = text_mask.expand(len(targets), -1)
        alignment = output.logits.new_zeros((), dtype=torch.float32)
        pictures, regions, boxes, trusts = [], [], [], []
        for index, (target, token_map) in enumerate(zip(targets, token_maps, strict=True)):
            assignment = assign(target.boxes, anchors, output.level_sizes)
            region, box = assignment
            trust = anchors.new_ones(len(region))
            if target.weights is not None:
                trust = target.weights[box]
            logits = output.logits[index]  # (A, T)
            wanted = token_targets(assignment, target, token_map, *logits.shape)
            words = _judged_words(target, token_map, text_mask[index]).nonzero()[:, 0]
            weights = None
            if target.weights is not None:
                weights = anchors.new_ones(len(anchors)).index_copy(0, region, trust)
            alignment = alignment + alignment_loss(logits[:, words], wanted[:, words], weights)
            pictures.append(torch.full_like(region, index))
            regions.append(region)
            boxes.append(target.boxes[box])
            trusts.append(trust)

        # All positives of the batch in one row.
        picture, region = torch.cat(pictures), torch.cat(regions)
        true_boxes, trust, positive_anchors = torch.cat(boxes), torch.cat(trusts), anchors[region]
        centerness_target = centerness_targets(true_boxes, positive_anchors)
        # official: a box counts by how central its anchor is.
        box_weights = centerness_target * trust
        count, box_total = mean_over_processes(torch.stack([trust.sum(), box_weights.sum()]))
        count = count.clamp(min=1)

        box = box_loss(output.deltas[picture, region], positive_anchors, true_boxes, box_weights)
        centerness = F.binary_cross_entropy_with_logits(
            output.centerness[picture, region].float(),
            centerness_target,
            weight=trust,
            reduction="sum",
        )
        return {
            "alignment": self.alignment_weight * alignment / count,
            "box": self.box_weight * box / box_total.clamp(min=SMALLEST_NORMALISER),
            "centerness": self.centerness_weight * centerness / count,
        }
