"""The losses of GLIP (arXiv 2112.03857, Eq. 2): focal alignment, GIoU boxes, centerness.

Where a detector has class logits, GLIP has logits between regions and words, so the classification
loss is a focal loss (arXiv 1708.02002) over tokens. Boxes (arXiv 1902.09630) and centerness (arXiv
1904.01355) are as in ATSS. Everything is float32, whatever the model runs in.

Knows nothing about the model beyond its `HeadOutput`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.boxes import decode_boxes, giou
from glip.data.batch import Targets
from glip.distributed import mean_over_processes
from glip.model.head import HeadOutput
from glip.settings import within
from glip.training.assigner import assign

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0
SMALLEST_NORMALISER = 1e-6  # of the box loss, when no process has a positive anchor


def alignment_loss(logits: Tensor, targets: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Focal loss between regions and words, summed.

    official: [CLS], [SEP] and separators count as negatives of every region; only padding is left
    out, which is the caller's part. All anchors count, there is no band that is ignored.

    Args:
        logits: (..., A, T).
        targets: (..., A, T) bool.
        weights: Factors of a shape that broadcasts to that of the logits.
    Returns:
        () float32.
    """
    with torch.no_grad():
        factors = torch.where(targets, FOCAL_ALPHA, 1 - FOCAL_ALPHA) * weights
    wrong = torch.where(targets, -logits, logits).float()  # logits of the wrong answer
    return (factors * wrong.sigmoid() ** FOCAL_GAMMA * F.softplus(wrong)).sum()


def centerness_targets(boxes: Tensor, anchors: Tensor) -> Tensor:
    """How central each anchor lies in its box: 1 in the middle, towards 0 at the border.

    Args:
        boxes: (..., 4) xyxy, pixels, paired row by row; each contains the centre of its anchor.
        anchors: (..., 4) xyxy, pixels.
    Returns:
        (...) in [0, 1], the square root of min / max of the distances to opposite sides, both axes.
    """
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    near, far = centres - boxes[..., :2], boxes[..., 2:] - centres  # (..., 2) each
    return (torch.minimum(near, far) / torch.maximum(near, far)).prod(-1).sqrt()


def box_loss(deltas: Tensor, anchors: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """1 - GIoU of predicted and true boxes, weighted and summed.

    Args:
        deltas: (..., 4) predictions, see `glip.boxes.decode_boxes`.
        anchors: (..., 4) xyxy, pixels.
        boxes: (..., 4) xyxy, pixels, paired row by row.
        weights: (...).
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

    def __call__(self, output: HeadOutput, targets: Targets) -> dict[str, Tensor]:
        """Losses of one batch, weights applied.

        Every process of a distributed run has to make this call, also for a batch without boxes.
        A GPU is waited for nowhere, and a large batch launches as much as a small one.

        Args:
            output: Of B pictures.
            targets: Of the same, on the same device.
        Returns:
            "alignment", "box" and "centerness", () float32 each. Without a positive anchor the last
            two are zeros that still depend on the output, so that gradients flow on every process.
        """
        with torch.autocast(output.logits.device.type, enabled=False):
            return self._losses(output, targets)

    def _losses(self, output: HeadOutput, targets: Targets) -> dict[str, Tensor]:
        anchors = output.anchors
        positive, row = assign(targets.boxes, anchors, output.level_sizes)  # (B, A)
        picture = torch.arange(len(row), device=row.device)[:, None]
        trust = targets.trust[picture, row].where(positive, 1.0)
        alignment = alignment_loss(
            output.logits,
            targets.words[picture, row] & positive[..., None],
            trust[..., None] * targets.judged[:, None],
        )

        # A negative anchor weighs nothing. It stands for its own box, so that no sum overflows.
        weights = trust * positive
        true_boxes = targets.boxes[picture, row].where(positive[..., None], anchors)
        centerness_target = centerness_targets(true_boxes, anchors)
        # official: a box counts by how central its anchor is.
        box_weights = centerness_target * weights
        count, box_total = mean_over_processes(torch.stack([weights.sum(), box_weights.sum()]))
        count = count.clamp(min=1)

        deltas = output.deltas.where(positive[..., None], 0.0)
        box = box_loss(deltas, anchors, true_boxes, box_weights)
        centerness = F.binary_cross_entropy_with_logits(
            output.centerness.where(positive, 0.0).float(),
            centerness_target,
            weight=weights,
            reduction="sum",
        )
        return {
            "alignment": self.alignment_weight * alignment / count,
            "box": self.box_weight * box / box_total.clamp(min=SMALLEST_NORMALISER),
            "centerness": self.centerness_weight * centerness / count,
        }
